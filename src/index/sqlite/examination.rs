//! Checking the whole database, and counting its rows, without the cache lock: for a large one this takes seconds.
//!
//! The file is read without SQLite's locks, so that no writer waits. What was found is valid for one version of the file: no
//! transaction is half written, and its status, and its header with the change counter, are the same before, afterwards, and under
//! the cache lock. (A transaction writes the header of its journal first, then the first page with the counter, then the other
//! pages. The journal's header is cleared last.) If others write all the time, the caller checks under the lock.
//!
//! A database in WAL mode is read if its log is empty. The log itself is not read: SQLite would map shared memory for it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::Result;
use crate::index::driver::{Defect, Examined, Totals};
use crate::index::sqlite::connection;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::rows::number;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, index_error, is_damage};
use crate::index::sqlite::vfs;

/// Examines the file. `must_check`: also for damage. `None` when it changes meanwhile, or cannot be read.
pub(super) fn examine(files: &IndexFiles, must_check: bool) -> Result<Option<Examined>> {
    const OPERATION: &str = "check the index";
    let failed = |error: rusqlite::Error| index_error(OPERATION, files.path(), &error);
    in_sqlite(OPERATION, files.path(), || {
        // A fifo that has the database's name by now would be waited for.
        files.check_are_regular()?;
        if files.is_unfinished()? {
            return Ok(None);
        }
        let flags = connection::FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let opened = connection::open_path(immutable(&files.path_for_sqlite()), flags).map_err(failed)?;
        // Another program may have written the schema.
        opened.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(failed)?;
        let Some(before) = version(files, &opened)? else { return Ok(None) };
        let defect = if must_check { find_defect(&opened).map_err(failed)? } else { None };
        let totals = count(&opened).ok();
        let is_same = !files.is_unfinished()? && version(files, &opened)? == Some(before);
        Ok(is_same.then_some(Examined { version: before, is_checked: must_check, defect, totals }))
    })
}

/// Identifies what the file contains. `None` when its header cannot be read.
pub(super) fn version(files: &IndexFiles, connection: &Connection) -> Result<Option<u64>> {
    let Some(header) = vfs::header(connection) else { return Ok(None) };
    let Some(stat) = files.stat("")? else { return Ok(None) };
    let mut hasher = DefaultHasher::new();
    (header, stat.id, stat.size, stat.modified, stat.changed).hash(&mut hasher);
    Ok(Some(hasher.finish()))
}

fn find_defect(connection: &Connection) -> SqlResult<Option<Defect>> {
    // The check of rows against the table's indexes includes that of pages.
    let Some(_) = check(connection, "integrity_check")? else { return Ok(None) };
    // A transient read error looks like a damaged page.
    let Some(defect) = check(connection, "integrity_check")? else { return Ok(None) };
    Ok(Some(match check(connection, "quick_check")? {
        Some(defect) => Defect::Pages(defect),
        None => Defect::TableIndexes(defect),
    }))
}

fn check(connection: &Connection, check: &str) -> SqlResult<Option<String>> {
    // What was read before may be in the cache.
    connection.release_memory()?;
    match connection.query_row(&format!("PRAGMA {check}(1)"), [], |row| row.get::<_, String>(0)) {
        Ok(answer) => Ok((answer != "ok").then_some(answer)),
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Fails when the sum exceeds an integer of SQLite.
fn count(connection: &Connection) -> SqlResult<Totals> {
    connection.query_row("SELECT count(*), ifnull(sum(size), 0) FROM cached_images", [], |row| {
        Ok(Totals { images: number(row, 0)?, bytes: u128::from(number(row, 1)?) })
    })
}

/// The URI of an immutable file: SQLite takes no lock on it, and reads neither a journal nor a log.
fn immutable(path: &Path) -> String {
    let escaped = path.as_os_str().as_bytes().iter().map(|byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        byte => format!("%{byte:02x}"),
    });
    format!("file:{}?immutable=1", escaped.collect::<String>())
}
