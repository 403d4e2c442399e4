//! When a file's bytes go from the page cache to the disk: begun with, waited for, and dropped from memory afterwards.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

/// The kernel looked at no page: it does not have the call, a sandbox forbids it, or the file is of no such kind.
const NOT_TAKEN: [Errno; 4] = [Errno::NOSYS, Errno::PERM, Errno::INVAL, Errno::SPIPE];

/// The kernel lacked something for the moment: the pages are still there, for the next one who writes them.
const LEFT_ALONE: [Errno; 3] = [Errno::NOMEM, Errno::AGAIN, Errno::INTR];

/// Tells the kernel to begin with writing some of the file's bytes to the disk.
///
/// That is a hint, and one that is not taken is no failure. It fails with what the disk says, which nobody may hear again: what a
/// file system drops where it finds no room or a broken disk, it tells to who made it write.
pub(crate) fn begin(file: &File, offset: u64, length: u64) -> Result<(), Errno> {
    match sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE) {
        Err(errno) if NOT_TAKEN.contains(&errno) || LEFT_ALONE.contains(&errno) => Ok(()),
        result => result,
    }
}

/// Has some of the file's bytes written, and waits for it. Neither the file's length nor what the disk itself keeps in its cache
/// is durable then: this is no sync.
///
/// A failure is final: it is told once, and a later sync of the file may say that all is well.
pub(crate) fn finish(file: &File, offset: u64, length: u64) -> Result<(), Errno> {
    const ALL: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    match sync_file_range(file, offset, length, ALL) {
        // A kernel without the call, or a sandbox that forbids it. Any other error may be what the disk said.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        result => result,
    }
}

/// Drops some of the file's bytes from the page cache; all from `offset` on without a length. What is not on the disk yet stays.
pub(crate) fn forget(file: &File, offset: u64, length: Option<NonZeroU64>) {
    // A hint: should it not be taken, there is less memory for others.
    let _ = fadvise(file, offset, length, Advice::DontNeed);
}

#[allow(unsafe_code, reason = "rustix has no such call")]
fn sync_file_range(file: &File, offset: u64, length: u64, flags: libc::c_uint) -> Result<(), Errno> {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return Err(Errno::INVAL) };
    // SAFETY: the descriptor is open for as long as the call takes, and the other arguments are numbers.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}
