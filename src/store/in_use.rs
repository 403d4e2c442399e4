//! Images in use: prune leaves an image while a reader has it open.
//!
//! A reader has a shared lock on its image's file, at a byte far behind every image. It takes the lock between the open and the stat of
//! the file: if the file has no name then, it was removed before.
//!
//! Who evicts an image first takes the same lock, exclusively, and keeps it until the name is gone. So no reader comes in between. If
//! a process is stopped there, readers go on without the lock: they have the bytes all the same.
//!
//! The locks of other programs count as well, on any byte: those of qemu, for example, which has opened the image by its path.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::sys::lock::{LockKind, is_any_locked, poll, try_lock, unlock};
use crate::sys::stat::FileStat;

const READERS: u64 = 1 << 62;

/// An eviction takes less between its lock and the removal of the name.
const EVICTION: Duration = Duration::from_millis(1);

/// Opens a cached image's file for a reader, who has to end that with [`leave`]. `None` when it is not there.
pub(crate) fn open(layout: &Layout, id: &ImageId) -> Result<Option<(File, FileStat)>> {
    let Some(file) = layout.directory(Area::Cached).open_file(id.as_file_name())? else { return Ok(None) };
    enter(&file);
    let stat = FileStat::of(&file, || layout.path(Area::Cached, id))?;
    Ok((stat.is_regular && stat.is_linked).then_some((file, stat)))
}

/// Where this fails, the image is not kept from eviction.
fn enter(file: &File) {
    let locked = || try_lock(file, READERS, LockKind::Shared);
    if matches!(locked(), Ok(false)) {
        let _ = poll(Instant::now() + EVICTION, || locked().map(|is_locked| is_locked.then_some(())));
    }
}

/// The reader is done. Not left to the close of its descriptor, which a forked child may hold open for longer.
pub(crate) fn leave(file: impl AsFd) {
    unlock(file, READERS);
}

/// Keeps readers from opening an image that is about to be evicted, until it is dropped.
pub(crate) enum Claim {
    /// It has no reader.
    Unused {
        _locked: Option<File>,
    },
    Used,
}

/// Claims an image for its eviction.
pub(crate) fn claim(layout: &Layout, id: &ImageId) -> Claim {
    // Another user's image cannot be claimed, nor any without a free descriptor: a reader may come in between.
    let Ok(Some(file)) = layout.directory(Area::Cached).open_to_write(id.as_file_name()) else {
        return if is_used(layout, id) { Claim::Used } else { Claim::Unused { _locked: None } };
    };
    // Where there are no locks, it is unknown.
    let is_locked = try_lock(&file, READERS, LockKind::Exclusive).unwrap_or(true);
    if !is_locked || is_any_locked(&file).unwrap_or(false) {
        return Claim::Used;
    }
    Claim::Unused { _locked: Some(file) }
}

/// Whether somebody has the image open, as far as this process can tell.
pub(crate) fn is_used(layout: &Layout, id: &ImageId) -> bool {
    let opened = layout.open_file(Area::Cached, id).ok().flatten();
    opened.is_some_and(|(file, _)| is_any_locked(&file).unwrap_or(false))
}
