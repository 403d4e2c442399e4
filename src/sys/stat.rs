//! The status of a file.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Stat, StatxFlags, fstat, statx};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::time::Timestamp;

/// A bit of a file's mode that has no meaning for regular files on Linux.
pub(crate) const STICKY: u32 = 0o1000;

/// Identifies a file independent of its name. Two files that exist at the same time never share an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// A file that can be removed, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removable {
    /// Its length, in bytes.
    pub size: u64,
    /// What it takes up on the disk, in bytes. Before the removal: 0 if it has another name, which keeps its bytes.
    pub allocated: u64,
}

/// The status of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileStat {
    pub id: FileId,
    /// A regular file, not a directory, symbolic link, fifo, socket or device.
    pub is_regular: bool,
    /// How many names it has: 0 after it was removed.
    pub links: u64,
    /// The mode without the file's type.
    pub permissions: u32,
    /// Bytes.
    pub size: u64,
    /// What it takes up on the disk, in bytes. Blocks that were reserved behind its end are included.
    pub allocated: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    /// The ctime: the last change of size, times or attributes. Reads do not set it.
    pub changed: Timestamp,
}

/// The status of a file, and when it was created, if the file system knows. Together they distinguish a file from a later one that
/// got its inode number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatAndBirth {
    pub stat: FileStat,
    pub born: Option<Timestamp>,
}

impl FileStat {
    /// Whether its mode has the sticky bit.
    pub fn is_sticky(&self) -> bool {
        self.permissions & STICKY != 0
    }

    /// The status of an open file. `path` is called for messages.
    pub fn of(file: &File, path: impl FnOnce() -> PathBuf) -> Result<Self> {
        fstat(file).map(Self::from).map_err(|errno| Error::system("stat", &path(), errno))
    }
}

// The types of these fields differ between architectures.
#[allow(clippy::useless_conversion, clippy::cast_lossless, clippy::unnecessary_cast)]
impl From<Stat> for FileStat {
    fn from(stat: Stat) -> Self {
        Self {
            id: FileId { device: stat.st_dev, inode: stat.st_ino },
            is_regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            links: stat.st_nlink as u64,
            permissions: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
            accessed: Timestamp::from_parts(stat.st_atime, stat.st_atime_nsec),
            modified: Timestamp::from_parts(stat.st_mtime, stat.st_mtime_nsec),
            changed: Timestamp::from_parts(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// When a file was created; `None` where the file system does not know. An empty name means the file that is open.
pub(crate) fn birth(file: impl AsFd, name: &OsStr, flags: AtFlags) -> Option<Timestamp> {
    let status = statx(file, name, flags, StatxFlags::BTIME).ok()?;
    let is_known = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::BTIME);
    is_known.then(|| Timestamp::from_parts(status.stx_btime.tv_sec, status.stx_btime.tv_nsec.into()))
}

/// What a writer asks of its open file before each chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presence {
    /// How many names it has: 0 after it was removed.
    pub links: u64,
    /// Bytes.
    pub size: u64,
    /// Whether its mode has the sticky bit.
    pub is_sticky: bool,
}

/// Looks at an open file.
///
/// It does not request the times. After a query of the mtime, Linux 6.13 and newer
/// give the next write a finer time stamp, which costs the file system an update of the inode.
#[allow(clippy::useless_conversion, clippy::cast_lossless, clippy::unnecessary_cast)]
pub(crate) fn presence(file: &File, path: impl FnOnce() -> PathBuf) -> Result<Presence> {
    let requested = StatxFlags::NLINK | StatxFlags::SIZE | StatxFlags::MODE;
    let status = match statx(file, c"", AtFlags::EMPTY_PATH, requested) {
        Ok(status) => {
            let is_sticky = u32::from(status.stx_mode) & STICKY != 0;
            Ok(Presence { links: status.stx_nlink.into(), size: status.stx_size, is_sticky })
        }
        // The kernel lacks the call, or a sandbox filters it.
        Err(Errno::NOSYS | Errno::PERM) => fstat(file).map(|stat| {
            let (links, is_sticky) = (stat.st_nlink as u64, stat.st_mode & STICKY != 0);
            Presence { links, size: u64::try_from(stat.st_size).unwrap_or(0), is_sticky }
        }),
        Err(errno) => Err(errno),
    };
    status.map_err(|errno| Error::system("stat", &path(), errno))
}
