//! Opening the database: its settings, and what to do with one that is damaged.

use std::ffi::OsStr;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};
use rustix::io::Errno;

use crate::core::layout::Layout;
use crate::core::log::Log;
use crate::core::options::DEFAULT_DATABASE;
use crate::driver::sqlite::schema::{self, SCHEMA_VERSION};
use crate::driver::sqlite::{PATIENT, SqlResult, index_error};
use crate::error::{Error, Result};

/// Without `SQLITE_OPEN_URI`: the path is a path. The connection is behind a mutex of ours.
pub(super) const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW).union(OpenFlags::SQLITE_OPEN_EXRESCODE);

/// Opens the database, creating it when there is none. One that is damaged is emptied, to be rebuilt; `alone` when no other
/// handle lives. Where SQLite may not write it, that is a system error.
pub(super) fn open(layout: &Layout, log: &Log, alone: bool) -> Result<Connection> {
    let path = layout.database();
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let mut connection = connect(layout)?;
    let mut prepared = set_up(&mut connection, log);
    if prepared.as_ref().is_err_and(is_damage) {
        // SQLite says the same of a file that could not be read this once. Hits and digests are worth a second look.
        drop(connection);
        connection = connect(layout)?;
        prepared = set_up(&mut connection, log);
    }
    // The file's own header can say that it is not to be written: that is damage as well.
    let is_closed = connection.is_readonly(MAIN_DB).map_err(failed)?;
    let defect = match prepared {
        Ok(_) if is_closed => "its header forbids to write it".to_owned(),
        Ok(true) => return not_newer(connection, path),
        Ok(false) => OTHER_TABLES.to_owned(),
        Err(error) if (is_closed || is_damage(&error)) && is_ours(path, &error) => error.to_string(),
        Err(error) => return Err(failed(error)),
    };
    log.warning(|| format!("the index '{}' is damaged ({defect}); it is rebuilt", path.display()));
    if let Err(error) = reset(&mut connection, log) {
        // A header can be so wrong that SQLite does not even empty the file. Nobody else has it open, or the error stands.
        if !alone || !(is_damage(&error) || error.sqlite_error_code() == Some(ErrorCode::ReadOnly)) {
            return Err(failed(error));
        }
        drop(connection);
        layout.empty_index_files()?;
        connection = connect(layout)?;
        set_up(&mut connection, log).map_err(failed)?;
    }
    not_newer(connection, path)
}

fn connect(layout: &Layout) -> Result<Connection> {
    let path = layout.database();
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    // SQLite is content with reading where it may not write.
    if connection.is_readonly(MAIN_DB).map_err(failed)? {
        let errno = if layout.may_write_index()? { Errno::ROFS } else { Errno::ACCESS };
        return Err(Error::system("open for writing", path, errno));
    }
    connection.busy_timeout(PATIENT).map_err(failed)?;
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

/// Whether the failure is the database's own, so that it can only be rebuilt: it is damaged, or its tables or rows are not
/// what our statements are for. Everything is, but for what the system and other programs' locks are to blame for.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(code) => !matches!(
            code,
            Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::OutOfMemory
                | Code::ReadOnly
                | Code::SystemIoFailure
                | Code::DiskFull
                | Code::CannotOpen
                | Code::PermissionDenied
                | Code::FileLockingProtocolFailed
        ),
        None => !matches!(error, rusqlite::Error::InvalidQuery),
    }
}

/// An index that lives as long as its connection.
pub(super) fn open_in_memory(path: &Path, log: &Log) -> Result<Connection> {
    let failed = |error: rusqlite::Error| index_error("open, in memory, the index", path, &error);
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    set_up(&mut connection, log).map_err(failed)?;
    Ok(connection)
}

/// Empties the database, if it has a defect, so that it can be rebuilt.
pub(super) fn reset_if_damaged(connection: &mut Connection, log: &Log) -> SqlResult<()> {
    // A page that could not be read this once looks like one that is damaged.
    if find_defect(connection, log)?.is_none() {
        return Ok(());
    }
    let Some(defect) = find_defect(connection, log)? else { return Ok(()) };
    log.warning(|| format!("the index is damaged ({defect}); it is rebuilt"));
    reset(connection, log)
}

/// What is wrong with the database, if something is. What in its schema can be put right, is.
fn find_defect(connection: &mut Connection, log: &Log) -> SqlResult<Option<String>> {
    let checked =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).and_then(
            |answer| match answer.as_str() {
                "ok" => Ok((!schema::put_right(connection, log)?).then(|| OTHER_TABLES.to_owned())),
                _ => Ok(Some(answer)),
            },
        );
    match checked {
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        checked => checked,
    }
}

/// Whether a file that SQLite cannot read is an index all the same. One of the default name is: no image can have it. One of
/// another name may be an image, or any file, that was named by mistake, if it does not even begin as a database.
fn is_ours(path: &Path, damage: &rusqlite::Error) -> bool {
    path.file_name() == Some(OsStr::new(DEFAULT_DATABASE))
        || damage.sqlite_error_code() != Some(ErrorCode::NotADatabase)
}

/// The settings of a connection, and the schema, unless the database is newer than this library: that is left untouched. False
/// when it has other tables.
fn set_up(connection: &mut Connection, log: &Log) -> SqlResult<bool> {
    connection.set_prepared_statement_cache_capacity(64);
    // What another program put into the schema is not to be trusted.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // No mapping: an input/output error on one is a signal to the host. No temporary files outside of the cache.
    connection.execute_batch("PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")?;
    if schema::version(connection)? > SCHEMA_VERSION {
        return Ok(true);
    }
    // A write-ahead log spares a sync per transaction; the last transactions before a power cut may be lost, which the
    // next open finds by the directory's seal. Where it cannot be had, SQLite keeps its rollback journal, and says so.
    let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    if mode == "delete" {
        // A journal that comes and goes would change the directory's time.
        connection.query_row("PRAGMA journal_mode = TRUNCATE", [], |row| row.get::<_, String>(0))?;
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
    schema::put_right(connection, log)
}

const OTHER_TABLES: &str = "it has other tables than its own";

/// Empties the database in place: it must not be removed or replaced, since another process may have it open.
pub(super) fn reset(connection: &mut Connection, log: &Log) -> SqlResult<()> {
    connection.flush_prepared_statement_cache();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
    let emptied = connection.execute_batch("VACUUM");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
    emptied?;
    set_up(connection, log).map(drop)
}
