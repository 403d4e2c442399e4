//! A change of the names of cached images. Only this file adds and removes such names after the open.
//!
//! # Protocol
//!
//! The caller holds the cache lock throughout.
//!
//! 1. Compute the directory's stamp ([`NameChange::begin`]).
//! 2. Move or remove the files. The kernel sets the directory's ctime. A stat of the directory before and after each file detects
//!    changes by other programs in between.
//! 3. Compute the stamp again, and change the index. If it has the stamp of step 1, then nothing but this change happened since it
//!    was current, and the same transaction stores the new stamp. The ledger of a hard limit follows in the same way.
//!
//! The stamps of the directory and of the index differ from step 2 until step 3 is done. So a kill, a failure or a power cut
//! anywhere in between is noticed, and the index is compared before its next query. For the same reason a failure of step 3 is
//! logged, and does not undo what happened to the files.
//!
//! A driver without an index, in a cache without a hard limit, has step 2 only.
//!
//! The steps cannot be split or reordered: each method of a `NameChange` consumes it and does all of them.

use crate::cache::catalog::Catalog;
use crate::error::{Error, Result};
use crate::index::driver::Record;
use crate::index::sqlite::driver::SqliteDriver;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::in_use::{UnusedRemoval, remove_if_unused};
use crate::store::layout::{Area, Layout};
use crate::store::ledger::Difference;
use crate::store::lock::CacheLockGuard;
use crate::store::pins::Pins;
use crate::store::removal;
use crate::store::stamp::{StampChange, StampedChange};
use crate::sys::stat::{FileId, Removable};

/// The outcome of removing one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemoveOutcome {
    /// Its file had this many bytes, and took up so many on the disk.
    Removed { size: u64, allocated: u64 },
    /// It had no file.
    Missing,
    /// Somebody has it open.
    InUse,
    /// Its file could not be removed.
    Failed,
    /// It stays, since it is pinned.
    Pinned,
}

/// The result of removing several images.
#[derive(Debug)]
pub(crate) struct Removal {
    /// One for each image, in their order.
    pub outcomes: Vec<RemoveOutcome>,
    /// The first failure. A pin is none.
    pub result: Result<()>,
    /// The first image that is pinned.
    pub pinned: Result<()>,
}

/// One change of names, under the cache lock.
pub(crate) struct NameChange<'a> {
    catalog: &'a Catalog,
    lock: &'a CacheLockGuard<'a>,
    /// `None` when nothing has a stamp that must follow.
    change: Option<StampedChange>,
    /// For the ledger.
    difference: Difference,
}

impl<'a> NameChange<'a> {
    /// Fails when this process may not take the cache lock.
    pub fn begin(catalog: &'a Catalog, lock: &'a CacheLockGuard<'a>) -> Result<Self> {
        lock.check_held()?;
        let is_followed = catalog.index.reconciled().is_some() || catalog.ledger.is_kept();
        let change = if is_followed { Some(StampedChange::begin(lock, &catalog.layout)?) } else { None };
        Ok(Self { catalog, lock, change, difference: Difference::default() })
    }

    /// Gives a finished incomplete file its final name, and enters it in the index.
    pub fn publish(mut self, id: &ImageId, file: FileId, record: &Record<'_>) -> Result<()> {
        let layout = &self.catalog.layout;
        let lock = self.lock;
        if !self.step(|| layout.publish(lock, id))? {
            return Err(match layout.stat(Area::Cached, id)? {
                DirEntry::Foreign => layout.occupied(Area::Cached, id),
                _ => Error::AlreadyCached(id.to_string()),
            });
        }
        // Without the lock, which an operator may have removed, the name in incomplete/ may have become another writer's.
        let published = layout.stat(Area::Cached, id).ok().and_then(DirEntry::image);
        if let Some(stat) = published
            && (stat.id != file || stat.size != record.size)
        {
            self.step(|| removal::invalidate(layout, lock, Area::Cached, id))?;
            let is_same = stat.id == file;
            let why = if is_same { "another program changed its length" } else { "another writer has replaced it" };
            return Err(Error::Lost { image_id: id.to_string(), why });
        }
        self.difference = Difference { images: 1, added: published.map_or(0, |stat| stat.allocated), removed: 0 };
        self.finish(|index, change| index.insert(lock, id, record, change));
        Ok(())
    }

    /// Removes images, and the queue entries that a dead writer left of them: a deleted image must not return from the queue. Pinned
    /// images stay.
    pub fn remove(self, ids: &[ImageId]) -> Result<Removal> {
        self.remove_with(ids, |layout, lock, id| {
            let removed = removal::remove(layout, lock, Area::Cached, id)?;
            Ok(removed.map_or(UnusedRemoval::Missing, UnusedRemoval::Removed))
        })
    }

    /// The same, but leaves images that anybody has open.
    pub fn remove_unused(self, ids: &[ImageId]) -> Result<Removal> {
        self.remove_with(ids, remove_if_unused)
    }

    fn remove_with(
        mut self,
        ids: &[ImageId],
        remove: impl Fn(&Layout, &CacheLockGuard<'_>, &ImageId) -> Result<UnusedRemoval>,
    ) -> Result<Removal> {
        let layout = &*self.catalog.layout;
        let lock = self.lock;
        let pins = Pins::open(layout, &self.catalog.log)?;
        let mut removal = Removal { outcomes: Vec::with_capacity(ids.len()), result: Ok(()), pinned: Ok(()) };
        let mut removed = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        let mut freed = 0;
        for id in ids {
            let checked = pins.as_ref().map_or(Ok(()), |pins| pins.check_none(id));
            let outcome = match checked.and_then(|()| self.step(|| remove(layout, lock, id))) {
                Ok(UnusedRemoval::Removed(Removable { size, allocated })) => {
                    if let Err(error) = layout.remove(lock, Area::Queue, id) {
                        self.catalog.log.warning(|| error.to_string());
                    }
                    removed.push(id.clone());
                    freed += allocated;
                    RemoveOutcome::Removed { size, allocated }
                }
                Ok(UnusedRemoval::Missing) => {
                    missing.push(id);
                    RemoveOutcome::Missing
                }
                Ok(UnusedRemoval::InUse) => RemoveOutcome::InUse,
                Err(error @ Error::Pinned { .. }) => {
                    removal.pinned = removal.pinned.and(Err(error));
                    RemoveOutcome::Pinned
                }
                Err(error) => {
                    removal.result = removal.result.and(Err(error));
                    RemoveOutcome::Failed
                }
            };
            removal.outcomes.push(outcome);
        }
        let catalog = self.catalog;
        if !removed.is_empty() {
            self.difference = Difference { images: removed.len() as u64, added: 0, removed: freed };
            self.finish(|index, change| index.remove(lock, &removed, change));
        }
        for id in missing {
            catalog.forget(lock, id);
        }
        Ok(removal)
    }

    /// Removes a file that may be torn, so that a writer can replace it. Its image stays queued.
    pub fn drop_torn(mut self, id: &ImageId) -> Result<()> {
        let (layout, lock) = (&self.catalog.layout, self.lock);
        let removed = self.step(|| removal::remove(layout, lock, Area::Cached, id))?;
        self.difference = Difference { images: 1, added: 0, removed: removed.map_or(0, |file| file.allocated) };
        self.finish(|index, change| index.remove(lock, std::slice::from_ref(id), change));
        Ok(())
    }

    /// Moves a published image to `invalid/`, and removes its pins. Removes it if that fails: a missing file is better than a torn one.
    pub fn withdraw(mut self, id: &ImageId) -> Result<()> {
        let Catalog { layout, log, .. } = self.catalog;
        let lock = self.lock;
        let stat = layout.stat(Area::Cached, id)?.image();
        self.difference = Difference { images: 1, added: 0, removed: stat.map_or(0, |stat| stat.allocated) };
        self.step(|| {
            removal::invalidate(layout, lock, Area::Cached, id).or_else(|error| {
                log.warning(|| error.to_string());
                removal::remove(layout, lock, Area::Cached, id).map(drop)
            })
        })?;
        if let Err(error) = self.drop_pins(id) {
            log.warning(|| error.to_string());
        }
        self.finish(|index, change| index.remove(lock, std::slice::from_ref(id), change));
        Ok(())
    }

    /// Removes the pins of an image. The log names their holders, who have to pin it again once it is cached again.
    fn drop_pins(&self, id: &ImageId) -> Result<()> {
        let Catalog { layout, log, .. } = self.catalog;
        let Some(pins) = Pins::open(layout, log)? else { return Ok(()) };
        let dropped = pins.of_or_unknown(id);
        if !dropped.is_empty() {
            log.warning(|| format!("image '{id}' was pinned, and is no longer: {}", dropped.holders()));
        }
        pins.remove_all(self.lock, id)
    }

    /// Step 2, for one file.
    fn step<T>(&mut self, step: impl FnOnce() -> T) -> T {
        match &mut self.change {
            Some(change) => change.step(&self.catalog.layout, step),
            None => step(),
        }
    }

    /// Step 3.
    fn finish(self, follow: impl FnOnce(&SqliteDriver, StampChange) -> Result<()>) {
        let Some(change) = self.change else { return };
        let Catalog { layout, index, log, ledger, .. } = self.catalog;
        let change = change.finish(self.lock, layout);
        if let Err(error) = ledger.follow(self.lock, &change, self.difference) {
            log.warning(|| format!("{error}; the images are counted before the next reservation"));
        }
        if let Some(index) = index.reconciled()
            && let Err(error) = follow(index, change)
        {
            log.warning(|| format!("{error}; the index is compared with the directory before its next query"));
        }
    }
}
