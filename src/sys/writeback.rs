//! Write-back of a file's pages: starting it, waiting for it, dropping the pages afterwards.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The kernel lacks the call, a sandbox filters it, or the file is of another kind. No page was touched.
const UNSUPPORTED: [Errno; 4] = [Errno::NOSYS, Errno::PERM, Errno::INVAL, Errno::SPIPE];

/// The kernel lacked a resource for a moment. The pages stay dirty, and a later write-back takes them.
const TEMPORARY: [Errno; 3] = [Errno::NOMEM, Errno::AGAIN, Errno::INTR];

/// Starts the write-back of a range of the file, in bytes.
///
/// This is a hint, and one that the kernel ignores is no failure. An error of the disk or of a full file system is returned. It
/// may be reported only once, so the caller must treat it like a failed sync.
pub(crate) fn start(file: &File, path: impl FnOnce() -> PathBuf, offset: u64, length: u64) -> Result<()> {
    match sync_file_range(file, offset, length, libc::SYNC_FILE_RANGE_WRITE) {
        Err(errno) if UNSUPPORTED.contains(&errno) || TEMPORARY.contains(&errno) => Ok(()),
        result => result.map_err(|errno| Error::system("write back", &path(), errno)),
    }
}

/// Writes back a range of the file, in bytes, and waits for it. This is no sync: neither the file's length nor the disk's own
/// cache is durable afterwards.
///
/// A failure is final: it is reported once, and a later sync of the file can succeed.
pub(crate) fn finish(file: &File, path: impl FnOnce() -> PathBuf, offset: u64, length: u64) -> Result<()> {
    const ALL: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    match sync_file_range(file, offset, length, ALL) {
        // The kernel lacks the call, or a sandbox filters it. Any other error may be the disk's.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        result => result.map_err(|errno| Error::system("write back", &path(), errno)),
    }
}

/// Drops a range of the file from the page cache: without a length, all from `offset` on. Dirty pages stay.
pub(crate) fn drop_pages(file: &File, offset: u64, length: Option<NonZeroU64>) {
    // A hint: if the kernel ignores it, the pages use memory until they are reclaimed.
    let _ = fadvise(file, offset, length, Advice::DontNeed);
}

#[allow(unsafe_code, reason = "rustix has no such call")]
fn sync_file_range(file: &File, offset: u64, length: u64, flags: libc::c_uint) -> std::result::Result<(), Errno> {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return Err(Errno::INVAL) };
    // SAFETY: the descriptor is open for as long as the call takes, and the other arguments are numbers.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    if result == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
}
