//! A file that SQLite names by a path through its directory's descriptor (`/proc/thread-self/fd/N/NAME`). Here it is opened and
//! looked at by descriptor and name: the kernel resolves the path in several steps, which cost more than the call itself.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::sys::descriptors::open_at;

/// How such a path begins (see [`crate::sys::dir::Directory::path_through_descriptor`]).
const PREFIXES: [&[u8]; 2] = [b"/proc/thread-self/fd/", b"/proc/self/fd/"];

const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

/// A name in an open directory.
pub(crate) struct Entry<'a> {
    directory: BorrowedFd<'a>,
    name: &'a CStr,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadAndWrite,
}

impl<'a> Entry<'a> {
    /// `None` when the path is another one.
    #[allow(unsafe_code, reason = "a descriptor's number in a path")]
    pub fn of(path: &'a CStr) -> Option<Self> {
        let bytes = path.to_bytes();
        let prefix = PREFIXES.into_iter().find(|prefix| bytes.starts_with(prefix))?;
        let length = bytes[prefix.len()..].iter().position(|byte| *byte == b'/')?;
        let number =
            std::str::from_utf8(&bytes[prefix.len()..][..length]).ok()?.parse().ok().filter(|number| *number >= 0)?;
        let name = path.to_bytes_with_nul().get(prefix.len() + length + 1..)?;
        let name = CStr::from_bytes_with_nul(name).ok().filter(|name| !name.to_bytes().contains(&b'/'))?;
        // SAFETY: the path was made from a `Directory`, which lives as long as the connection that uses the path.
        Some(Self { directory: unsafe { BorrowedFd::borrow_raw(number) }, name })
    }

    /// Opens the file. A symbolic link is not followed.
    pub fn open(&self, access: Access) -> io::Result<File> {
        self.try_open(access).map_err(io::Error::from)
    }

    fn try_open(&self, access: Access) -> Result<File, Errno> {
        let flags = if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        open_at(self.directory, self.name, PLAIN | flags, Mode::empty()).map(File::from)
    }

    /// Opens the file for reading and writing. A missing one is created with the mode of the file that has the path `model`; and, if
    /// this process is root's, for that file's owner.
    pub fn open_or_create(&self, model: &CStr) -> io::Result<File> {
        const PERMISSIONS: u32 = 0o777;
        match self.try_open(Access::ReadAndWrite) {
            Err(Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        let model = Entry::of(model).ok_or(Errno::INVAL)?.stat()?;
        let mode = Mode::from_raw_mode(model.st_mode & PERMISSIONS);
        let file = match open_at(self.directory, self.name, PLAIN | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)
        {
            Err(Errno::EXIST) => return self.open(Access::ReadAndWrite),
            opened => File::from(opened?),
        };
        // Independent of the process's umask. Without the right mode or owner, others of the group cannot roll it back; SQLite does the same.
        let _ = fchmod(&file, mode);
        if geteuid().is_root() {
            let _ = fchown(&file, Some(Uid::from_raw(model.st_uid)), Some(Gid::from_raw(model.st_gid)));
        }
        Ok(file)
    }

    /// Whether there is something with the name, other than an empty file.
    pub fn exists(&self) -> Result<bool, Errno> {
        let is_there = |stat: Stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size > 0;
        match self.stat() {
            Ok(stat) => Ok(is_there(stat)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn stat(&self) -> Result<Stat, Errno> {
        statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}
