//! An index that may not be written, on a read-only file system or without the permission. Its rows are copied to memory, where
//! the directory is entered as well.
//!
//! The file is read without SQLite's locks: a reader's lock, of a process that was stopped, would keep writers waiting. So the
//! file can change meanwhile, and rows count only if it did not. Before and after they are read, no transaction is half written,
//! and size, times and change counter are the same. (A transaction writes the header of its journal first, then the first page
//! with the counter, then the other pages. The journal's header is cleared last.)
//!
//! A database in WAL mode is read if its log is empty. The log itself is not read: SQLite would map shared memory for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction};

use crate::error::{Error, Result};
use crate::index::sqlite::connection;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::rows::{Rows, insert, select};
use crate::index::sqlite::sql::{SqlResult, in_sqlite, index_error};
use crate::index::sqlite::vfs;
use crate::log::{Log, LogOnce};
use crate::store::layout::Layout;

/// How often the rows are read before they are given up.
const ATTEMPTS: usize = 5;
/// The pause between two attempts: longer than most transactions.
const PAUSE: Duration = Duration::from_millis(1);

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
        match in_sqlite("open the index", snapshot.files.path(), || snapshot.open().map(drop)) {
            Err(error @ Error::Unsupported(_)) => Err(error),
            _ => Ok(snapshot),
        }
    }

    /// Replaces all rows by those of the file.
    pub fn copy_to(&self, transaction: &Transaction<'_>) -> SqlResult<()> {
        transaction.execute("DELETE FROM cached_images", [])?;
        let rows = self.rows();
        let readable = rows.as_ref().map(drop).map_err(Error::clone);
        self.unreadable.note(readable, &self.log, |error| format!("{error}; its hits and digests are unknown"));
        rows.map_or(Ok(()), |rows| insert(transaction, rows))
    }

    fn rows(&self) -> Result<Rows> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            if let Some(rows) = in_sqlite("read the index", self.files.path(), || self.try_rows())? {
                return Ok(rows);
            }
        }
        let cause = "it is being written, or its last writer was killed".to_owned();
        Err(Error::Index { operation: "read the index", path: self.files.path().to_owned(), cause })
    }

    /// The rows; `None` when the file changes meanwhile.
    fn try_rows(&self) -> Result<Option<Rows>> {
        if self.files.is_unfinished()? {
            return Ok(None);
        }
        let connection = self.open()?;
        let before = self.state(&connection)?;
        let rows = select(&connection).map_err(|error| index_error("read the index", self.files.path(), &error));
        if self.files.is_unfinished()? || self.state(&connection)? != before {
            return Ok(None);
        }
        rows.map(Some)
    }

    /// What no transaction leaves as it was.
    fn state(&self, connection: &Connection) -> Result<impl PartialEq + use<>> {
        let stat = self.files.stat("")?.map(|stat| (stat.id, stat.size, stat.modified, stat.changed));
        Ok((stat, vfs::header(connection)))
    }

    /// Opens the file without writing to it, or to the directory.
    fn open(&self) -> Result<Connection> {
        let flags = connection::FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let opened = connection::open_path(immutable(&self.files.path_for_sqlite()), flags)
            .map_err(|error| index_error("open the index", self.files.path(), &error))?;
        connection::not_newer(opened, self.files.path())
    }
}

/// The URI of an immutable file: SQLite takes no lock on it, and reads neither a journal nor a log.
pub(super) fn immutable(path: &Path) -> String {
    let escaped = path.as_os_str().as_bytes().iter().map(|byte| match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(*byte).to_string(),
        byte => format!("%{byte:02x}"),
    });
    format!("file:{}?immutable=1", escaped.collect::<String>())
}
