//! What a directory's mount is: whether files can be moved to another directory, whether a small change copies a file, and how much is
//! free.

use rustix::fs::{AtFlags, StatxFlags, fstatfs, fstatvfs, statx};
use rustix::system::uname;

use crate::error::{Error, Result};
use crate::sys::dir::Directory;

/// Fails when files cannot be moved between a directory and its subdirectory, which then is another file system, subvolume or
/// mount.
pub(crate) fn check_is_movable(subdirectory: &Directory, directory: &Directory) -> Result<()> {
    let is_other_mount = mount_of(subdirectory).zip(mount_of(directory)).is_some_and(|(mount, other)| mount != other);
    if subdirectory.id()?.device == directory.id()?.device && !is_other_mount {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "a subdirectory is on another file system, subvolume or mount than the cache's directory, so that no file can be moved \
         there; unmount it, or make it an ordinary directory: '{}'",
        subdirectory.path().display()
    )))
}

/// What a file system has, and what is free of it. The superuser's reserve is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystemSpace {
    pub bytes: u64,
    pub free_bytes: u64,
    /// 0 where it has no fixed number of them.
    pub inodes: u64,
    pub free_inodes: u64,
    /// The smallest number of bytes that it allocates.
    pub block: u64,
}

impl FileSystemSpace {
    pub fn of(directory: &Directory) -> Result<Self> {
        let status = fstatvfs(directory).map_err(|errno| Error::system("stat", directory.path(), errno))?;
        Ok(Self {
            bytes: status.f_blocks.saturating_mul(status.f_frsize),
            free_bytes: status.f_bavail.saturating_mul(status.f_frsize),
            inodes: status.f_files,
            free_inodes: status.f_favail,
            block: status.f_frsize.max(512),
        })
    }
}

/// Whether the file system has room for a few small files. The superuser's reserve does not count.
pub(crate) fn has_room(directory: &Directory) -> Result<bool> {
    const FEW_BLOCKS: u64 = 32;
    let status = fstatvfs(directory).map_err(|errno| Error::system("stat", directory.path(), errno))?;
    // Some file systems allocate inodes dynamically, and report 0.
    let has_inodes = status.f_files == 0 || status.f_favail > 2;
    Ok(status.f_bavail > FEW_BLOCKS && has_inodes)
}

/// The id of its mount at present; `None` on kernels without it (before 5.8).
fn mount_of(directory: &Directory) -> Option<u64> {
    let status = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID).then_some(status.stx_mnt_id)
}

/// The unique id of its mount, which no other mount gets until the host restarts. `None` on kernels without it.
pub(crate) fn unique_mount_of(directory: &Directory) -> Option<u64> {
    // STATX_MNT_ID_UNIQUE, Linux 6.8.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let status = statx(directory, c"", AtFlags::EMPTY_PATH, UNIQUE).ok()?;
    StatxFlags::from_bits_retain(status.stx_mask).contains(UNIQUE).then_some(status.stx_mnt_id)
}

/// Whether a change of a directory after a stat of it always gives the directory another ctime: Linux 6.13 and newer, on these
/// file systems (fs.h, `FS_MGTIME`), unless they store whole seconds.
pub(crate) fn has_exact_times(directory: &Directory) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    // The type differs between architectures.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let is_known = fstatfs(directory).is_ok_and(|status| [EXT4, XFS, BTRFS].contains(&(status.f_type as u64)));
    is_known && is_at_least(uname().release().to_str().unwrap_or_default(), (6, 13))
}

/// Whether a kernel's release is a version or a newer one.
fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// Whether it is on overlayfs, where a change of the times or attributes of a lower layer's file copies the whole file.
pub(crate) fn is_overlay(directory: &Directory) -> bool {
    const OVERLAYFS: u64 = 0x794c_7630;
    // The type differs between architectures.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    fstatfs(directory).is_ok_and(|status| status.f_type as u64 == OVERLAYFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_first_two_numbers() {
        for newer in ["6.13.0", "6.18.5-amd64", "7.0", "10.1-rc1"] {
            assert!(is_at_least(newer, (6, 13)), "{newer}");
        }
        for older in ["6.12.99", "6.1.0-28-amd64", "5.19", "", "Linux"] {
            assert!(!is_at_least(older, (6, 13)), "{older}");
        }
    }
}
