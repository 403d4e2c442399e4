//! Calls on open files: reading at an offset, syncing, truncating, setting times. Each failure names the path, which `path`
//! computes only then.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::os::fd::IntoRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FallocateFlags, Mode, Timestamps, fallocate, fchmod, fdatasync, fsync, ftruncate, futimens};
use rustix::io::{Errno, pread, retry_on_intr, try_close};

use crate::error::{Error, Result};
use crate::sys::descriptors::duplicate;
use crate::sys::signals::without_size_signal;
use crate::sys::stat;
use crate::sys::time::Timestamp;

/// Reads bytes at an offset; 0 at the end of the file.
pub(crate) fn read_at(file: &File, path: impl FnOnce() -> PathBuf, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    retry_on_intr(|| pread(file, &mut *buffer, offset)).map_err(|errno| Error::system("read", &path(), errno))
}

/// Writes all of the bytes, at the end of a file that [`crate::sys::dir::Directory::create`] opened.
pub(crate) fn append(mut file: &File, path: impl FnOnce() -> PathBuf, data: &[u8]) -> Result<()> {
    file.write_all(data).map_err(|error| Error::from_io("write", &path(), &error))
}

/// Writes all of the bytes at an offset, into a file that is not open for appending.
pub(crate) fn write_at(file: &File, path: impl FnOnce() -> PathBuf, offset: u64, data: &[u8]) -> Result<()> {
    file.write_all_at(data, offset).map_err(|error| Error::from_io("write", &path(), &error))
}

/// Sets the mode. The process's umask does not matter.
pub(crate) fn set_mode(file: &File, path: impl FnOnce() -> PathBuf, mode: u32) -> Result<()> {
    retry_on_intr(|| fchmod(file, Mode::from_raw_mode(mode)))
        .map_err(|errno| Error::system("set the mode of", &path(), errno))
}

/// When the file was created; `None` where the file system does not know.
pub(crate) fn birth(file: &File) -> Option<Timestamp> {
    stat::birth(file, OsStr::new(""), AtFlags::EMPTY_PATH)
}

/// Makes a file's bytes and attributes durable. A failure is final: the kernel may have dropped the dirty pages, and a second
/// call can succeed without them.
pub(crate) fn sync(file: &File, path: impl FnOnce() -> PathBuf) -> Result<()> {
    fsync(file).map_err(|errno| Error::system("sync", &path(), errno))
}

/// Frees all bytes of a file.
pub(crate) fn truncate(file: &File, path: impl FnOnce() -> PathBuf) -> Result<()> {
    set_length(file, path, 0)
}

/// Cuts a file off at a length, in bytes.
pub(crate) fn set_length(file: &File, path: impl FnOnce() -> PathBuf, length: u64) -> Result<()> {
    ftruncate(file, length).map_err(|errno| Error::system("truncate", &path(), errno))
}

/// Allocates the blocks of a range of a file on the disk. Its length stays. The blocks behind its end are freed when its length is
/// set again, to the same value as well. Some file systems (tmpfs) apply the process's limit on file sizes to them.
pub(crate) fn reserve(file: &File, path: impl FnOnce() -> PathBuf, range: Range<u64>) -> Result<()> {
    // The kernel refuses an empty range.
    if range.is_empty() {
        return Ok(());
    }
    let length = range.end - range.start;
    without_size_signal(|| retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, range.start, length)))
        .map_err(|errno| Error::system("reserve room for", &path(), errno))
}

/// Extends a file by a hole. Blocks that were allocated there are freed, where the file system can; those behind it stay.
pub(crate) fn append_hole(file: &File, path: impl FnOnce() -> PathBuf, start: u64, end: u64) -> Result<()> {
    const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
    let made = without_size_signal(|| {
        retry_on_intr(|| ftruncate(file, end))?;
        match retry_on_intr(|| fallocate(file, PUNCH, start, end - start)) {
            // Nothing was allocated, as a rule. Else the blocks read as zeros.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            punched => punched,
        }
    });
    made.map_err(|errno| Error::system("extend", &path(), errno))
}

/// Makes a file's bytes durable, and its length.
pub(crate) fn sync_data(file: &File, path: impl FnOnce() -> PathBuf) -> Result<()> {
    fdatasync(file).map_err(|errno| Error::system("sync", &path(), errno))
}

/// Sets the access time; the modification time stays.
pub(crate) fn set_accessed(file: &File, path: impl FnOnce() -> PathBuf, time: Timestamp) -> Result<()> {
    set_times(file, path, &time.as_access_time(), "set the access time of")
}

/// Sets the modification time; the access time stays.
pub(crate) fn set_modified(file: &File, path: impl FnOnce() -> PathBuf, time: Timestamp) -> Result<()> {
    set_times(file, path, &time.as_modification_time(), "set the modification time of")
}

/// Sets the access time and the modification time.
pub(crate) fn set_both_times(
    file: &File,
    path: impl FnOnce() -> PathBuf,
    accessed: Timestamp,
    modified: Timestamp,
) -> Result<()> {
    set_times(file, path, &accessed.as_access_and(modified), "set the times of")
}

fn set_times(file: &File, path: impl FnOnce() -> PathBuf, times: &Timestamps, operation: &'static str) -> Result<()> {
    futimens(file, times).map_err(|errno| Error::system(operation, &path(), errno))
}

/// A second handle of the same open file.
pub(crate) fn duplicated(file: &File, path: impl FnOnce() -> PathBuf) -> Result<File> {
    duplicate(file).map(File::from).map_err(|errno| Error::system("open", &path(), errno))
}

/// Closes a duplicate of the file's descriptor, and returns what the kernel reports there. Network file systems, FUSE and
/// quotas can report lost bytes at a close only. The file itself stays open and locked.
///
/// Returns false when no descriptor was available for the duplicate: then nothing was reported.
pub(crate) fn flush_by_closing(file: &File, path: impl FnOnce() -> PathBuf) -> Result<bool> {
    let closed = retry_on_intr(|| match duplicate(file) {
        Ok(duplicate) => close(duplicate.into_raw_fd()).map(|()| true),
        Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Ok(false),
        Err(errno) => Err(errno),
    });
    closed.map_err(|errno| Error::system("close", &path(), errno))
}

/// Closes a file, and returns what the kernel reports there: bytes may be lost (see [`flush_by_closing`]). After an interruption, the next
/// close of the file reports it.
pub(crate) fn close_reporting(file: File, path: impl FnOnce() -> PathBuf) -> Result<()> {
    match close(file.into_raw_fd()) {
        Ok(()) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::system("close", &path(), errno)),
    }
}

#[allow(unsafe_code, reason = "a close that can fail")]
fn close(descriptor: std::os::fd::RawFd) -> std::result::Result<(), Errno> {
    // SAFETY: the caller has released the descriptor, and nothing uses it after this call, also if it fails.
    unsafe { try_close(descriptor) }
}
