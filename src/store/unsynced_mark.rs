//! The marks of images that were published without a sync, and the mark of a cache that may have such images.
//!
//! An image's mark is the boot id and the mount id, with a space between them. The cache's mark, on `.image_cache/`, begins with the
//! same, and has a third word, which is never the same twice, and which only changes under the cache lock:
//!
//! - `closed-` and a number: no image has a mark. A handle verified this, and no handle began to publish without a sync since.
//! - A number: images may have marks. A handle that begins to publish sets a new one. If the mark was missing or closed before, and
//!   still is this handle's at its close, then no other handle published without a sync since. All marks were the handle's own, and
//!   the mark becomes closed. Otherwise another handle published, and its process may have died. The last handle that closes then
//!   looks at all images, and, if the mark did not change meanwhile, closes it.
//!
//! A restart of the host is noticed by the first two words alone. The first version of this library had its mark on the cache's
//! directory, and no lock file: then every image is looked at (see `unsynced`).

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::AsFd;

use crate::error::{Error, Result};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::recognise::OWN_SUBDIRECTORY;
use crate::sys::boot::boot_id;
use crate::sys::dir::Directory;
use crate::sys::mount::unique_mount_of;
use crate::sys::time::Timestamp;

/// The place of the cache's mark while marked files are left behind, and the mark of a file that could not be synced. No boot and no
/// mount has it.
pub(super) const LEFT_BEHIND: &str = "left behind";

const CLOSED: &str = "closed-";

/// The mark of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheMark(String);

/// Whether images may have marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Open,
    Closed,
}

impl Group {
    pub fn of(mark: Option<&CacheMark>) -> Self {
        if mark.is_some_and(CacheMark::is_closed) { Self::Closed } else { Self::Open }
    }
}

impl CacheMark {
    /// The boot and the mount, as in the marks of images.
    pub fn place(&self) -> &str {
        self.0.match_indices(' ').nth(1).map_or(&self.0, |(end, _)| &self.0[..end])
    }

    pub fn is_left_behind(&self) -> bool {
        self.place() == LEFT_BEHIND
    }

    /// Whether no image has a mark.
    pub fn is_closed(&self) -> bool {
        self.0.split(' ').nth(2).is_some_and(|word| word.starts_with(CLOSED))
    }
}

/// The mark of the present boot and of the directory's mount.
pub(super) fn present(directory: &Directory) -> Option<String> {
    Some(format!("{} {}", boot_id()?, unique_mount_of(directory)?))
}

/// Whether a mark is of another boot than the present one. False where that is unknown.
pub(super) fn is_of_other_boot(mark: &str) -> bool {
    let boot = mark.split_once(' ').map_or(mark, |(boot, _)| boot);
    boot_id().is_some_and(|present| boot != present)
}

/// The mark of an image's file. Fails when it cannot be read.
pub(super) fn of_image(layout: &Layout, file: &File, id: &ImageId) -> Result<Option<String>> {
    let failed = |error| Error::from_io("read an extended attribute of", &layout.path(Area::Cached, id), &error);
    mark_of(file).map_err(failed)
}

/// Removes the mark of an image's file.
pub(super) fn remove_of_image(layout: &Layout, file: &File, id: &ImageId) -> Result<()> {
    let failed = |error| Error::from_io("remove an extended attribute of", &layout.path(Area::Cached, id), &error);
    attributes::remove(file, Attribute::Unsynced).map_err(failed)
}

/// The mark of a file or directory. Fails when it cannot be read.
fn mark_of(file: impl AsFd) -> std::io::Result<Option<String>> {
    match attributes::get(file, Attribute::Unsynced) {
        // Without attributes, nothing was ever marked.
        Err(error) if crate::sys::attribute::is_unsupported(&error) => Ok(None),
        mark => mark,
    }
}

/// The cache's mark.
pub(super) fn of_cache(layout: &Layout) -> Result<Option<CacheMark>> {
    let Some(directory) = own_directory(layout)? else { return Ok(None) };
    match mark_of(&directory) {
        Ok(mark) => Ok(mark.map(CacheMark)),
        Err(error) => Err(Error::from_io("read an extended attribute of", directory.path(), &error)),
    }
}

/// Gives the cache a mark that it never had. The mark is not on the cache's directory, whose ctime belongs to the stamp.
pub(super) fn set(_lock: &CacheLockGuard<'_>, layout: &Layout, place: &str, group: Group) -> Result<CacheMark> {
    let prefix = if group == Group::Closed { CLOSED } else { "" };
    let mark = CacheMark(format!("{place} {prefix}{:016x}", unique_number()));
    let (directory, _) = layout.directory(Area::Cached).open_or_create(OWN_SUBDIRECTORY)?;
    attributes::set(&directory, Attribute::Unsynced, &mark.0)
        .map_err(|error| Error::from_io("set an extended attribute of", directory.path(), &error))?;
    Ok(mark)
}

/// Removes the cache's mark.
pub(super) fn unset(layout: &Layout) -> Result<()> {
    let Some(directory) = own_directory(layout)? else { return Ok(()) };
    attributes::remove(&directory, Attribute::Unsynced)
        .map_err(|error| Error::from_io("remove an extended attribute of", directory.path(), &error))
}

/// Makes the removal of images' marks durable, after [`set`]. File systems write changes of names and attributes in order. The change of
/// `.image_cache/` came after all of them, and its sync covers them. (ext4 does not store a mark that is the same as before.)
pub(super) fn sync_removals(layout: &Layout) -> Result<()> {
    own_directory(layout)?.map_or(Ok(()), |directory| directory.sync())?;
    layout.sync_published()
}

fn own_directory(layout: &Layout) -> Result<Option<Directory>> {
    layout.directory(Area::Cached).open_subdirectory(OWN_SUBDIRECTORY)
}

/// A number that neither this process nor another one gets again. A forked child has its parent's random keys.
fn unique_number() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_i64(Timestamp::now().as_nanoseconds());
    hasher.finish()
}
