//! The connection, shared by the threads of a handle: statements, transactions, and the suspicion that the database is damaged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::index::sqlite::connection;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, index_error, is_damage};
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
    /// The database is locked, and could not be opened.
    locked: LogOnce,
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
    /// The next use opens it: another program had the database locked, or a statement failed.
    Pending,
    Closed,
}

impl Database {
    /// `connection`: `None` when another program has the database locked.
    pub fn new(files: IndexFiles, log: Log, connection: Option<Connection>, is_suspect: bool) -> Self {
        let database = Self {
            files,
            log,
            connection: Mutex::new(connection.map_or(Slot::Pending, Slot::Open)),
            is_suspect: AtomicBool::new(is_suspect),
            locked: LogOnce::default(),
        };
        if let Slot::Pending = *database.slot() {
            database.note_locked(Err(Error::index_locked("open the index", database.files.path())));
        }
        database
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
    /// Then the database is opened again, which rolls back what was not committed, and its change counter tells.
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
            // Other handles may be open by now.
            let opened = connection::open(&self.files, &self.log, false).map_err(|error| {
                // It was writable before. Why SQLite opened it for reading only is unknown.
                if error.is_not_permitted() {
                    let cause = "SQLite cannot open it for writing".to_owned();
                    return Error::Index { operation: "open the index", path: self.files.path().to_owned(), cause };
                }
                error
            });
            self.note_locked(opened.as_ref().map(drop).map_err(Error::clone));
            *slot = Slot::Open(opened?);
        }
        match slot {
            Slot::Open(connection) => Ok(connection),
            Slot::Pending | Slot::Closed => Err(Error::Internal("the index was used after it was closed".to_owned())),
        }
    }

    /// Notes a statement's failure.
    fn failed(&self, slot: &mut Slot, operation: &'static str, error: &rusqlite::Error) -> Error {
        if is_damage(error) {
            self.set_suspect(true);
        }
        // Another program turned the database to WAL mode, for example.
        if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
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

    /// Logs the first time that the database is locked.
    fn note_locked(&self, opened: Result<()>) {
        if opened.as_ref().is_ok() || opened.as_ref().is_err_and(Error::is_index_locked) {
            self.locked.note(opened, &self.log, |error| format!("{error}; until then, the directory is searched"));
        }
    }
}

/// What a failed commit leaves: the value, and the database's header before.
type Uncommitted<T> = (T, Option<[u8; 28]>);

/// Runs `work` in a transaction. A failure of the commit comes with what is needed to find out whether it took effect.
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
