//! Images published without waiting for the disk (durability none), and what becomes of them when the host restarts.
//!
//! The kernel may write a file's new name before its bytes, so that after a power cut a torn file stands under a final
//! name. Each such file therefore carries a mark that names the host's start in which it was published; the mark is
//! set before the file gets its name, and file systems keep that order. The mark names the mount as well, by the number
//! that the kernel gives to no other mount until the next start: a volume can be cut off and come back without one. At the
//! first open after another start, or on another mount, marked files are dropped: nobody can tell whether they are whole. A
//! handle that closes syncs what it published and takes the marks off; both have reached the disk when it has closed. Where
//! a mark cannot be set (no extended attributes, no boot id, a kernel before 6.8, which does not number mounts so),
//! publishing waits for the disk instead.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{fsync, syncfs};

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::log::Log;
use crate::driver;
use crate::error::{Error, Result};
use crate::system::directory::Directory;
use crate::system::lock::HostLockGuard;

/// Another text each time the host starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// From how many files on one sync of the whole file system is faster than one sync of each.
const MANY: usize = 32;

/// What one handle published without waiting for the disk.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    ids: Mutex<BTreeSet<ImageId>>,
    /// The mark, which is also on the directory then: neither changes as long as a handle lives.
    mark: OnceLock<String>,
}

impl Unsynced {
    /// Marks a finished file that is about to be published; false when that cannot be done, and the file must be synced.
    pub fn mark(&self, layout: &Layout, file: &File, id: &ImageId) -> bool {
        let marked = self.mark_of(layout).is_some_and(|mark| driver::mark_unsynced(file, mark));
        if marked {
            self.ids().insert(id.clone());
        }
        marked
    }

    /// The mark for files, once the directory has it.
    fn mark_of(&self, layout: &Layout) -> Option<&str> {
        if let Some(mark) = self.mark.get() {
            return Some(mark);
        }
        let mark = present(layout.directory(Place::Cached))?;
        driver::mark_has_unsynced(layout, &mark).ok()?;
        Some(self.mark.get_or_init(|| mark))
    }

    /// Syncs what was published and is still there, and takes the marks off. What could not be synced must not stay.
    pub fn sync(&self, layout: &Layout, log: &Log) -> Vec<(ImageId, File, Error)> {
        let mut failed = Vec::new();
        let ids = std::mem::take(&mut *self.ids());
        if ids.is_empty() {
            return failed;
        }
        if ids.len() > MANY {
            // One sync of everything, after which there is little left to do for each file. Each still tells its errors, unless
            // the kernel has forgotten the file meanwhile: then this alone does, and nobody knows which files it means.
            if let Err(errno) = syncfs(layout.directory(Place::Cached)) {
                let error = Error::system("sync the file system of", layout.directory(Place::Cached).path(), errno);
                log.error(|| format!("{error}; what was not synced is dropped after a restart"));
                return failed;
            }
        }
        for id in ids {
            match layout.open_file(Place::Cached, &id) {
                Ok(Some((file, _))) => match fsync(&file) {
                    // The mark goes after the bytes have arrived; should it stay, the image is dropped after a restart.
                    Ok(()) => drop(driver::clear_unsynced(&file)),
                    Err(errno) => {
                        failed.push((id.clone(), file, Error::system("sync", &layout.path(Place::Cached, &id), errno)));
                    }
                },
                Ok(None) => {}
                Err(error) => log.error(|| error.to_string()),
            }
        }
        // That the marks are gone must reach the disk as well, else images are dropped though their cache was closed. File
        // systems write changes of names and attributes in their order: the directory is changed after all of them (its own
        // mark is set to what it is), and its sync covers them.
        let directory = layout.directory(Place::Cached);
        let changed = present(directory).map_or(Ok(()), |present| driver::mark_has_unsynced(layout, &present));
        if let Err(error) = changed.and_then(|()| layout.sync_published()) {
            log.error(|| error.to_string());
        }
        failed
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, BTreeSet<ImageId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the files that were marked in an earlier start of the host; how many there were.
pub(crate) fn drop_unsynced(layout: &Layout, log: &Log, gate: &HostLockGuard<'_>) -> Result<u64> {
    let present = present(layout.directory(Place::Cached));
    match driver::has_unsynced_since(layout)? {
        None => return Ok(0),
        marked if marked == present => return Ok(0),
        Some(_) => {}
    }
    let mut dropped = 0;
    let mut has_others = false;
    for (id, _) in layout.images(Place::Cached)? {
        let mark = match layout.open_file(Place::Cached, &id) {
            Ok(None) => continue,
            Ok(Some((file, _))) => driver::unsynced_since(&file).map_err(|error| {
                Error::from_io("read an extended attribute of", &layout.path(Place::Cached, &id), &error)
            }),
            // This says nothing of the file.
            Err(error) if error.is_lack_of_resources() => return Err(error),
            Err(error) => Err(error),
        };
        match mark {
            Ok(None) => {}
            Ok(since) if since == present => has_others = true,
            Ok(_) => dropped += u64::from(layout.remove(gate, Place::Cached, &id)?),
            // A mark that cannot be read counts as one: others may be able to open the file, and nobody can tell.
            Err(error) => {
                log.warning(|| error.to_string());
                dropped += u64::from(layout.remove(gate, Place::Cached, &id)?);
            }
        }
    }
    // Through two mounts at once, files of this one may be marked under a directory that was marked through the other: they
    // still are to be found after a cut.
    match present.filter(|_| has_others) {
        Some(present) => driver::mark_has_unsynced(layout, &present)?,
        None => driver::clear_has_unsynced(layout),
    }
    log.warning(|| format!("the host was restarted, or the cache mounted anew: {dropped} images that were not synced before were dropped"));
    Ok(dropped)
}

/// The host's present start, and the mount on which the directory is.
fn present(directory: &Directory) -> Option<String> {
    let boot = std::fs::read_to_string(BOOT_ID).ok()?;
    let boot = boot.trim();
    (!boot.is_empty()).then_some(())?;
    Some(format!("{boot} {}", directory.mount_number()?))
}
