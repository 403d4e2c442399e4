//! What a directory's mount is: whether files can be moved to another directory, and whether a small change copies a file.

use rustix::fs::{AtFlags, StatxFlags, fstatfs, statx};

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

/// The id of its mount at present; `None` on kernels without it (before 5.8).
fn mount_of(directory: &Directory) -> Option<u64> {
    let status = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID).then_some(status.stx_mnt_id)
}

/// Whether it is on overlayfs, where a change of the times or attributes of a lower layer's file copies the whole file.
pub(crate) fn is_overlay(directory: &Directory) -> bool {
    const OVERLAYFS: u64 = 0x794c_7630;
    // The type differs between architectures.
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)]
    fstatfs(directory).is_ok_and(|status| status.f_type as u64 == OVERLAYFS)
}
