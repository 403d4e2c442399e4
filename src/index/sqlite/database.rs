//! The connection, shared by the threads of a handle: statements, transactions, and the suspicion that the database is damaged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::index::sqlite::connection;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, index_error, is_damage};
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
            let connection = match &mut *slot {
                Slot::Open(connection) => connection,
                Slot::Closed => return Err(Error::Internal("the index was used after it was closed".to_owned())),
                Slot::Pending => {
                    // Other handles may be open by now.
                    let opened = connection::open(&self.files, &self.log, false);
                    self.note_locked(opened.as_ref().map(drop).map_err(Error::clone));
                    *slot = Slot::Open(opened?);
                    let Slot::Open(connection) = &mut *slot else { unreachable!("it was stored") };
                    connection
                }
            };
            work(connection).map_err(|error| {
                if is_damage(&error) {
                    self.set_suspect(true);
                }
                // Another program turned the database to WAL mode, for example.
                if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
                    *slot = Slot::Pending;
                }
                index_error(operation, self.files.path(), &error)
            })
        })
    }

    /// Runs `work` in a transaction.
    pub fn write<T>(
        &self,
        operation: &'static str,
        _lock: &CacheLockGuard<'_>,
        work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
    ) -> Result<T> {
        self.read(operation, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
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

impl Drop for Database {
    fn drop(&mut self) {
        // A failure was returned by the close.
        let _ = self.close();
    }
}
