//! Results of SQLite, and what surrounds each use of it.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, Result};
use crate::sys::at_fork;
use crate::sys::signals::without_size_signal;

pub(super) type SqlResult<T> = rusqlite::Result<T>;

/// Runs `work`, which calls SQLite: no other thread of the process forks meanwhile, and no write raises SIGXFSZ. Every call of
/// SQLite is made within.
pub(super) fn in_sqlite<T>(operation: &'static str, path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(_inside) = at_fork::enter() else {
        let cause = "this process was forked while another thread used the index; call exec, or fork again".to_owned();
        return Err(Error::Index { operation, path: path.to_owned(), cause });
    };
    without_size_signal(work)
}

/// Converts an error of SQLite. A full disk becomes a system error: the caller can free space.
pub(super) fn index_error(operation: &'static str, path: &Path, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::no_space(operation, path),
        Some(ErrorCode::DatabaseBusy) => Error::index_locked(operation, path),
        // The message has the path that SQLite was given.
        Some(ErrorCode::CannotOpen) => {
            Error::Index { operation, path: path.to_owned(), cause: "SQLite cannot open a file of it".to_owned() }
        }
        _ => Error::Index { operation, path: path.to_owned(), cause: error.to_string() },
    }
}

/// SQLite's own code, which says more than its class.
pub(super) fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// Whether the failure is the database's own, so that only a rebuild helps: it is damaged, or its tables or rows are not the
/// ones that our statements expect. That is every error, except those of the system and of other programs' locks.
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
