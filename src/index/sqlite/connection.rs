//! Opening the database, its settings, and resetting a damaged one. All of it is done within `sql::in_sqlite`.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi};

use crate::error::{Error, Result};
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::rows;
use crate::index::sqlite::schema::{self, SCHEMA_VERSION};
use crate::index::sqlite::sql::{SqlResult, index_error, is_damage};
use crate::index::sqlite::vfs;
use crate::log::Log;

/// Without `SQLITE_OPEN_URI`, so that a path is a path. `Database` has the mutex.
pub(super) const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW).union(OpenFlags::SQLITE_OPEN_EXRESCODE);

/// Opens the database, and creates a missing one. A damaged one is emptied; the caller rebuilds it. `is_only_handle`: no other handle
/// is open. A database that SQLite may not write is a system error. One that another program has locked is not waited for
/// ([`Error::is_index_locked`]).
pub(super) fn open(files: &IndexFiles, log: &Log, is_only_handle: bool) -> Result<Connection> {
    let path = files.path();
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let mut connection = connect(files)?;
    let mut prepared = set_up(&mut connection, Some(files), log);
    if prepared.as_ref().is_err_and(is_damage) {
        // A transient read error looks the same. Hits and digests are worth a second attempt.
        drop(connection);
        connection = connect(files)?;
        prepared = set_up(&mut connection, Some(files), log);
    }
    // The file's header can declare it read-only, which is damage as well.
    let is_read_only = connection.is_readonly(MAIN_DB).map_err(failed)?;
    let defect = match prepared {
        Ok(_) if is_read_only => "its header declares it read-only".to_owned(),
        Ok(true) => return in_utf8(not_newer(connection, path)?, files, log),
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
        set_up(&mut connection, Some(files), log).map_err(failed)?;
    }
    // The damage may have been in the encoding.
    in_utf8(not_newer(connection, path)?, files, log)
}

/// The database with its texts in UTF-8. With UTF-16, which another program may have chosen, SQLite has another order of ids than the
/// directory. Its rows are kept.
fn in_utf8(mut connection: Connection, files: &IndexFiles, log: &Log) -> Result<Connection> {
    let path = files.path();
    let failed = |error: rusqlite::Error| index_error("convert to UTF-8 the index", path, &error);
    let encoding = |connection: &Connection| connection.query_row("PRAGMA encoding", [], |row| row.get::<_, String>(0));
    let former = encoding(&connection).map_err(failed)?;
    if former == "UTF-8" {
        return Ok(connection);
    }
    log.info(|| format!("the index '{}' is in {former}; it is converted to UTF-8", path.display()));
    let kept = rows::select(&connection).map_err(failed)?;
    // Only a database that is empty when it is opened can get another encoding.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;").and_then(|()| empty(&connection)).map_err(failed)?;
    drop(connection);
    connection = connect(files)?;
    set_up(&mut connection, Some(files), log).map_err(failed)?;
    let entered = connection.transaction().and_then(|transaction| {
        rows::insert(&transaction, kept)?;
        transaction.commit()
    });
    entered.map(|()| connection).map_err(failed)
}

fn connect(files: &IndexFiles) -> Result<Connection> {
    let path = files.path();
    let failed = |error: rusqlite::Error| index_error("open the index", path, &error);
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = open_path(files.path_for_sqlite(), flags).map_err(failed)?;
    // SQLite falls back to reading where it may not write.
    if connection.is_readonly(MAIN_DB).map_err(failed)? {
        return Err(Error::not_writable("open for writing", path, files.may_write()?));
    }
    Ok(connection)
}

/// Opens a database through our file layer. Its statements do not wait for other programs.
pub(super) fn open_path(path: impl AsRef<Path>, flags: OpenFlags) -> SqlResult<Connection> {
    if !vfs::register() {
        return Err(failure(ffi::SQLITE_NOMEM));
    }
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs::NAME)?;
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

fn failure(code: std::ffi::c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
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
    if !vfs::prepare() {
        return Err(failed(failure(ffi::SQLITE_NOMEM)));
    }
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    set_up(&mut connection, None, log).map_err(failed)?;
    Ok(connection)
}

/// Repairs the schema, which another program may have changed. True when that was necessary.
pub(super) fn repair(connection: &mut Connection, log: &Log) -> SqlResult<bool> {
    if let Some(was_repaired) = schema::repair(connection, log)? {
        return Ok(was_repaired);
    }
    log.warning(|| format!("the index is damaged ({OTHER_TABLES}); it is emptied"));
    reset(connection, log).map(|()| true)
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
                "ok" => Ok(schema::repair(connection, log)?.is_none().then(|| OTHER_TABLES.to_owned())),
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
/// other tables. `files`: those of the database, unless it is in memory or was set up before.
fn set_up(connection: &mut Connection, files: Option<&IndexFiles>, log: &Log) -> SqlResult<bool> {
    connection.set_prepared_statement_cache_capacity(64);
    // Another program may have written the schema.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // No mapping: an I/O error on one kills the host. No temporary files outside of the cache.
    connection.execute_batch("PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")?;
    let version = match schema::version(connection) {
        // Our file layer has no shared memory, so a database in WAL mode cannot be opened like this. In its exclusive mode, SQLite
        // keeps the log's index in its heap. It is locked then, which fails while another program has the database open.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
            connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;")?;
            schema::version(connection)
        }
        version => version,
    }?;
    if version > SCHEMA_VERSION {
        return Ok(true);
    }
    // A power cut may leave anything, which the next open detects. The journal stays when a transaction ends: creating and removing
    // it would change the directory's names. A write-ahead log is merged and removed by this.
    connection.execute_batch("PRAGMA synchronous = OFF;")?;
    let mode = connection.query_row("PRAGMA journal_mode = PERSIST", [], |row| row.get::<_, String>(0))?;
    if mode == "wal" {
        return Err(failure(ffi::SQLITE_BUSY));
    }
    // While the lock is held, nobody else can have the shared memory open.
    if let Some(files) = files
        && connection.query_row("PRAGMA locking_mode", [], |row| row.get::<_, String>(0))? == "exclusive"
    {
        let _ = files.remove_shared_memory();
    }
    // The next statement releases the lock.
    connection.execute_batch("PRAGMA locking_mode = NORMAL;")?;
    let is_ours = schema::repair(connection, log)?.is_some();
    if let Some(files) = files
        && is_ours
    {
        keep_journal(connection, files)?;
    }
    Ok(is_ours)
}

/// Creates the journal that stays, and shrinks one that a rebuild left large.
///
/// There is no limit on its size while the index is in use: SQLite would look at the size after it has committed, and if that fails,
/// report a transaction as failed that was not.
fn keep_journal(connection: &Connection, files: &IndexFiles) -> SqlResult<()> {
    const MAX_SIZE: u32 = 1 << 20;
    let size = files.stat("-journal").ok().flatten().map(|journal| journal.size);
    if size.is_some_and(|size| size <= MAX_SIZE.into()) {
        return Ok(());
    }
    shrink_journal(connection, MAX_SIZE)
}

/// Empties the journal, before the last handle closes. Glance counts each file but its database as an image's bytes, and evicts images
/// for them. The journal's name stays, so this changes no stamp.
pub(super) fn empty_journal(connection: &Connection, files: &IndexFiles) -> SqlResult<()> {
    if files.stat("-journal").ok().flatten().is_none_or(|journal| journal.size == 0) {
        return Ok(());
    }
    shrink_journal(connection, 0)
}

/// Makes a transaction after which SQLite truncates the journal to so many bytes.
fn shrink_journal(connection: &Connection, max_size: u32) -> SqlResult<()> {
    connection.pragma_update(None, "journal_size_limit", max_size)?;
    // Any transaction will do.
    let written = connection.pragma_update(None, "user_version", schema::version(connection)?);
    connection.pragma_update(None, "journal_size_limit", -1)?;
    written
}

const OTHER_TABLES: &str = "it has other tables than its own";

/// Empties the database in place. It must not be removed or replaced: another process may have it open.
pub(super) fn reset(connection: &mut Connection, log: &Log) -> SqlResult<()> {
    connection.flush_prepared_statement_cache();
    // A damaged header may declare WAL mode, which works in the exclusive mode only. `set_up` ends it.
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;")?;
    let emptied = empty(connection).and_then(|()| set_up(connection, None, log));
    if emptied.is_err() {
        let _ = connection.execute_batch("PRAGMA locking_mode = NORMAL; PRAGMA user_version;");
    }
    emptied.map(drop)
}

fn empty(connection: &Connection) -> SqlResult<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, true)?;
    let emptied = connection.execute_batch("VACUUM");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_RESET_DATABASE, false)?;
    emptied
}
