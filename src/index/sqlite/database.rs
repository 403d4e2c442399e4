//! The connection, shared by the threads of a handle: statements, transactions, and the suspicion that the database is damaged.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use crate::error::{Error, Result};
use crate::index::sqlite::connection;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::sql::{SqlResult, extended_code, in_sqlite, index_error, is_damage};
use crate::index::sqlite::vfs;
use crate::log::{Log, LogOnce};
use crate::store::lock::CacheLockGuard;

/// A database.
pub(super) struct Database {
    files: IndexFiles,
    log: Log,
    connection: Mutex<Slot>,
    /// A statement found damage, or another program wrote to the file. The next rebuild checks the database.
    is_suspect: AtomicBool,
    /// A statement found damage.
    has_damage: AtomicBool,
    /// The database could not be opened.
    unopened: LogOnce,
}

/// Why a transaction failed.
pub(super) struct WriteFailure {
    pub error: Error,
    /// Whether it took effect is unknown.
    pub may_be_committed: bool,
}

/// The place of the connection.
enum Slot {
    Open(Connection),
    /// The next use opens it: another program had the database locked, the open failed otherwise, or a statement failed.
    Pending,
    Closed,
}

impl Database {
    /// `opened`: the connection, or why the next use must open it.
    pub fn new(files: IndexFiles, log: Log, opened: Result<Connection>, is_suspect: bool) -> Self {
        let unopened = LogOnce::default();
        note_opened(&unopened, &log, &opened);
        Self {
            files,
            log,
            connection: Mutex::new(opened.map_or(Slot::Pending, Slot::Open)),
            is_suspect: AtomicBool::new(is_suspect),
            has_damage: AtomicBool::new(false),
            unopened,
        }
    }

    pub fn files(&self) -> &IndexFiles {
        &self.files
    }

    pub fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed)
    }

    /// Sets the suspicion, and returns the one before.
    pub fn set_suspect(&self, is_suspect: bool) -> bool {
        self.is_suspect.swap(is_suspect, Ordering::Relaxed)
    }

    /// Whether a statement found damage since the last call.
    pub fn take_damage(&self) -> bool {
        self.has_damage.swap(false, Ordering::Relaxed)
    }

    /// Runs `work` on the connection. Does not wait for another program's lock ([`Error::is_index_locked`]).
    pub fn read<T>(&self, operation: &'static str, work: impl FnOnce(&mut Connection) -> SqlResult<T>) -> Result<T> {
        let mut slot = self.slot();
        in_sqlite(operation, self.files.path(), || {
            let connection = self.connection(&mut slot)?;
            work(connection).map_err(|error| self.failed(&mut slot, operation, &error))
        })
    }

    /// Runs `work` in a transaction.
    pub fn write<T>(
        &self,
        operation: &'static str,
        lock: &CacheLockGuard<'_>,
        work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
    ) -> Result<T> {
        self.try_write(operation, lock, work).map_err(|failure| failure.error)
    }

    /// Runs `work` in a transaction, for a caller that must not repeat what was done.
    ///
    /// A commit can fail after it took effect, when the journal's header was cleared and a lock cannot be released, for example.
    /// Then the database is opened again, which rolls back what was not committed, and its change counter shows whether it took effect.
    pub fn try_write<T>(
        &self,
        operation: &'static str,
        _lock: &CacheLockGuard<'_>,
        work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
    ) -> std::result::Result<T, WriteFailure> {
        let mut slot = self.slot();
        let mut may_be_committed = false;
        let written = in_sqlite(operation, self.files.path(), || {
            let connection = self.connection(&mut slot)?;
            let (error, worked) = match transact(connection, work) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let failure = self.failed(&mut slot, operation, &error);
            let Some((value, before)) = worked.filter(|_| !failure.is_index_locked()) else { return Err(failure) };
            may_be_committed = true;
            // In memory there is nothing to be opened again.
            if before.is_some() {
                *slot = Slot::Pending;
                if let Ok(connection) = self.connection(&mut slot)
                    && let after @ Some(_) = vfs::header(connection)
                {
                    may_be_committed = false;
                    if after != before {
                        return Ok(value);
                    }
                }
            }
            Err(failure)
        });
        written.map_err(|error| WriteFailure { error, may_be_committed })
    }

    /// The connection, which is opened if it is not.
    fn connection<'a>(&self, slot: &'a mut Slot) -> Result<&'a mut Connection> {
        if let Slot::Pending = slot {
            let opened = self.reopen();
            note_opened(&self.unopened, &self.log, &opened);
            *slot = Slot::Open(opened?);
        }
        match slot {
            Slot::Open(connection) => Ok(connection),
            Slot::Pending | Slot::Closed => Err(Error::Internal("the index was used after it was closed".to_owned())),
        }
    }

    /// Opens the database again. It may be another file by now, or none.
    fn reopen(&self) -> Result<Connection> {
        self.files.check_are_regular()?;
        self.files.create();
        // Other handles may be open by now.
        let opened = connection::open(&self.files, &self.log, false).map_err(|error| {
            // It was writable before.
            if error.is_not_permitted() { opened_for_reading(self.files.path()) } else { error }
        })?;
        self.files.make_private(&self.log);
        Ok(opened)
    }

    /// Notes a statement's failure.
    fn failed(&self, slot: &mut Slot, operation: &'static str, error: &rusqlite::Error) -> Error {
        if is_damage(error) {
            self.set_suspect(true);
            self.has_damage.store(true, Ordering::Relaxed);
        }
        // Another program turned the database to WAL mode, for example.
        if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
            *slot = Slot::Pending;
        }
        // It was removed, or another file has its name. Nothing is known of that one.
        if extended_code(error) == Some(ffi::SQLITE_READONLY_DBMOVED) {
            self.set_suspect(true);
            *slot = Slot::Pending;
        }
        index_error(operation, self.files.path(), error)
    }

    /// Closes the connection.
    pub fn close(&self) -> Result<()> {
        let mut slot = self.slot();
        in_sqlite("close the index", self.files.path(), || match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(connection) => {
                connection.close().map_err(|(_, error)| index_error("close the index", self.files.path(), &error))
            }
            Slot::Pending | Slot::Closed => Ok(()),
        })
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the first failure to open a database, and the first one after a success.
fn note_opened(unopened: &LogOnce, log: &Log, opened: &Result<Connection>) {
    let opened = opened.as_ref().map(drop).map_err(Error::clone);
    unopened.note(opened, log, |error| format!("{error}; until it can be opened, the directory is searched"));
}

/// The error for a database that SQLite opened for reading only, though this process has the permission to write it. SQLite does not
/// say which failure made it do so.
pub(super) fn opened_for_reading(path: &Path) -> Error {
    let cause = "SQLite could open it for reading only, though it may be written".to_owned();
    Error::Index { operation: "open the index", path: path.to_owned(), cause }
}

/// The rest of a failed commit: the value, and the database's header before it.
type Uncommitted<T> = (T, Option<[u8; 28]>);

/// Runs `work` in a transaction. The failure of a commit has the data to check whether it took effect.
fn transact<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
) -> std::result::Result<T, (rusqlite::Error, Option<Uncommitted<T>>)> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = begun.map_err(|error| (error, None))?;
    let value = work(&transaction).map_err(|error| (error, None))?;
    let before = vfs::header(&transaction);
    match transaction.commit() {
        Ok(()) => Ok(value),
        Err(error) => Err((error, Some((value, before)))),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A failure was returned by the close.
        let _ = self.close();
    }
}
