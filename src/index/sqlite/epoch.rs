//! The epoch of a database: the boot of the host, and the mount of the directory, in which it was last compared and written.
//!
//! Transactions are not synced. Within one epoch, the kernel's pages are what every process sees, whatever the disk has. In another
//! one, the file may be torn: it is checked, and compared with the directory. The epoch is in SQLite's `application_id`, for
//! which neither SQLite nor Glance has a use.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rusqlite::{Connection, Transaction};

use crate::index::sqlite::sql::SqlResult;
use crate::sys::boot::boot_id;
use crate::sys::dir::Directory;

/// An epoch, as a number of 31 bits. `None` where the host's boot is unknown: then no file is of the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(Option<i32>);

impl Epoch {
    pub fn present(directory: &Directory) -> Self {
        Self(boot_id().map(|boot| {
            let mut hasher = DefaultHasher::new();
            (boot, directory.mount_id()).hash(&mut hasher);
            // 0 is that of a database which has none.
            let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
            i32::from_le_bytes([a | 1, b, c, d & 0x7f])
        }))
    }

    /// Whether a database is of this epoch.
    pub fn is_in(self, connection: &Connection) -> bool {
        let stored = connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0)).ok();
        self.0.is_some() && stored == self.0
    }

    /// Makes a database one of this epoch.
    pub fn store(self, transaction: &Transaction<'_>) -> SqlResult<()> {
        match self.0 {
            Some(epoch) if !self.is_in(transaction) => transaction.pragma_update(None, "application_id", epoch),
            _ => Ok(()),
        }
    }
}
