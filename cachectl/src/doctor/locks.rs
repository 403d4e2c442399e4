//! Queries of the cache's locks. A query takes no lock, and makes nobody wait.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{self, SEEK_SET, flock};

/// The cache lock's byte.
const CACHE: u64 = 0;

/// The byte of the writer of a file with that inode.
pub fn writer_of(inode: u64) -> u64 {
    const FIRST: u64 = 1 << 62;
    FIRST | (inode & (FIRST - 1))
}

/// The byte of a stream's record that its participants lock.
pub const PARTICIPANTS: u64 = 1;

/// For so long a lock that is always held is looked at, and how often. It is held for milliseconds at most.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until the cache lock is free for a moment; fails after this time. What is done under one lock, such as the creation of a file
/// and the lock of its writer, is done then.
pub fn seen_free(lock_file: impl AsFd) -> Result<(), Duration> {
    for look in 0..LOOKS {
        if !is_locked(&lock_file, CACHE).unwrap_or(false) {
            return Ok(());
        }
        if look + 1 < LOOKS {
            std::thread::sleep(PAUSE);
        }
    }
    Err(PAUSE * LOOKS)
}

/// Whether somebody has a lock on a byte.
pub fn is_locked(file: impl AsFd, byte: u64) -> nix::Result<bool> {
    #[allow(clippy::cast_possible_truncation)] // Small constants of the kernel.
    let (kind, whence) = (libc::F_WRLCK as libc::c_short, SEEK_SET as libc::c_short);
    let start = i64::try_from(byte).map_err(|_| nix::errno::Errno::EOVERFLOW)?;
    let mut query = flock { l_type: kind, l_whence: whence, l_start: start, l_len: 1, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut query))?;
    Ok(i32::from(query.l_type) != libc::F_UNLCK)
}
