//! The locks of a cache's directory, over all threads and processes of the host.
//!
//! | lock | on | held |
//! |---|---|---|
//! | cache lock | `incomplete/` | while names change, or must not change: for microseconds, except rebuilds and scans |
//! | prune lock | `invalid/` | for one prune, so that two do not evict the same excess twice |
//! | open-handle lock | `queue/`, shared | as long as a handle is open |
//! | a writer's lock | its file in `incomplete/` | as long as the writer lives |
//!
//! All are `flock` locks, which the kernel drops with their holder. The cache lock is taken after the prune lock. It is never
//! held while image data is copied, hashed, synced or freed, or while a caller's function runs, except a log function.
//!
//! A known gap: when a subdirectory is removed below running handles, their locks stay on the removed directory. A handle that
//! is opened afterwards locks the new one, so the two do not exclude each other until the former handles are closed.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::sys::dir::Directory;
use crate::sys::lock::{HostLock, HostLockGuard, try_lock, try_lock_shared, unlock};

/// The lock under which names change.
#[derive(Debug)]
pub(crate) struct CacheLock(HostLock);

/// Proof that the cache lock is held. Functions take it whose look at a name and change of it must be one step.
#[derive(Debug)]
pub(crate) struct CacheLockGuard<'a> {
    #[allow(dead_code, reason = "dropping it unlocks")]
    lock: HostLockGuard<'a>,
    /// Removed files, whose bytes are freed with their last descriptor: after the lock, since fields are dropped in their order.
    removed: RefCell<Vec<OwnedFd>>,
}

impl CacheLockGuard<'_> {
    /// Keeps a removed file until the lock is released.
    pub fn free_afterwards(&self, removed: OwnedFd) {
        let mut files = self.removed.borrow_mut();
        // The host needs descriptors, too. No step of ours removes more large files, except the recovery after a restart.
        if files.len() < MAX_REMOVED && files.try_reserve(1).is_ok() {
            files.push(removed);
        }
    }
}

/// How many removed files are kept until the lock is released.
const MAX_REMOVED: usize = 128;

impl CacheLock {
    /// `directory` is `incomplete/`.
    pub fn new(directory: &Directory) -> Result<Self> {
        HostLock::new(directory).map(Self)
    }

    /// Waits for the lock.
    pub fn acquire(&self) -> Result<CacheLockGuard<'_>> {
        Ok(CacheLockGuard { lock: self.0.acquire()?, removed: RefCell::default() })
    }
}

/// The lock of the one prune at a time.
#[derive(Debug)]
pub(crate) struct PruneLock(HostLock);

impl PruneLock {
    /// `directory` is `invalid/`.
    pub fn new(directory: &Directory) -> Result<Self> {
        HostLock::new(directory).map(Self)
    }

    /// Waits for the lock.
    pub fn acquire(&self) -> Result<HostLockGuard<'_>> {
        self.0.acquire()
    }
}

/// Shows other handles, here and in other processes, that this handle is open. It is used under the cache lock only.
#[derive(Debug)]
pub(crate) struct OpenLock {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl OpenLock {
    /// `directory` is `queue/`. Takes no lock yet.
    pub fn new(directory: &Directory) -> Result<Self> {
        Ok(Self { descriptor: directory.reopen()?, path: directory.path().to_owned() })
    }

    /// Whether no other handle is open. If so, this handle's lock becomes exclusive until [`Self::acquire`] or [`Self::release`].
    pub fn is_only_handle(&self, _lock: &CacheLockGuard<'_>) -> Result<bool> {
        try_lock(&self.descriptor, || self.path.clone())
    }

    /// Takes the shared lock, until it is released or the process ends.
    pub fn acquire(&self, _lock: &CacheLockGuard<'_>) -> Result<()> {
        if try_lock_shared(&self.descriptor, || self.path.clone())? {
            Ok(())
        } else {
            Err(Error::would_block("lock", &self.path))
        }
    }

    pub fn release(&self) {
        unlock(self.descriptor.as_fd());
    }
}

impl Drop for OpenLock {
    fn drop(&mut self) {
        self.release();
    }
}
