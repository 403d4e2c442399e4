//! Images published without waiting for the disk (durability none), and what becomes of them when the host restarts.
//!
//! The kernel may write a file's new name before its bytes, so that after a power cut a torn file stands under a final
//! name. Each such file therefore carries a mark that names the host's start in which it was published; the mark is
//! set before the file gets its name, and file systems keep that order. At the first open after another start,
//! marked files are dropped: nobody can tell whether they are whole. A handle that closes syncs what it published and takes
//! the marks off. Where a mark cannot be set (no extended attributes, no boot id), publishing waits for the disk instead.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use rustix::fs::fsync;

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::log::Log;
use crate::driver;
use crate::error::Result;
use crate::system::lock::HostLockGuard;

/// Another text each time the host starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What one handle published without waiting for the disk.
#[derive(Debug, Default)]
pub(crate) struct Unsynced(Mutex<Vec<ImageId>>);

impl Unsynced {
    /// Marks a finished file that is about to be published; false when that cannot be done, and the file must be synced.
    pub fn mark(&self, layout: &Layout, file: &File, id: &ImageId) -> bool {
        let marked = boot_id().is_some_and(|boot| driver::mark_unsynced(file, layout.directory(Place::Cached), &boot));
        if marked {
            self.ids().push(id.clone());
        }
        marked
    }

    /// Syncs what was published and is still there, and takes the marks off.
    pub fn sync(&self, layout: &Layout, log: &Log) {
        let ids = std::mem::take(&mut *self.ids());
        if ids.is_empty() {
            return;
        }
        for id in &ids {
            match layout.open_file(Place::Cached, id) {
                Ok(Some((file, _))) => match fsync(&file) {
                    // The mark goes after the bytes have arrived; should it stay, the image is dropped after a restart.
                    Ok(()) => drop(driver::clear_unsynced(&file)),
                    Err(errno) => {
                        log.error(|| format!("cannot sync '{}': {errno}", layout.path(Place::Cached, id).display()));
                    }
                },
                Ok(None) => {}
                Err(error) => log.error(|| error.to_string()),
            }
        }
        if let Err(error) = layout.sync_published() {
            log.error(|| error.to_string());
        }
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, Vec<ImageId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the files that were marked in an earlier start of the host; how many there were.
pub(crate) fn drop_unsynced(layout: &Layout, log: &Log, gate: &HostLockGuard<'_>) -> Result<u64> {
    let boot = boot_id();
    match driver::has_unsynced_since(layout) {
        None => return Ok(0),
        marked if marked == boot => return Ok(0),
        Some(_) => {}
    }
    let mut dropped = 0;
    for image in layout.images(Place::Cached)? {
        let (id, _) = image?;
        let Some((file, _)) = layout.open_file(Place::Cached, &id)? else { continue };
        if driver::unsynced_since(&file).is_some_and(|since| Some(since) != boot) {
            dropped += u64::from(layout.remove(gate, Place::Cached, &id)?);
        }
    }
    driver::clear_has_unsynced(layout);
    log.warning(|| format!("the host was restarted: {dropped} images that were not synced before were dropped"));
    Ok(dropped)
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
