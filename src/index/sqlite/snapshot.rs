//! An index that may not be written, on a read-only file system or without the permission. Its rows are copied to memory, where
//! the directory is entered as well.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, params_from_iter};

use crate::error::{Error, Result};
use crate::index::sqlite::connection;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::sql::{SqlResult, index_error};
use crate::log::{Log, LogOnce};
use crate::store::layout::Layout;

/// The hits, order of access and digests in the file.
pub(super) struct Snapshot {
    files: IndexFiles,
    log: Log,
    unreadable: LogOnce,
}

impl Snapshot {
    /// Fails only for an index of a newer version. An unreadable one yields no rows.
    pub fn new(layout: &Arc<Layout>, database: &OsStr, log: &Log) -> Result<Self> {
        let files = IndexFiles::new(layout, database);
        let snapshot = Self { files, log: log.clone(), unreadable: LogOnce::default() };
        match snapshot.open() {
            Err(error @ Error::Unsupported(_)) => Err(error),
            _ => Ok(snapshot),
        }
    }

    /// Replaces all rows by those of the file.
    pub fn copy_to(&self, transaction: &Transaction<'_>) -> SqlResult<()> {
        transaction.execute("DELETE FROM cached_images", [])?;
        let rows = self.open().and_then(|connection| self.rows(&connection));
        let readable = rows.as_ref().map(drop).map_err(Error::clone);
        self.unreadable.note(readable, &self.log, |error| format!("{error}; its hits and digests are unknown"));
        let Ok(rows) = rows else { return Ok(()) };
        let mut insert = transaction.prepare(
            "INSERT OR REPLACE INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        rows.into_iter().try_for_each(|row| insert.execute(params_from_iter(row)).map(drop))
    }

    fn rows(&self, connection: &Connection) -> Result<Vec<[Value; 6]>> {
        let rows = || {
            let mut select = connection.prepare(
                "SELECT image_id, last_accessed, last_modified, size, hits, checksum FROM cached_images
                 WHERE typeof(image_id) = 'text'",
            )?;
            let rows = select.query_map([], |row| {
                // Text that is not UTF-8 becomes NULL.
                let value = |column| row.get::<_, Value>(column).unwrap_or(Value::Null);
                Ok(std::array::from_fn(value))
            })?;
            rows.collect::<SqlResult<Vec<_>>>()
        };
        rows().map_err(|error| index_error("read the index", self.files.path(), &error))
    }

    /// Opens the file without writing to it, or to the directory.
    fn open(&self) -> Result<Connection> {
        let path = self.files.path();
        let flags = connection::FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY;
        // A closed cache has no log. To read it, SQLite would create an empty one and its shared memory, unless the file is declared
        // immutable. The cache lock keeps our own processes from writing meanwhile.
        let opened = if self.files.has_journal()? {
            Connection::open_with_flags(path, flags)
        } else {
            Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)
        };
        let opened = opened.map_err(|error| index_error("open the index", path, &error))?;
        connection::not_newer(opened, path)
    }
}

/// The URI of an immutable file.
fn immutable(path: &Path) -> String {
    let escaped = path.as_os_str().as_bytes().iter().map(|byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        byte => format!("%{byte:02x}"),
    });
    format!("file:{}?immutable=1", escaped.collect::<String>())
}
