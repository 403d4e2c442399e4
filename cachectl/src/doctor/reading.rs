//! Reads files and directories without leaving a trace: no access time changes, no link is followed, no fifo blocks.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, openat, statat};
use rustix::io::{Errno, Result};

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOFOLLOW);

/// Opens to read. Only a file's owner may leave its access time alone; for others the kernel records the access as the mount says.
fn open_at(directory: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd> {
    match openat(directory.as_fd(), name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Opens a directory by its path. Links in the path are followed.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    open_at(CWD, path.as_os_str(), FLAGS.difference(OFlags::NOFOLLOW) | OFlags::DIRECTORY)
}

/// Opens a subdirectory.
pub fn open_subdirectory(directory: impl AsFd, name: impl AsRef<OsStr>) -> Result<OwnedFd> {
    open_at(directory, name.as_ref(), FLAGS | OFlags::DIRECTORY)
}

/// Opens a file.
pub fn open_file(directory: impl AsFd, name: impl AsRef<OsStr>) -> Result<File> {
    open_at(directory, name.as_ref(), FLAGS).map(File::from)
}

/// A small file's content, up to 64 KiB; `None` when it cannot be read.
pub fn content(directory: impl AsFd, name: impl AsRef<OsStr>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(directory, name).ok()?.take(1 << 16).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A status, not of a link's target; `None` when there is no such file.
pub fn status(directory: impl AsFd, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
    match statat(directory, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names in a directory, without `.` and `..`, in order.
pub fn names(directory: impl AsFd) -> Result<Vec<OsString>> {
    let reopened = open_at(&directory, OsStr::new("."), FLAGS | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::new(reopened)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
