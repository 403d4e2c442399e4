//! Opening the database, its settings, and resetting a damaged one.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use crate::error::{Error, Result};
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::schema::{self, SCHEMA_VERSION};
use crate::index::sqlite::sql::{LONG_WAIT, SqlResult, index_error, is_damage};
use crate::log::Log;

/// Without `SQLITE_OPEN_URI`, so that a path is a path. `Database` has the mutex.
pub(super) const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW).union(OpenFlags::SQLITE_OPEN_EXRESCODE);

/// Opens the database, and creates a missing one. A damaged one is emptied; the caller rebuilds it. `is_only_handle`: no other handle
/// is open. A database that SQLite may not write is a system error.
pub(super) fn open(files: &IndexFiles, log: &Log, is_only_handle: bool) -> Result<Connection> {
    let path = files.path();
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let mut connection = connect(files)?;
    let mut prepared = set_up(&mut connection, log);
    if prepared.as_ref().is_err_and(is_damage) {
        // A transient read error looks the same. Hits and digests are worth a second attempt.
        drop(connection);
        connection = connect(files)?;
        prepared = set_up(&mut connection, log);
    }
    // The file's header can declare it read-only, which is damage as well.
    let is_read_only = connection.is_readonly(MAIN_DB).map_err(failed)?;
    let defect = match prepared {
        Ok(_) if is_read_only => "its header declares it read-only".to_owned(),
        Ok(true) => return not_newer(connection, path),
        Ok(false) => OTHER_TABLES.to_owned(),
        Err(error) if (is_read_only || is_damage(&error)) && is_ours(files, &error) => error.to_string(),
        Err(error) => return Err(failed(error)),
    };
    log.warning(|| format!("the index '{}' is damaged ({defect}); it is rebuilt", path.display()));
    if let Err(error) = reset(&mut connection, log) {
        // SQLite refuses to empty a file with a certain kind of damaged header. If no other handle has it open, it is truncated.
        if !is_only_handle || !(is_damage(&error) || error.sqlite_error_code() == Some(ErrorCode::ReadOnly)) {
            return Err(failed(error));
        }
        drop(connection);
        files.truncate()?;
        connection = connect(files)?;
        set_up(&mut connection, log).map_err(failed)?;
    }
    not_newer(connection, path)
}

fn connect(files: &IndexFiles) -> Result<Connection> {
    let path = files.path();
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // SQLite falls back to reading where it may not write.
    if connection.is_readonly(MAIN_DB).map_err(failed)? {
        return Err(Error::not_writable("open for writing", path, files.may_write()?));
    }
    connection.busy_timeout(LONG_WAIT).map_err(failed)?;
    Ok(connection)
}

/// Refuses a database of a newer version.
pub(super) fn not_newer(connection: Connection, path: &Path) -> Result<Connection> {
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let version = schema::version(&connection).map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(Error::Unsupported(format!(
            "the index '{}' has version {version}, made by a newer version of this library; this one knows {SCHEMA_VERSION}",
            path.display()
        )));
    }
    Ok(connection)
}

/// Opens an index in memory, which lives as long as its connection.
pub(super) fn open_in_memory(path: &Path, log: &Log) -> Result<Connection> {
    let failed = |error: rusqlite::Error| index_error("open, in memory, the index", path, &error);
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    set_up(&mut connection, log).map_err(failed)?;
    Ok(connection)
}

/// Empties the database if it has a defect.
pub(super) fn reset_if_damaged(connection: &mut Connection, log: &Log) -> SqlResult<()> {
    // A transient read error looks like a damaged page.
    if find_defect(connection, log)?.is_none() {
        return Ok(());
    }
    let Some(defect) = find_defect(connection, log)? else { return Ok(()) };
    log.warning(|| format!("the index is damaged ({defect}); it is rebuilt"));
    reset(connection, log)
}

/// The defect of the database, if it has one. Repairs what can be repaired in its schema.
fn find_defect(connection: &mut Connection, log: &Log) -> SqlResult<Option<String>> {
    let checked =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).and_then(
            |answer| match answer.as_str() {
                "ok" => Ok((!schema::repair(connection, log)?).then(|| OTHER_TABLES.to_owned())),
                _ => Ok(Some(answer)),
            },
        );
    match checked {
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        checked => checked,
    }
}

/// Whether a file that SQLite cannot read is an index all the same. A file with the default name is: no image can have it. With
/// another name, a file that does not begin as a database may be an image that was named by mistake.
fn is_ours(files: &IndexFiles, damage: &rusqlite::Error) -> bool {
    files.is_default() || damage.sqlite_error_code() != Some(ErrorCode::NotADatabase)
}

/// Applies the settings, and creates or repairs the schema. A database of a newer version is left untouched. False when it has
/// other tables.
fn set_up(connection: &mut Connection, log: &Log) -> SqlResult<bool> {
    connection.set_prepared_statement_cache_capacity(64);
    // Another program may have written the schema.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // No mapping: an I/O error on one kills the host. No temporary files outside of the cache.
    connection.execute_batch("PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")?;
    if schema::version(connection)? > SCHEMA_VERSION {
        return Ok(true);
    }
    // A write-ahead log saves a sync per transaction. A power cut may lose the last transactions, which the next open detects by
    // the stamp. Where the log is not available, SQLite keeps its rollback journal, and returns its mode.
    let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    if mode == "delete" {
        // Creating and removing a journal would change the directory's mtime.
        connection.query_row("PRAGMA journal_mode = TRUNCATE", [], |row| row.get::<_, String>(0))?;
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
    schema::repair(connection, log)
}

const OTHER_TABLES: &str = "it has other tables than its own";

/// Empties the database in place. It must not be removed or replaced: another process may have it open.
pub(super) fn reset(connection: &mut Connection, log: &Log) -> SqlResult<()> {
    connection.flush_prepared_statement_cache();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
    let emptied = connection.execute_batch("VACUUM");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
    emptied?;
    set_up(connection, log).map(drop)
}
