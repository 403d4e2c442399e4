//! Locks over all threads and processes of the host, which die with their holder.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::system::directory::Directory;

/// A lock on a directory: exclusive over the threads of this handle (a mutex) and over all other handles and processes
/// (`flock`, which the kernel drops when its holder dies, so that nobody waits for a dead process).
#[derive(Debug)]
pub(crate) struct HostLock {
    thread: Mutex<()>,
    descriptor: OwnedFd,
    path: PathBuf,
}

/// Proof that the lock is held; dropping it lets go.
#[derive(Debug)]
pub(crate) struct HostLockGuard<'a> {
    lock: &'a HostLock,
    _thread: MutexGuard<'a, ()>,
}

impl HostLock {
    /// A lock on `directory`, through a descriptor of its own: `flock` belongs to an open file description.
    pub fn new(directory: &Directory) -> Result<Self> {
        Ok(Self { thread: Mutex::new(()), descriptor: directory.reopen()?, path: directory.path().to_owned() })
    }

    /// Waits for the lock.
    pub fn acquire(&self) -> Result<HostLockGuard<'_>> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        retry_on_intr(|| flock(&self.descriptor, FlockOperation::LockExclusive))
            .map_err(|errno| Error::system("lock", &self.path, errno))?;
        Ok(HostLockGuard { lock: self, _thread: thread })
    }
}

impl Drop for HostLockGuard<'_> {
    fn drop(&mut self) {
        // Unlocking a lock that is held does not fail; closing the descriptor would unlock as well.
        let _ = flock(&self.lock.descriptor, FlockOperation::Unlock);
    }
}

/// Says to other handles, here and in other processes, that this one lives.
#[derive(Debug)]
pub(crate) struct Presence {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Presence {
    /// Nothing is announced yet. All calls are made by holders of one and the same [`HostLock`], one at a time.
    pub fn new(directory: &Directory) -> Result<Self> {
        Ok(Self { descriptor: directory.reopen()?, path: directory.path().to_owned() })
    }

    /// Whether no other handle lives. What was announced of this one is taken back.
    pub fn is_alone(&self) -> Result<bool> {
        self.apply(FlockOperation::NonBlockingLockExclusive)
    }

    /// Announces this handle, until it is dropped or its process ends.
    pub fn announce(&self) -> Result<()> {
        if self.apply(FlockOperation::NonBlockingLockShared)? {
            Ok(())
        } else {
            Err(Error::system("lock", &self.path, Errno::WOULDBLOCK))
        }
    }

    /// Takes back what was announced.
    pub fn withdraw(&self) {
        // Unlocking does not fail; closing the descriptor would unlock as well.
        let _ = flock(&self.descriptor, FlockOperation::Unlock);
    }

    fn apply(&self, operation: FlockOperation) -> Result<bool> {
        would_lock(retry_on_intr(|| flock(&self.descriptor, operation)))
            .map_err(|errno| Error::system("lock", &self.path, errno))
    }
}

impl Drop for Presence {
    /// Not left to the descriptor's closing: a forked child may have it open for longer.
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Tries to make this the file's only locked descriptor; false when another one, here or in another process, is.
pub(crate) fn try_lock(file: &File) -> std::result::Result<bool, Errno> {
    would_lock(retry_on_intr(|| flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive)))
}

/// Whether nobody has the file locked. Nothing is left of the question: not even when another thread forks meanwhile, whose
/// child has the descriptor open for longer.
pub(crate) fn is_unlocked(file: &File) -> std::result::Result<bool, Errno> {
    let was_unlocked = try_lock(file)?;
    if was_unlocked {
        flock(file.as_fd(), FlockOperation::Unlock)?;
    }
    Ok(was_unlocked)
}

fn would_lock(result: std::result::Result<(), Errno>) -> std::result::Result<bool, Errno> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}
