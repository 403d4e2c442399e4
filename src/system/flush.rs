//! What closing a file says of the bytes that were written to it.

use std::fs::File;
use std::os::fd::IntoRawFd as _;

use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr, try_close};

/// Closes a second descriptor of the file, and says what the kernel says to that: file systems that write late (of networks, of
/// user space, with quotas) report there what went wrong. The file itself stays open, and locked.
///
/// One that was interrupted has not failed: what it would have reported, the next one does. False when there is no descriptor to
/// be had for it: then nothing was said.
pub(crate) fn flush_by_closing(file: &File) -> Result<bool, Errno> {
    retry_on_intr(|| match fcntl_dupfd_cloexec(file, 0) {
        Ok(second) => close(second.into_raw_fd()).map(|()| true),
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Ok(false),
        Err(errno) => Err(errno),
    })
}

#[allow(unsafe_code, reason = "a close that can fail")]
fn close(descriptor: std::os::fd::RawFd) -> Result<(), Errno> {
    // SAFETY: the caller gave up the ownership of the descriptor, which is not used any more, whatever this returns.
    unsafe { try_close(descriptor) }
}
