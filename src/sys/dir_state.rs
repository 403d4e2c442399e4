//! What identifies a directory and its present names.

use rustix::fs::{AtFlags, StatxFlags, StatxTimestamp, statx};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::dir::Directory;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// What identifies a directory and its present names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DirectoryState {
    device: u64,
    inode: u64,
    /// `None` where the file system does not know.
    born: Option<Timestamp>,
    /// The ctime, which only the kernel sets.
    pub changed: Timestamp,
    pub modified: Timestamp,
}

impl Directory {
    /// What identifies the directory and its present names.
    pub fn state(&self) -> Result<DirectoryState> {
        let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match statx(self, c"", AtFlags::EMPTY_PATH, flags) {
            Ok(status) => {
                let time = |time: StatxTimestamp| Timestamp::from_parts(time.tv_sec, time.tv_nsec.into());
                let has_birth = StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::BTIME);
                Ok(DirectoryState {
                    device: u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor),
                    inode: status.stx_ino,
                    born: has_birth.then(|| time(status.stx_btime)),
                    changed: time(status.stx_ctime),
                    modified: time(status.stx_mtime),
                })
            }
            // The kernel lacks the call, or a sandbox filters it.
            Err(Errno::NOSYS | Errno::PERM) => {
                let FileStat { id, changed, modified, .. } = self.own_stat()?;
                Ok(DirectoryState { device: id.device, inode: id.inode, born: None, changed, modified })
            }
            Err(errno) => Err(Error::system("stat", self.path(), errno)),
        }
    }
}
