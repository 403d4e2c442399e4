//! `flock` locks: the kernel drops them when their holder dies.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::sys::dir::Directory;

/// An exclusive lock over all threads and processes of the host: a mutex between the threads of one handle, `flock` between
/// handles and processes.
#[derive(Debug)]
pub(crate) struct HostLock {
    threads: Mutex<()>,
    descriptor: OwnedFd,
    path: PathBuf,
}

/// Holds a [`HostLock`] until it is dropped.
#[derive(Debug)]
pub(crate) struct HostLockGuard<'a> {
    lock: &'a HostLock,
    _threads: MutexGuard<'a, ()>,
}

impl HostLock {
    /// A lock on `directory`, through an open file description of its own, to which `flock` belongs.
    pub fn new(directory: &Directory) -> Result<Self> {
        Ok(Self { threads: Mutex::new(()), descriptor: directory.reopen()?, path: directory.path().to_owned() })
    }

    /// Waits for the lock.
    pub fn acquire(&self) -> Result<HostLockGuard<'_>> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        retry_on_intr(|| flock(&self.descriptor, FlockOperation::LockExclusive))
            .map_err(|errno| Error::system("lock", &self.path, errno))?;
        Ok(HostLockGuard { lock: self, _threads: threads })
    }
}

impl Drop for HostLockGuard<'_> {
    fn drop(&mut self) {
        unlock(self.lock.descriptor.as_fd());
    }
}

/// Tries to lock a file exclusively; false when another open file description, here or in another process, has a lock on it.
pub(crate) fn try_lock(file: impl AsFd, path: impl FnOnce() -> PathBuf) -> Result<bool> {
    try_flock(file.as_fd(), path, FlockOperation::NonBlockingLockExclusive)
}

/// Tries to take a shared lock; false when another open file description has the file locked exclusively.
pub(crate) fn try_lock_shared(file: impl AsFd, path: impl FnOnce() -> PathBuf) -> Result<bool> {
    try_flock(file.as_fd(), path, FlockOperation::NonBlockingLockShared)
}

/// Whether nobody has the file locked. The lock that this takes is released explicitly: a child that another thread forks
/// meanwhile may hold the descriptor open for longer.
pub(crate) fn is_unlocked(file: &File, path: impl FnOnce() -> PathBuf) -> Result<bool> {
    let was_unlocked = try_lock(file, path)?;
    if was_unlocked {
        unlock(file.as_fd());
    }
    Ok(was_unlocked)
}

/// Releases a lock. This is not left to the close of the descriptor, which a forked child may hold open for longer.
pub(crate) fn unlock(descriptor: BorrowedFd<'_>) {
    // Unlocking does not fail on a valid descriptor.
    let _ = flock(descriptor, FlockOperation::Unlock);
}

fn try_flock(descriptor: BorrowedFd<'_>, path: impl FnOnce() -> PathBuf, operation: FlockOperation) -> Result<bool> {
    match retry_on_intr(|| flock(descriptor, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(Error::system("lock", &path(), errno)),
    }
}
