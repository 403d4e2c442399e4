//! Images published without a sync (durability none), and what happens to them when the host restarts.
//!
//! The kernel may write a file's new name before its bytes, so a power cut can leave a torn file under a final name. Each such
//! file therefore carries a mark, set before the file gets its name; file systems keep that order. The mark contains:
//!
//! - the boot id: after a restart, it is unknown whether a marked file's bytes reached the disk;
//! - the unique id of the mount: a volume can be cut off and come back without a restart.
//!
//! The first open in another boot, or on another mount, drops all marked files. The directory carries a mark, too, so that this
//! open need not look at each file: it is on `.image_cache/`. A cache without a lock file is looked at as if it were marked, since
//! somebody may have removed that subdirectory. A handle that closes syncs what it published, removes the marks, and syncs the directory, so
//! both are durable. A clean does the same for all marked files: those of a process that died would be dropped after a restart.
//! Where no mark can be set (no attributes, no boot id, Linux before 6.8 without mount ids), publishing syncs.
//!
//! # What cannot be dropped
//!
//! A file whose mark cannot be read, or that cannot be removed (an unreadable inode, another user's file, an immutable one, a
//! read-only mount), is logged and left behind. The directory is marked so that every later open looks again. A handle
//! that opened such a directory reads the mark of each image that it opens, and does not serve one of another boot or mount.
//!
//! A directory that is mounted twice (a container's bind mount) has live images with the marks of two mounts. A handle that is
//! opened beside another one therefore trusts all marks of the present boot, unless files were left behind.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::log::{Log, SkippedErrors};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::recognise::OWN_SUBDIRECTORY;
use crate::sys::dir::Directory;
use crate::sys::{file, process};

/// Above this number of files, one sync of the file system is faster than a sync of each.
const MANY: usize = 32;

/// Above this number of images, their ids are not kept: the close reads the marks of all images instead.
const MAX_IDS: usize = 1024;

/// The directory's mark while marked files are left behind. No boot and no mount has it.
const LEFT_BEHIND: &str = "left behind";

/// Which marked images may be torn, and are not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Suspects {
    #[default]
    None,
    OfOtherBoots,
    OfOtherBootsAndMounts,
}

/// What one handle published without a sync.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    published: Mutex<Published>,
    /// The mark, once the directory has it. It does not change while a handle is open.
    mark: OnceLock<String>,
    suspects: Suspects,
}

#[derive(Debug, Default)]
struct Published {
    ids: BTreeSet<ImageId>,
    /// There are more than [`MAX_IDS`]: `ids` is empty.
    is_any: bool,
}

/// A file that could not be synced, and must be withdrawn.
pub(crate) type Unsyncable = (ImageId, File, Error);

impl Unsynced {
    /// `suspects`: what the drop at the open left.
    pub fn new(suspects: Suspects) -> Self {
        Self { suspects, ..Self::default() }
    }

    /// Marks a finished file before it is published. False when that is impossible, and the file must be synced.
    pub fn mark(&self, layout: &Layout, file: &File, id: &ImageId) -> bool {
        let marked = self.directory_mark(layout).is_some_and(|mark| {
            // The file system may have no room for it.
            attributes::set(file, Attribute::Unsynced, mark).is_ok()
        });
        if marked {
            let mut published = self.published();
            if !published.is_any {
                published.ids.insert(id.clone());
            }
            if published.ids.len() > MAX_IDS {
                *published = Published { ids: BTreeSet::new(), is_any: true };
            }
        }
        marked
    }

    /// The present mark, after the directory got it, or has one that covers it.
    fn directory_mark(&self, layout: &Layout) -> Option<&str> {
        if let Some(mark) = self.mark.get() {
            return Some(mark);
        }
        let mark = present_mark(layout.directory(Area::Cached))?;
        // What was left behind must still be found after a restart.
        if self.suspects == Suspects::None || mark_of_directory(layout).ok()?.is_none() {
            mark_directory(layout, &mark).ok()?;
        }
        Some(self.mark.get_or_init(|| mark))
    }

    /// Syncs what was published and still exists, and removes the marks. Returns the files that could not be synced.
    pub fn sync(&self, layout: &Layout, log: &Log) -> Vec<Unsyncable> {
        let Published { ids, is_any } = std::mem::take(&mut *self.published());
        if is_any { self.sync_all(layout, log) } else { self.sync_images(layout, log, ids) }
    }

    /// Syncs all images with the present mark, whichever handle published them, and removes the marks.
    pub fn sync_all(&self, layout: &Layout, log: &Log) -> Vec<Unsyncable> {
        match marked_images(layout, log) {
            Ok(ids) => self.sync_images(layout, log, ids),
            Err(error) => {
                log.error(|| format!("{error}; unsynced images are dropped after a restart"));
                Vec::new()
            }
        }
    }

    fn sync_images(&self, layout: &Layout, log: &Log, ids: BTreeSet<ImageId>) -> Vec<Unsyncable> {
        let mut failed = Vec::new();
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
        // of names and attributes in order. This change of `.image_cache/` comes after all of them, and its sync covers them.
        let mark = match self.suspects {
            Suspects::None => present_mark(layout.directory(Area::Cached)),
            _ => Some(LEFT_BEHIND.to_owned()),
        };
        let marked = mark.map_or(Ok(()), |mark| mark_directory(layout, &mark));
        let synced = marked.and_then(|()| own_directory(layout)?.map_or(Ok(()), |directory| directory.sync()));
        if let Err(error) = synced.and_then(|()| layout.sync_published()) {
            log.error(|| error.to_string());
        }
        failed
    }

    /// Whether some images may be torn, so that each must be examined before it is served.
    pub fn has_suspects(&self) -> bool {
        self.suspects != Suspects::None
    }

    /// Whether this image may be torn.
    pub fn is_suspect(&self, layout: &Layout, file: &File, id: &ImageId) -> Result<bool> {
        if !self.has_suspects() {
            return Ok(false);
        }
        let Some(mark) = mark_of_image(layout, file, id)? else { return Ok(false) };
        Ok(match self.suspects {
            Suspects::OfOtherBootsAndMounts => present_mark(layout.directory(Area::Cached)) != Some(mark),
            _ => is_of_other_boot(&mark),
        })
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The images that have the present mark.
fn marked_images(layout: &Layout, log: &Log) -> Result<BTreeSet<ImageId>> {
    let present = present_mark(layout.directory(Area::Cached));
    if present.is_none() || mark_of_directory(layout)?.is_none() {
        return Ok(BTreeSet::new());
    }
    let mut skipped = SkippedErrors::new(log);
    let mut marked = BTreeSet::new();
    for id in layout.ids(Area::Cached)? {
        let id = id?;
        let opened = skipped.note(layout.open_file(Area::Cached, &id)).flatten();
        let mark = opened.and_then(|(file, _)| skipped.note(mark_of_image(layout, &file, &id)).flatten());
        if mark.is_some() && mark == present {
            marked.insert(id);
        }
    }
    Ok(marked)
}

/// Removes the files that were marked in another boot, and, if no other handle is open, those that were marked on another mount.
pub(crate) fn drop_unsynced(
    layout: &Layout,
    log: &Log,
    lock: &CacheLockGuard<'_>,
    is_only_handle: bool,
) -> Result<Suspects> {
    let present = present_mark(layout.directory(Area::Cached));
    let marked = mark_of_directory(layout)?;
    let was_marked = marked.is_some();
    let directory = match marked {
        Some(mark) if Some(&mark) != present.as_ref() => mark,
        None if lock.is_on_new_file() && is_only_handle => LEFT_BEHIND.to_owned(),
        _ => return Ok(Suspects::None),
    };
    if !is_only_handle && !is_of_other_boot(&directory) {
        // Another mount of the same directory is in use.
        return Ok(Suspects::None);
    }
    let is_torn = |mark: &String| if is_only_handle { Some(mark) != present.as_ref() } else { is_of_other_boot(mark) };
    let mut skipped = SkippedErrors::new(log);
    let mut dropped = 0;
    let mut has_others = false;
    for id in layout.ids(Area::Cached)? {
        let id = id?;
        let opened = match layout.open_file(Area::Cached, &id) {
            // The failure is not the file's.
            Err(error) if error.is_lack_of_resources() => return Err(error),
            opened => skipped.note(opened).flatten(),
        };
        let Some((file, _)) = opened else { continue };
        match skipped.note(mark_of_image(layout, &file, &id)).flatten() {
            Some(mark) if is_torn(&mark) => {
                let removed = lock.check_held().and_then(|()| layout.remove(lock, Area::Cached, &id));
                let removed = skipped.note(removed).flatten();
                dropped += u64::from(removed.is_some());
            }
            mark => has_others |= mark.is_some(),
        }
    }
    let left = skipped.count();
    // A failure leaves the former mark, and the next open looks at all files again.
    let _ = match &present {
        _ if left > 0 => mark_directory(layout, LEFT_BEHIND),
        // With two mounts at once, files of this mount may be marked while the directory has the other one's mark. They must still
        // be found after a power cut.
        Some(present) if has_others => mark_directory(layout, present),
        _ => unmark_directory(layout),
    };
    if was_marked || dropped + left > 0 {
        log.warning(|| {
            let left = if left > 0 { format!("; {left} could not be examined or removed") } else { String::new() };
            format!(
                "the host restarted, or the cache was mounted again: {dropped} images that were not synced were dropped{left}"
            )
        });
    }
    Ok(match (left, is_only_handle || directory == LEFT_BEHIND) {
        (0, _) => Suspects::None,
        (_, false) => Suspects::OfOtherBoots,
        (_, true) => Suspects::OfOtherBootsAndMounts,
    })
}

/// The mark of the present boot and of the directory's mount.
fn present_mark(directory: &Directory) -> Option<String> {
    Some(format!("{} {}", process::boot_id()?, directory.mount_id()?))
}

/// Whether a mark is of another boot than the present one. False where that is unknown.
fn is_of_other_boot(mark: &str) -> bool {
    let boot = mark.rsplit_once(' ').map_or(mark, |(boot, _)| boot);
    process::boot_id().is_some_and(|present| boot != present)
}

/// The mark of an image's file. Fails when it cannot be read.
fn mark_of_image(layout: &Layout, file: &File, id: &ImageId) -> Result<Option<String>> {
    let failed = |error| Error::from_io("read an extended attribute of", &layout.path(Area::Cached, id), &error);
    mark_of(file).map_err(failed)
}

/// The mark of a file. Fails when it cannot be read.
fn mark_of(file: &File) -> std::io::Result<Option<String>> {
    match attributes::get(file, Attribute::Unsynced) {
        // Without attributes, nothing was ever marked.
        Err(error) if crate::sys::attribute::is_unsupported(&error) => Ok(None),
        mark => mark,
    }
}

/// The first version of this library marked the cache's directory itself. It counts until it is removed.
fn mark_of_directory(layout: &Layout) -> Result<Option<String>> {
    let cached = layout.directory(Area::Cached);
    let present = present_mark(cached);
    let mut found = Vec::new();
    for directory in [Some(cached), own_directory(layout)?.as_ref()].into_iter().flatten() {
        let mark = attributes::of_directory(directory, mark_of)
            .map_err(|error| Error::from_io("read an extended attribute of", directory.path(), &error))?;
        found.extend(mark);
    }
    // One of another boot matters most, then one of another mount.
    found.sort_by_key(|mark| (!is_of_other_boot(mark), Some(mark) == present.as_ref()));
    Ok(found.into_iter().next())
}

/// Marks the cache as one with marked files. The mark is not on the cache's directory, whose ctime belongs to the stamp.
fn mark_directory(layout: &Layout, mark: &str) -> Result<()> {
    let (directory, _) = layout.directory(Area::Cached).open_or_create(OWN_SUBDIRECTORY)?;
    attributes::of_directory(&directory, |file| attributes::set(file, Attribute::Unsynced, mark))
        .map_err(|error| Error::from_io("set an extended attribute of", directory.path(), &error))?;
    remove_mark(layout.directory(Area::Cached))
}

fn unmark_directory(layout: &Layout) -> Result<()> {
    if let Some(directory) = own_directory(layout)? {
        remove_mark(&directory)?;
    }
    remove_mark(layout.directory(Area::Cached))
}

fn remove_mark(directory: &Directory) -> Result<()> {
    let is_marked = attributes::of_directory(directory, mark_of).is_ok_and(|mark| mark.is_some());
    // The removal of nothing would change the ctime.
    let removed = if is_marked {
        attributes::of_directory(directory, |file| attributes::remove(file, Attribute::Unsynced))
    } else {
        Ok(())
    };
    removed.map_err(|error| Error::from_io("remove an extended attribute of", directory.path(), &error))
}

fn own_directory(layout: &Layout) -> Result<Option<Directory>> {
    layout.directory(Area::Cached).open_subdirectory(OWN_SUBDIRECTORY)
}
