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
//! an operator may have removed that subdirectory. A handle that closes syncs what it published, removes the marks, and syncs the
//! directory, so both are durable. The last handle that closes does the same for the marked files of processes that died, which
//! would be dropped after a restart. The directory's mark shows whether there can be any, so that it need not search each time (see
//! `unsynced_mark`). A clean always looks. Where no mark can be set (no attributes, no boot id, Linux before 6.8 without mount
//! ids), publishing syncs.
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
use crate::store::lock::{CacheLockGuard, Locks};
use crate::store::unsynced_mark::{self as marks, CacheMark, Group, LEFT_BEHIND};
use crate::sys::file;

/// Above this number of files, one sync of the file system is faster than a sync of each.
const MANY: usize = 32;

/// Above this number of images, their ids are not kept: the close reads the marks of all images instead.
const MAX_IDS: usize = 1024;

/// What one handle published without a sync.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    published: Mutex<Published>,
    /// The mark of images, once this handle began to publish without a sync. It does not change while a handle is open.
    mark: OnceLock<String>,
    /// The cache's mark that this handle set. `None` when images of other handles may have had marks at the time.
    own: Mutex<Option<CacheMark>>,
    /// Marked images may be torn, and could not be removed. They are not served.
    has_suspects: bool,
}

#[derive(Debug, Default)]
struct Published {
    ids: BTreeSet<ImageId>,
    /// There are more than [`MAX_IDS`]: `ids` is empty.
    is_any: bool,
}

/// A file that could not be synced, and must be withdrawn.
pub(crate) type Unsyncable = (ImageId, File, Error);

/// The outcome of syncing marked images.
#[derive(Debug)]
struct Synced {
    failed: Vec<Unsyncable>,
    is_any: bool,
    /// Whether another attempt would be in vain: all marks are removed, except those for which this handle has no permission, and
    /// those of files that cannot be read or synced.
    is_complete: bool,
}

impl Unsynced {
    /// `has_suspects`: whether the drop at the open left marked images.
    pub fn new(has_suspects: bool) -> Self {
        Self { has_suspects, ..Self::default() }
    }

    /// Marks a finished file before it is published. False when that is impossible, and the file must be synced. Fails when the cache
    /// cannot be locked, as the publish would.
    pub fn mark(&self, layout: &Layout, locks: &Locks, file: &File, id: &ImageId) -> Result<bool> {
        let marked = self.begin(layout, locks)?.is_some_and(|mark| {
            // The file system may have no room for it.
            attributes::set(file, Attribute::Unsynced, mark).is_ok()
        });
        if marked {
            let mut published = locked(&self.published);
            if !published.is_any {
                published.ids.insert(id.clone());
            }
            if published.ids.len() > MAX_IDS {
                *published = Published { ids: BTreeSet::new(), is_any: true };
            }
        }
        Ok(marked)
    }

    /// The mark for an image, after the cache got one that covers it.
    fn begin(&self, layout: &Layout, locks: &Locks) -> Result<Option<&str>> {
        if let Some(mark) = self.mark.get() {
            return Ok(Some(mark));
        }
        let Some(mark) = marks::present(layout.directory(Area::Cached)) else { return Ok(None) };
        // Of two handles that begin at once, the second must see the first.
        let lock = locks.acquire_to_publish()?;
        if self.mark.get().is_none() {
            let Ok(found) = marks::of_cache(layout) else { return Ok(None) };
            // What was left behind must still be found after a restart.
            if !found.as_ref().is_some_and(CacheMark::is_left_behind) {
                let (place, is_first) = if self.has_suspects() {
                    (LEFT_BEHIND, false) // the open could not note it
                } else {
                    (mark.as_str(), found.is_none_or(|found| found.is_closed() && found.place() == mark))
                };
                let Ok(set) = marks::set(&lock, layout, place, Group::Open) else { return Ok(None) };
                *locked(&self.own) = is_first.then_some(set);
            }
        }
        Ok(Some(self.mark.get_or_init(|| mark)))
    }

    /// Syncs what was published and still exists, and removes the marks, as a part of the close. Returns the files that could not be
    /// synced. [`Self::settle`] must follow.
    pub fn sync(&self, layout: &Layout, log: &Log) -> Vec<Unsyncable> {
        let Published { ids, is_any } = std::mem::take(&mut *locked(&self.published));
        let synced = if is_any { sync_all(layout, log) } else { sync_images(layout, log, ids) };
        if !synced.is_complete {
            *locked(&self.own) = None;
        }
        synced.failed
    }

    /// Makes the removal of marks durable, and notes in the cache's mark that there are none. If this is the last handle, and there may
    /// be marked images of processes that died, syncs them first. Returns those that could not be synced.
    ///
    /// After a kill in between, the mark is as before, and the next close does it. Of two handles that close at once, neither may be
    /// the last one; then the next close does it, too. A handle that opens meanwhile and publishes changes the mark, which then stays.
    pub fn settle(&self, layout: &Layout, locks: &Locks, log: &Log) -> Vec<Unsyncable> {
        let mut failed = Vec::new();
        if let Err(error) = self.try_settle(layout, locks, log, &mut failed) {
            log.error(|| format!("{error}; unsynced images are dropped after a restart"));
        }
        failed
    }

    fn try_settle(&self, layout: &Layout, locks: &Locks, log: &Log, failed: &mut Vec<Unsyncable>) -> Result<()> {
        let has_begun = self.mark.get().is_some();
        // Usually there is nothing to do, and the lock is not needed. A handle that may not read the mark may remove none.
        if !has_begun && marks::of_cache(layout).ok().flatten().is_none_or(|found| found.is_closed()) {
            return Ok(());
        }
        let present = marks::present(layout.directory(Area::Cached));
        let (seen, is_settled) = {
            // If the lock is taken, another handle is open, and this is not the last one.
            let lock = if has_begun { Some(locks.acquire()?) } else { locks.try_acquire().ok().flatten() };
            let Some(lock) = lock else { return Ok(()) };
            let mut seen = marks::of_cache(layout)?;
            if has_begun {
                let is_own = seen.is_some() && seen == *locked(&self.own);
                let group = if is_own { Group::Closed } else { Group::of(seen.as_ref()) };
                let missing = if self.has_suspects() { Some(LEFT_BEHIND) } else { present.as_deref() };
                if let Some(place) = seen.as_ref().map(CacheMark::place).or(missing) {
                    seen = Some(marks::set(&lock, layout, place, group)?);
                }
            }
            let may_be_left = seen.as_ref().is_some_and(|seen| {
                !seen.is_closed() && (seen.is_left_behind() || Some(seen.place()) == present.as_deref())
            });
            let is_last = may_be_left && lock.is_only_handle()?;
            if is_last {
                // Others may open meanwhile.
                locks.acquire_open(&lock)?;
            }
            (seen, !is_last)
        };
        if !is_settled {
            let synced = sync_all(layout, log);
            failed.extend(synced.failed);
            let is_left_behind = seen.as_ref().is_some_and(CacheMark::is_left_behind);
            // Otherwise each close would do the rest in vain.
            if is_left_behind && !synced.is_any && !has_begun {
                return Ok(());
            }
            let lock = locks.acquire()?;
            if let Some(now) = marks::of_cache(layout)? {
                let is_done = synced.is_complete && !is_left_behind && seen.as_ref() == Some(&now);
                let group = if is_done { Group::Closed } else { Group::of(Some(&now)) };
                marks::set(&lock, layout, now.place(), group)?;
            }
        }
        marks::sync_removals(layout)
    }

    /// Syncs all images with the present mark, whichever handle published them, and removes the marks.
    pub fn clean(&self, layout: &Layout, locks: &Locks, log: &Log) -> Vec<Unsyncable> {
        let synced = sync_all(layout, log);
        if synced.is_any
            && let Err(error) = self.renew(layout, locks)
        {
            log.error(|| error.to_string());
        }
        synced.failed
    }

    /// Makes the removal of marks durable, while this handle goes on.
    fn renew(&self, layout: &Layout, locks: &Locks) -> Result<()> {
        {
            let lock = locks.acquire()?;
            if let Some(found) = marks::of_cache(layout)? {
                let set = marks::set(&lock, layout, found.place(), Group::of(Some(&found)))?;
                let mut own = locked(&self.own);
                if own.as_ref() == Some(&found) {
                    *own = Some(set);
                }
            }
        }
        marks::sync_removals(layout)
    }

    /// Whether this handle has published something that it has not synced yet.
    pub fn has_published(&self) -> bool {
        let published = locked(&self.published);
        published.is_any || !published.ids.is_empty()
    }

    /// Whether some images may be torn, so that each must be examined before it is served.
    pub fn has_suspects(&self) -> bool {
        self.has_suspects
    }

    /// Whether this image may be torn.
    pub fn is_suspect(&self, layout: &Layout, file: &File, id: &ImageId) -> Result<bool> {
        if !self.has_suspects {
            return Ok(false);
        }
        let mark = marks::of_image(layout, file, id)?;
        Ok(mark.is_some() && mark != marks::present(layout.directory(Area::Cached)))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Syncs all images with the present mark, and removes the marks.
fn sync_all(layout: &Layout, log: &Log) -> Synced {
    let (ids, is_complete) = marked_images(layout, log).unwrap_or_else(|error| {
        log.error(|| format!("{error}; unsynced images are dropped after a restart"));
        (BTreeSet::new(), false)
    });
    let synced = sync_images(layout, log, ids);
    Synced { is_complete: synced.is_complete && is_complete, ..synced }
}

fn sync_images(layout: &Layout, log: &Log, ids: BTreeSet<ImageId>) -> Synced {
    let mut synced = Synced { failed: Vec::new(), is_any: !ids.is_empty(), is_complete: true };
    // After it, the syncs below have little to do. Each of them reports its file's errors, unless the kernel dropped the inode
    // meanwhile: then only this call reports them, without saying for which files.
    if ids.len() > MANY
        && let Err(error) = layout.directory(Area::Cached).sync_file_system()
    {
        log.error(|| format!("{error}; unsynced images are dropped after a restart"));
        synced.is_complete = false;
        return synced;
    }
    for id in ids {
        match layout.open_file(Area::Cached, &id) {
            Ok(Some((file, _))) => match file::sync(&file, || layout.path(Area::Cached, &id)) {
                // The mark goes after the bytes arrived. If it stays, the image is dropped after a restart.
                Ok(()) => {
                    let removed = marks::remove_of_image(layout, &file, &id);
                    synced.is_complete &= removed.map_or_else(|error| error.is_not_permitted(), |()| true);
                }
                Err(error) => {
                    // A second sync can succeed. It must not remove the mark, if this handle is killed now.
                    let _ = attributes::set(&file, Attribute::Unsynced, LEFT_BEHIND);
                    synced.failed.push((id, file, error));
                }
            },
            Ok(None) => {}
            // It is being removed, or will stay.
            Err(error) if error.is_leased() => synced.is_complete = false,
            Err(error) => {
                log.error(|| error.to_string());
                synced.is_complete &= !error.is_lack_of_resources();
            }
        }
    }
    synced
}

/// The images that have the present mark, and whether each image could be examined that ever can be.
fn marked_images(layout: &Layout, log: &Log) -> Result<(BTreeSet<ImageId>, bool)> {
    let present = marks::present(layout.directory(Area::Cached));
    if present.is_none() || marks::of_cache(layout)?.is_none() {
        return Ok((BTreeSet::new(), true));
    }
    let mut skipped = SkippedErrors::new(log);
    let mut marked = BTreeSet::new();
    let mut is_complete = true;
    for id in layout.ids(Area::Cached)? {
        let id = id?;
        let examined = layout
            .open_file(Area::Cached, &id)
            .and_then(|opened| opened.map_or(Ok(None), |(file, _)| marks::of_image(layout, &file, &id)));
        if examined.as_ref().is_err_and(Error::is_leased) {
            is_complete = false;
            continue;
        }
        is_complete &= !examined.as_ref().is_err_and(Error::is_lack_of_resources);
        let mark = skipped.note(examined).flatten();
        if mark.is_some() && mark == present {
            marked.insert(id);
        }
    }
    Ok((marked, is_complete))
}

/// Removes the files that were marked in another boot, and, if no other handle is open, those that were marked on another mount.
/// True when some could not be examined or removed.
pub(crate) fn drop_unsynced(
    layout: &Layout,
    log: &Log,
    lock: &CacheLockGuard<'_>,
    is_only_handle: bool,
) -> Result<bool> {
    let present = marks::present(layout.directory(Area::Cached));
    let marked = marks::of_cache(layout)?.map(|mark| mark.place().to_owned());
    let was_marked = marked.is_some();
    let directory = match marked {
        Some(mark) if Some(&mark) != present.as_ref() => mark,
        None if lock.is_on_new_file() && is_only_handle => LEFT_BEHIND.to_owned(),
        _ => return Ok(false),
    };
    if !is_only_handle && !marks::is_of_other_boot(&directory) {
        // Another mount of the same directory is in use.
        return Ok(false);
    }
    let is_torn =
        |mark: &String| if is_only_handle { Some(mark) != present.as_ref() } else { marks::is_of_other_boot(mark) };
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
        match skipped.note(marks::of_image(layout, &file, &id)).flatten() {
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
        _ if left > 0 => marks::set(lock, layout, LEFT_BEHIND, Group::Open).map(drop),
        // With two mounts at once, files of this mount may be marked while the directory has the other one's mark. They must still
        // be found after a power cut, and by the next close.
        Some(present) if has_others => marks::set(lock, layout, present, Group::Open).map(drop),
        _ => marks::unset(layout),
    };
    if was_marked || dropped + left > 0 {
        log.warning(|| {
            let left = if left > 0 { format!("; {left} could not be examined or removed") } else { String::new() };
            format!(
                "the host restarted, or the cache was mounted again: {dropped} images that were not synced were dropped{left}"
            )
        });
    }
    Ok(left > 0)
}
