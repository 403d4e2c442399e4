//! The directories whose index is open in this process, or was open in the process that forked it.
//!
//! SQLite records, once per process, which locks it holds on which file. A forked child inherits that record without the locks:
//! a connection that the child opens to the same file relies on locks that do not exist, and damages the file. So a child must
//! not open an index that was open at the fork. The registry is as process-wide as SQLite's record, and is inherited as well.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::at_fork::{enter, generation};
use crate::sys::stat::FileId;

/// Locked only by threads that are [inside](enter), so that no child inherits a locked one.
static OPEN: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    directory: FileId,
    /// The generation of the process that opened the index.
    owner: u64,
    /// Its process id, for messages.
    process: u32,
}

/// Registers an open index until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenRegistration(Entry);

impl OpenRegistration {
    /// Registers the index of a directory as open in this process. Called inside.
    ///
    /// Fails with the id of the process that had it open when it forked this one.
    pub fn new(directory: FileId) -> Result<Self, u32> {
        let owner = generation();
        let mut open = open();
        if let Some(inherited) = open.iter().find(|entry| entry.directory == directory && entry.owner != owner) {
            return Err(inherited.process);
        }
        let entry = Entry { directory, owner, process: std::process::id() };
        open.push(entry);
        Ok(Self(entry))
    }
}

/// Whether the index of a directory is open in this process, as far as that is known. Opening and closing its file would release the
/// POSIX locks of SQLite then.
pub(crate) fn is_registered(directory: FileId) -> bool {
    enter().is_none_or(|_inside| open().iter().any(|entry| entry.directory == directory))
}

impl Drop for OpenRegistration {
    fn drop(&mut self) {
        // A process that may not enter has registered nothing.
        let Some(_inside) = enter() else { return };
        let mut open = open();
        if let Some(place) = open.iter().position(|entry| *entry == self.0) {
            open.swap_remove(place);
        }
    }
}

fn open() -> MutexGuard<'static, Vec<Entry>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}
