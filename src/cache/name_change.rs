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
//!    was current, and the same transaction stores the new stamp.
//!
//! The stamps of the directory and of the index differ from step 2 until step 3 is done. So a kill, a failure or a power cut
//! anywhere in between is noticed, and the index is compared before its next query. For the same reason a failure of step 3 is
//! logged, and does not undo what happened to the files.
//!
//! A driver without an index has step 2 only.
//!
//! The steps cannot be split or reordered: each method of a `NameChange` consumes it and does all of them.

use crate::cache::catalog::Catalog;
use crate::error::{Error, Result};
use crate::index::driver::Record;
use crate::index::sqlite::driver::SqliteDriver;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, DirEntry};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::{StampChange, StampedChange};
use crate::sys::stat::FileId;

/// The outcome of removing one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RemoveOutcome {
    /// Its file had this many bytes.
    Removed { size: u64 },
    /// It had no file.
    Missing,
    /// Its file could not be removed.
    Failed,
}

/// The result of removing several images.
#[derive(Debug)]
pub(crate) struct Removal {
    /// One for each image, in their order.
    pub outcomes: Vec<RemoveOutcome>,
    /// The first failure.
    pub result: Result<()>,
}

/// One change of names, under the cache lock.
pub(crate) struct NameChange<'a> {
    catalog: &'a Catalog,
    lock: &'a CacheLockGuard<'a>,
    indexed: Option<(&'a SqliteDriver, StampedChange)>,
}

impl<'a> NameChange<'a> {
    /// Fails when this process may not take the cache lock.
    pub fn begin(catalog: &'a Catalog, lock: &'a CacheLockGuard<'a>) -> Result<Self> {
        lock.check_held()?;
        let indexed = match catalog.index.reconciled() {
            Some(index) => Some((index, StampedChange::begin(lock, &catalog.layout)?)),
            None => None,
        };
        Ok(Self { catalog, lock, indexed })
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
        if let Ok(DirEntry::Image(stat)) = layout.stat(Area::Cached, id)
            && (stat.id != file || stat.size != record.size)
        {
            self.step(|| layout.invalidate(lock, Area::Cached, id))?;
            let is_same = stat.id == file;
            let why = if is_same { "another program changed its length" } else { "another writer has replaced it" };
            return Err(Error::Lost { image_id: id.to_string(), why });
        }
        self.finish(|index, change| index.insert(lock, id, record, change));
        Ok(())
    }

    /// Removes images, and the queue entries that a dead writer left of them: a deleted image must not return from the queue.
    pub fn remove(mut self, ids: &[ImageId]) -> Removal {
        let layout = &self.catalog.layout;
        let lock = self.lock;
        let mut removal = Removal { outcomes: Vec::with_capacity(ids.len()), result: Ok(()) };
        let mut removed = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            let outcome = match self.step(|| layout.remove(lock, Area::Cached, id)) {
                Ok(Some(size)) => {
                    if let Err(error) = layout.remove(lock, Area::Queue, id) {
                        self.catalog.log.warning(|| error.to_string());
                    }
                    removed.push(id.clone());
                    RemoveOutcome::Removed { size }
                }
                Ok(None) => {
                    missing.push(id);
                    RemoveOutcome::Missing
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
            self.finish(|index, change| index.remove(lock, &removed, change));
        }
        for id in missing {
            catalog.forget(lock, id);
        }
        removal
    }

    /// Removes a file that may be torn, so that a writer can replace it. Its image stays queued.
    pub fn drop_torn(mut self, id: &ImageId) -> Result<()> {
        let (layout, lock) = (&self.catalog.layout, self.lock);
        self.step(|| layout.remove(lock, Area::Cached, id))?;
        self.finish(|index, change| index.remove(lock, std::slice::from_ref(id), change));
        Ok(())
    }

    /// Moves a published image to `invalid/`. Removes it if that fails: a missing file is better than a torn one.
    pub fn withdraw(mut self, id: &ImageId) -> Result<()> {
        let Catalog { layout, log, .. } = self.catalog;
        let lock = self.lock;
        self.step(|| {
            layout.invalidate(lock, Area::Cached, id).or_else(|error| {
                log.warning(|| error.to_string());
                layout.remove(lock, Area::Cached, id).map(drop)
            })
        })?;
        self.finish(|index, change| index.remove(lock, std::slice::from_ref(id), change));
        Ok(())
    }

    /// Step 2, for one file.
    fn step<T>(&mut self, step: impl FnOnce() -> T) -> T {
        match &mut self.indexed {
            Some((_, change)) => change.step(&self.catalog.layout, step),
            None => step(),
        }
    }

    /// Step 3.
    fn finish(self, follow: impl FnOnce(&SqliteDriver, StampChange) -> Result<()>) {
        let Some((index, change)) = self.indexed else { return };
        if let Err(error) = follow(index, change.finish(self.lock, &self.catalog.layout)) {
            self.catalog
                .log
                .warning(|| format!("{error}; the index is compared with the directory before its next query"));
        }
    }
}
