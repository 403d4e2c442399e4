//! Images published without a sync (durability none), and what happens to them when the host restarts.
//!
//! The kernel may write a file's new name before its bytes, so a power cut can leave a torn file under a final name. Each such
//! file therefore carries a mark, set before the file gets its name; file systems keep that order. The mark contains:
//!
//! - the boot id: after a restart, it is unknown whether a marked file's bytes reached the disk;
//! - the unique id of the mount: a volume can be cut off and come back without a restart.
//!
//! The first open in another boot, or on another mount, drops all marked files. The directory carries a mark, too, so that this
//! open need not look at each file. A handle that closes syncs what it published, removes the marks, and syncs the directory, so
//! both are durable. Where no mark can be set (no attributes, no boot id, Linux before 6.8 without mount ids), publishing syncs.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::log::Log;
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::dir::Directory;
use crate::sys::{file, process};

/// Above this number of files, one sync of the file system is faster than a sync of each.
const MANY: usize = 32;

/// What one handle published without a sync.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    ids: Mutex<BTreeSet<ImageId>>,
    /// The mark, once the directory has it. It does not change while a handle is open.
    mark: OnceLock<String>,
}

impl Unsynced {
    /// Marks a finished file before it is published. False when that is impossible, and the file must be synced.
    pub fn mark(&self, layout: &Layout, file: &File, id: &ImageId) -> bool {
        let marked = self.directory_mark(layout).is_some_and(|mark| {
            // The file system may have no room for it.
            attributes::set(file, Attribute::Unsynced, mark).is_ok()
        });
        if marked {
            self.ids().insert(id.clone());
        }
        marked
    }

    /// The present mark, after the directory got it.
    fn directory_mark(&self, layout: &Layout) -> Option<&str> {
        if let Some(mark) = self.mark.get() {
            return Some(mark);
        }
        let mark = present_mark(layout.directory(Area::Cached))?;
        mark_directory(layout, &mark).ok()?;
        Some(self.mark.get_or_init(|| mark))
    }

    /// Syncs what was published and still exists, and removes the marks. Returns the files that could not be synced, which must
    /// be withdrawn.
    pub fn sync(&self, layout: &Layout, log: &Log) -> Vec<(ImageId, File, Error)> {
        let mut failed = Vec::new();
        let ids = std::mem::take(&mut *self.ids());
        if ids.is_empty() {
            return failed;
        }
        // After it, the syncs below have little to do. Each of them reports its file's errors, unless the kernel dropped the inode
        // meanwhile: then only this call reports them, without saying for which files.
        if ids.len() > MANY
            && let Err(error) = layout.directory(Area::Cached).sync_file_system()
        {
            log.error(|| format!("{error}; unsynced images are dropped after a restart"));
            return failed;
        }
        for id in ids {
            match layout.open_file(Area::Cached, &id) {
                Ok(Some((file, _))) => match file::sync(&file, || layout.path(Area::Cached, &id)) {
                    // The mark goes after the bytes arrived. If it stays, the image is dropped after a restart.
                    Ok(()) => drop(attributes::remove(&file, Attribute::Unsynced)),
                    Err(error) => failed.push((id, file, error)),
                },
                Ok(None) => {}
                Err(error) => log.error(|| error.to_string()),
            }
        }
        // The removal of the marks must be durable as well, else images of a closed cache are dropped. File systems write changes
        // of names and attributes in order. This change of the directory comes after all of them, and its sync covers them.
        let directory = layout.directory(Area::Cached);
        let marked = present_mark(directory).map_or(Ok(()), |mark| mark_directory(layout, &mark));
        if let Err(error) = marked.and_then(|()| layout.sync_published()) {
            log.error(|| error.to_string());
        }
        failed
    }

    fn ids(&self) -> MutexGuard<'_, BTreeSet<ImageId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the files that were marked in another boot or on another mount. Returns how many there were.
pub(crate) fn drop_unsynced(layout: &Layout, log: &Log, lock: &CacheLockGuard<'_>) -> Result<u64> {
    let present = present_mark(layout.directory(Area::Cached));
    match mark_of_directory(layout)? {
        None => return Ok(0),
        marked if marked == present => return Ok(0),
        Some(_) => {}
    }
    let mut dropped = 0;
    let mut has_present = false;
    for (id, _) in layout.images(Area::Cached)? {
        let mark = match layout.open_file(Area::Cached, &id) {
            Ok(None) => continue,
            Ok(Some((file, _))) => mark_of(&file).map_err(|error| {
                Error::from_io("read an extended attribute of", &layout.path(Area::Cached, &id), &error)
            }),
            // The failure is not the file's.
            Err(error) if error.is_lack_of_resources() => return Err(error),
            Err(error) => Err(error),
        };
        match mark {
            Ok(None) => {}
            Ok(mark) if mark == present => has_present = true,
            Ok(_) => dropped += u64::from(layout.remove(lock, Area::Cached, &id)?.is_some()),
            // An unreadable mark counts as a mark: other users may be able to open the file, and it may be torn.
            Err(error) => {
                log.warning(|| error.to_string());
                dropped += u64::from(layout.remove(lock, Area::Cached, &id)?.is_some());
            }
        }
    }
    // With two mounts at once, files of this mount may be marked while the directory has the other one's mark. They must still
    // be found after a power cut.
    match present.filter(|_| has_present) {
        Some(present) => mark_directory(layout, &present)?,
        None => unmark_directory(layout),
    }
    log.warning(|| {
        format!(
            "the host restarted, or the cache was mounted again: {dropped} images that were not synced were dropped"
        )
    });
    Ok(dropped)
}

/// The mark of the present boot and of the directory's mount.
fn present_mark(directory: &Directory) -> Option<String> {
    Some(format!("{} {}", process::boot_id()?, directory.mount_id()?))
}

/// The mark of a file. Fails when it cannot be read.
fn mark_of(file: &File) -> std::io::Result<Option<String>> {
    match attributes::get(file, Attribute::Unsynced) {
        // Without attributes, nothing was ever marked.
        Err(error) if crate::sys::attribute::is_unsupported(&error) => Ok(None),
        mark => mark,
    }
}

fn mark_of_directory(layout: &Layout) -> Result<Option<String>> {
    let directory = layout.directory(Area::Cached);
    attributes::of_directory(directory, mark_of)
        .map_err(|error| Error::from_io("read an extended attribute of", directory.path(), &error))
}

/// Marks the directory as one with marked files.
fn mark_directory(layout: &Layout, mark: &str) -> Result<()> {
    let directory = layout.directory(Area::Cached);
    attributes::of_directory(directory, |file| attributes::set(file, Attribute::Unsynced, mark))
        .map_err(|error| Error::from_io("set an extended attribute of", directory.path(), &error))
}

fn unmark_directory(layout: &Layout) {
    let directory = layout.directory(Area::Cached);
    // If the mark stays, the next open looks at all files again.
    let _ = attributes::of_directory(directory, |file| attributes::remove(file, Attribute::Unsynced));
}
