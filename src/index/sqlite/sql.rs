//! Results of SQLite, and how long its statements wait for other programs.

use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;

use crate::error::Error;

/// The busy timeout of operations on which everything depends.
pub(super) const LONG_WAIT: Duration = Duration::from_secs(2);
/// The busy timeout of changes that a rebuild can repeat later, at the price of a scan.
pub(super) const SHORT_WAIT: Duration = Duration::from_millis(100);
/// The busy timeout of a reader, which does not wait.
pub(super) const NO_WAIT: Duration = Duration::ZERO;

pub(super) type SqlResult<T> = rusqlite::Result<T>;

/// Converts an error of SQLite. A full disk becomes a system error: the caller can free space.
pub(super) fn index_error(operation: &'static str, path: &Path, error: &rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return Error::no_space(operation, path);
    }
    Error::Index { operation, path: path.to_owned(), cause: error.to_string() }
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
