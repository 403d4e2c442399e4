//! Opening the database: its settings, its schema, and what to do with one that is damaged.

use std::ffi::OsStr;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::core::log::Log;
use crate::core::options::DEFAULT_DATABASE;
use crate::driver::sqlite::{PATIENT, SqlResult, index_error};
use crate::error::{Error, Result};

/// The schema's version, in the database's `user_version`. Glance leaves that at 0.
const SCHEMA_VERSION: i64 = 1;

/// Glance's table comes first, by its names. The rest is ours. Triggers keep the totals right
/// whoever writes the table, and take the seal away, which our own transactions put back: rows that another program adds or
/// removes are looked at again.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cached_images (
        image_id TEXT PRIMARY KEY,
        last_accessed REAL DEFAULT 0.0,
        last_modified REAL DEFAULT 0.0,
        size INTEGER DEFAULT 0,
        hits INTEGER DEFAULT 0,
        checksum TEXT
    );
    CREATE INDEX IF NOT EXISTS image_cache_by_use ON cached_images (ifnull(last_accessed, 0), image_id);
    -- One row: the totals, and the modification time of the directory that the rows agree with.
    CREATE TABLE IF NOT EXISTS image_cache_state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        images INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        seal INTEGER
    );
    INSERT OR IGNORE INTO image_cache_state (id, images, bytes)
        SELECT 1, count(*), CAST(total(size) AS INTEGER) FROM cached_images;
    CREATE TRIGGER IF NOT EXISTS image_cache_inserted AFTER INSERT ON cached_images BEGIN
        UPDATE image_cache_state SET images = images + 1, bytes = bytes + ifnull(NEW.size, 0), seal = NULL;
    END;
    CREATE TRIGGER IF NOT EXISTS image_cache_deleted AFTER DELETE ON cached_images BEGIN
        UPDATE image_cache_state SET images = images - 1, bytes = bytes - ifnull(OLD.size, 0), seal = NULL;
    END;
    CREATE TRIGGER IF NOT EXISTS image_cache_resized AFTER UPDATE OF size ON cached_images BEGIN
        UPDATE image_cache_state SET bytes = bytes + ifnull(NEW.size, 0) - ifnull(OLD.size, 0), seal = NULL;
    END;
    PRAGMA user_version = 1;
";

/// Opens the database, creating it when there is none. One that is damaged is emptied, to be rebuilt.
pub(super) fn open(path: &Path, log: &Log) -> Result<Connection> {
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let mut connection = connect(path).map_err(failed)?;
    let mut outcome = set_up(&mut connection);
    if outcome.as_ref().is_err_and(is_damage) {
        // SQLite says the same of a file that could not be read this once. Hits and digests are worth a second look.
        drop(connection);
        connection = connect(path).map_err(failed)?;
        outcome = set_up(&mut connection);
    }
    match outcome {
        Err(error) if is_damage(&error) && is_ours(path, &error) => {
            log.warning(|| format!("the index '{}' is damaged ({error}); it is rebuilt", path.display()));
            reset(&mut connection).map_err(failed)?;
        }
        outcome => outcome.map_err(failed)?,
    }
    let version = schema_version(&connection).map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(Error::Unsupported(format!(
            "the index '{}' has version {version}, made by a newer version of this library; this one knows {SCHEMA_VERSION}",
            path.display()
        )));
    }
    Ok(connection)
}

fn connect(path: &Path) -> SqlResult<Connection> {
    // Without SQLITE_OPEN_URI: the path is a path. The connection is behind a mutex of ours.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENT)?;
    Ok(connection)
}

/// Whether the failure is the database's own, so that it can only be rebuilt: it is damaged, its tables are not
/// the ones that our statements are for (SQLite's error without a name), or its one row of state is gone.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown))
        || matches!(error, rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::SqlInputError { .. })
}

/// An index that lives as long as its connection.
pub(super) fn open_in_memory(path: &Path) -> Result<Connection> {
    let failed = |error: rusqlite::Error| index_error("open, in memory, the index", path, &error);
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    set_up(&mut connection).map_err(failed)?;
    Ok(connection)
}

/// Empties the database, if it has a defect, so that it can be rebuilt.
pub(super) fn reset_if_damaged(connection: &mut Connection, log: &Log) -> SqlResult<()> {
    // A page that could not be read this once looks like one that is damaged.
    if find_defect(connection)?.is_none() {
        return Ok(());
    }
    let Some(defect) = find_defect(connection)? else { return Ok(()) };
    log.warning(|| format!("the index is damaged ({defect}); it is rebuilt"));
    reset(connection)
}

fn find_defect(connection: &Connection) -> SqlResult<Option<String>> {
    match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => Ok(None),
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether a file that SQLite cannot read is an index all the same. One of the default name is: no image can have it. One of
/// another name may be an image, or any file, that was named by mistake, if it does not even begin as a database.
fn is_ours(path: &Path, damage: &rusqlite::Error) -> bool {
    path.file_name() == Some(OsStr::new(DEFAULT_DATABASE))
        || damage.sqlite_error_code() != Some(ErrorCode::NotADatabase)
}

/// The settings of a connection, and the schema, unless the database is newer than this library: that is left untouched.
fn set_up(connection: &mut Connection) -> SqlResult<()> {
    connection.set_prepared_statement_cache_capacity(64);
    // What another program put into the schema is not to be trusted.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // No mapping: an input/output error on one is a signal to the host. No temporary files outside of the cache.
    connection.execute_batch("PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")?;
    if schema_version(connection)? > SCHEMA_VERSION {
        return Ok(());
    }
    // A write-ahead log spares a sync per transaction; the last transactions before a power cut may be lost, which the
    // next open finds by the directory's seal. Where it cannot be had, SQLite keeps its rollback journal, and says so.
    let mode = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    if mode == "delete" {
        // A journal that comes and goes would change the directory's time.
        connection.query_row("PRAGMA journal_mode = TRUNCATE", [], |row| row.get::<_, String>(0))?;
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL;")?;
    if schema_version(connection)? < SCHEMA_VERSION {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        transaction.commit()?;
    }
    // Of a database that says so, see whether it has the tables.
    for statement in ["SELECT image_id, last_accessed, last_modified, size, hits, checksum FROM cached_images", STATE] {
        connection.prepare(statement)?;
    }
    Ok(())
}

const STATE: &str = "SELECT id, images, bytes, seal FROM image_cache_state";

fn schema_version(connection: &Connection) -> SqlResult<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Empties the database in place: it must not be removed or replaced, since another process may have it open.
fn reset(connection: &mut Connection) -> SqlResult<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
    let emptied = connection.execute_batch("VACUUM");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
    emptied?;
    set_up(connection)
}
