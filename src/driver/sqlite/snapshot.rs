//! An index that may not be written: on a disk that is mounted read-only, or for a user without the right. What it says is
//! copied into memory, where the directory is entered as well.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Transaction, params_from_iter};

use crate::core::layout::Layout;
use crate::core::log::Log;
use crate::driver::sqlite::{SqlResult, connection, index_error};
use crate::error::{Error, Result};

/// What the file says of hits, order of use and digests.
pub(super) struct Snapshot {
    layout: Arc<Layout>,
    log: Log,
    has_complained: AtomicBool,
}

impl Snapshot {
    /// Fails for an index of a newer version only: one that cannot be read is done without.
    pub fn new(layout: &Arc<Layout>, log: &Log) -> Result<Self> {
        let snapshot = Self { layout: Arc::clone(layout), log: log.clone(), has_complained: AtomicBool::new(false) };
        match snapshot.open() {
            Err(error @ Error::Unsupported(_)) => Err(error),
            _ => Ok(snapshot),
        }
    }

    /// Replaces all rows by what the file says now.
    pub fn copy_to(&self, transaction: &Transaction<'_>) -> SqlResult<()> {
        transaction.execute("DELETE FROM cached_images", [])?;
        let rows = match self.open().and_then(|connection| self.rows(&connection)) {
            Ok(rows) => rows,
            Err(error) => {
                if !self.has_complained.swap(true, Ordering::Relaxed) {
                    self.log.warning(|| format!("{error}; its hits and digests are not known"));
                }
                return Ok(());
            }
        };
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
                // Text that is not UTF-8 says nothing.
                let value = |column| row.get::<_, Value>(column).unwrap_or(Value::Null);
                Ok(std::array::from_fn(value))
            })?;
            rows.collect::<SqlResult<Vec<_>>>()
        };
        rows().map_err(|error| index_error("read the index", self.layout.database(), &error))
    }

    /// Opens the file so that nothing is written, beside it neither.
    fn open(&self) -> Result<Connection> {
        let path = self.layout.database();
        let mut has_journal = false;
        for suffix in ["-wal", "-journal"] {
            has_journal |= self.layout.index_file(suffix)?.is_some_and(|facts| facts.size > 0);
        }
        let flags = connection::FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY;
        // A cache that was closed has no log; SQLite would make an empty one, and its shared memory, to read. Nobody writes
        // to the file meanwhile: whoever does, holds the gate.
        let opened = if has_journal {
            Connection::open_with_flags(path, flags)
        } else {
            Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)
        };
        let opened = opened.map_err(|error| index_error("open the index", path, &error))?;
        connection::not_newer(opened, path)
    }
}

/// The URI of a file that does not change.
fn immutable(path: &Path) -> String {
    let escaped = path.as_os_str().as_bytes().iter().map(|byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        byte => format!("%{byte:02x}"),
    });
    format!("file:{}?immutable=1", escaped.collect::<String>())
}
