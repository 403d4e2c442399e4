//! Locks on single bytes of a file, over all threads and processes of the host: open file description (OFD) locks of Linux.
//!
//! A lock belongs to the open file description, so two descriptions exclude each other within one process, too, and closing
//! another descriptor of the same file releases nothing. The kernel drops a lock with the last descriptor of its description.
//! An exclusive lock needs a descriptor that is open for writing.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{Errno, retry_on_intr};

/// How a byte is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Shared,
    Exclusive,
}

/// Tries to lock a byte, which need not exist in the file. Changes the kind of a lock that this description has already. False
/// when the lock of another description is in the way.
pub(crate) fn try_lock(file: impl AsFd, byte: u64, kind: LockKind) -> Result<bool, Errno> {
    let kind = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    match lock_call(file.as_fd(), libc::F_OFD_SETLK, kind, byte) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Releases a byte. This is not left to the close of the descriptor, which a forked child may hold open for longer.
pub(crate) fn unlock(file: impl AsFd, byte: u64) {
    // Unlocking does not fail on a valid descriptor.
    let _ = lock_call(file.as_fd(), libc::F_OFD_SETLK, libc::F_UNLCK, byte);
}

/// Whether another description has the byte locked exclusively. Shared locks do not count: users who may only read a file can take
/// them. Needs no permission to write.
pub(crate) fn is_locked(file: impl AsFd, byte: u64) -> Result<bool, Errno> {
    lock_call(file.as_fd(), libc::F_OFD_GETLK, libc::F_RDLCK, byte).map(|found| found != libc::F_UNLCK)
}

/// Whether another description has the byte locked, in either way. To be called for a file that only those can open who may write it.
pub(crate) fn is_locked_at_all(file: impl AsFd, byte: u64) -> Result<bool, Errno> {
    lock_call(file.as_fd(), libc::F_OFD_GETLK, libc::F_WRLCK, byte).map(|found| found != libc::F_UNLCK)
}

/// Whether another description has any byte of the file locked, in either way. Needs no permission to write.
pub(crate) fn is_any_locked(file: impl AsFd) -> Result<bool, Errno> {
    range_call(file.as_fd(), libc::F_OFD_GETLK, libc::F_WRLCK, 0, 0).map(|found| found != libc::F_UNLCK)
}

/// Repeats `attempt` until it succeeds, fails, or the deadline has passed; `None` then. There is one attempt at least.
///
/// The kernel has no limit for the wait on a lock, except a signal, which is the host's. So this polls. The first intervals are
/// as short as most locks are held.
pub(crate) fn poll<T, E>(deadline: Instant, mut attempt: impl FnMut() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
    const YIELDS: u32 = 3;
    const LONGEST: Duration = Duration::from_millis(1);
    let mut interval = Duration::from_micros(10);
    for count in 0_u32.. {
        if let Some(value) = attempt()? {
            return Ok(Some(value));
        }
        if Instant::now() >= deadline {
            break;
        }
        if count < YIELDS {
            thread::yield_now();
        } else {
            thread::sleep(interval);
            interval = (interval * 2).min(LONGEST);
        }
    }
    Ok(None)
}

/// Makes a call on the lock of one byte. Returns the kind of lock that the call reports.
fn lock_call(file: BorrowedFd<'_>, command: libc::c_int, kind: libc::c_int, byte: u64) -> Result<libc::c_int, Errno> {
    range_call(file, command, kind, byte, 1)
}

/// The same for several bytes; a length of 0 is all the rest.
#[allow(unsafe_code, reason = "rustix has no such call")]
#[allow(clippy::cast_possible_truncation, reason = "the kinds are 0, 1 and 2, and SEEK_SET is 0")]
fn range_call(
    file: BorrowedFd<'_>,
    command: libc::c_int,
    kind: libc::c_int,
    start: u64,
    length: libc::off64_t,
) -> Result<libc::c_int, Errno> {
    let start = start.try_into().map_err(|_| Errno::INVAL)?;
    // SAFETY: all fields are integers.
    let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = start;
    lock.l_len = length;
    retry_on_intr(|| {
        // SAFETY: the descriptor is open for as long as the call takes, and the pointer is valid for it.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
        if result < 0 { Err(last_error()) } else { Ok(libc::c_int::from(lock.l_type)) }
    })
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn descriptions() -> (tempfile::TempDir, File, File) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        File::create(&path).unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let (one, other) = (open(), open());
        (scratch, one, other)
    }

    #[test]
    fn a_byte_is_exclusive_between_two_descriptions_and_others_stay_free() {
        let (_scratch, one, other) = descriptions();
        let far = 1 << 62;
        assert!(try_lock(&one, far, LockKind::Exclusive).unwrap() && is_locked(&other, far).unwrap());
        assert!(!try_lock(&other, far, LockKind::Exclusive).unwrap() && !is_locked(&one, far).unwrap());
        assert!(try_lock(&other, far + 1, LockKind::Exclusive).unwrap());
        unlock(&one, far);
        assert!(try_lock(&other, far, LockKind::Exclusive).unwrap());
    }

    #[test]
    fn a_shared_lock_is_no_live_writers() {
        let (_scratch, one, other) = descriptions();
        assert!(try_lock(&one, 7, LockKind::Shared).unwrap() && try_lock(&other, 7, LockKind::Shared).unwrap());
        assert!(!is_locked(&one, 7).unwrap() && !try_lock(&one, 7, LockKind::Exclusive).unwrap());
    }

    #[test]
    fn a_poll_ends_at_its_deadline_after_one_attempt() {
        let mut attempts = 0;
        let polled = poll(Instant::now(), || {
            attempts += 1;
            Ok::<_, Errno>(None::<()>)
        });
        assert!(polled.unwrap().is_none() && attempts == 1);
    }
}
