//! The connection, shared by the threads of a handle: statements, transactions, and the suspicion that the database is damaged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::sql::{SqlResult, index_error, is_damage};
use crate::store::lock::CacheLockGuard;
use crate::sys::signals::without_size_signal;

/// An open database.
pub(super) struct Database {
    files: IndexFiles,
    /// `None` after the close.
    connection: Mutex<Option<Connection>>,
    /// A statement found damage, or another program wrote to the file. The next rebuild checks the database.
    is_suspect: AtomicBool,
}

impl Database {
    pub fn new(files: IndexFiles, connection: Connection, is_suspect: bool) -> Self {
        Self { files, connection: Mutex::new(Some(connection)), is_suspect: AtomicBool::new(is_suspect) }
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

    /// Runs `work` on the connection.
    pub fn read<T>(&self, operation: &'static str, work: impl FnOnce(&mut Connection) -> SqlResult<T>) -> Result<T> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection =
            slot.as_mut().ok_or_else(|| Error::Internal("the index was used after it was closed".to_owned()))?;
        // Reading can make SQLite extend the file of its shared memory.
        without_size_signal(|| work(connection)).map_err(|error| {
            if is_damage(&error) {
                self.set_suspect(true);
            }
            index_error(operation, self.files.path(), &error)
        })
    }

    /// Runs `work` in a transaction. Waits up to `busy_timeout` for another program's transaction; all of our own processes wait
    /// as well, since the cache lock is held.
    pub fn write<T>(
        &self,
        operation: &'static str,
        busy_timeout: Duration,
        _lock: &CacheLockGuard<'_>,
        work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
    ) -> Result<T> {
        self.read(operation, |connection| {
            connection.busy_timeout(busy_timeout)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// Closes the connection.
    pub fn close(&self) -> Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        match without_size_signal(|| connection.map(Connection::close)) {
            Some(Err((_, error))) => Err(index_error("close the index", self.files.path(), &error)),
            _ => Ok(()),
        }
    }
}
