//! What a cache, its readers, writers and tees have in common, alive as long as one of them is.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::futimens;

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::log::Log;
use crate::core::options::{Durability, Options};
use crate::core::unsynced::{self, Unsynced};
use crate::driver::{self, Driver, Record};
use crate::error::Result;
use crate::system::lock::{HostLock, HostLockGuard, Presence};
use crate::system::time::Timestamp;

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Removed,
    /// Its file was not there.
    WasGone,
    /// Its file could not be removed.
    Kept,
}

/// The state behind a cache's handles.
pub(crate) struct Shared {
    pub layout: Arc<Layout>,
    pub driver: Box<dyn Driver>,
    /// Held, for microseconds, by whoever moves an image from one state to another. Never while data is copied,
    /// hashed or synced, and never while a caller's function runs (a log's aside).
    pub gate: HostLock,
    /// Held by whoever prunes, so that two do not both evict what is too much.
    pub pruning: HostLock,
    presence: Presence,
    pub max_size: u64,
    pub stall_time: Duration,
    pub durability: Durability,
    pub log: Log,
    /// What this handle published without waiting for the disk.
    pub unsynced: Unsynced,
    /// Images whose change the driver could not note or follow; settled as soon as it can.
    unsettled: Mutex<BTreeSet<ImageId>>,
}

impl Shared {
    /// Opens a cache: creates what is missing, repairs what a crash left, and announces this handle.
    pub fn open(path: &std::path::Path, options: Options) -> Result<Self> {
        let layout = Arc::new(Layout::open(path, &options.database)?);
        let gate = HostLock::new(layout.directory(Place::Incomplete))?;
        let pruning = HostLock::new(layout.directory(Place::Invalid))?;
        let presence = Presence::new(layout.directory(Place::Queue))?;
        let driver = {
            let guard = gate.acquire()?;
            // Before the driver is opened: SQLite creates files in the directory.
            let modified = layout.directory(Place::Cached).modified()?;
            let alone = presence.is_alone()?;
            let driver = driver::open(&layout, &options, &guard)?;
            recover(&layout, driver.as_ref(), &options.log, &guard, alone.then_some(modified))?;
            presence.announce()?;
            driver
        };
        let shared = Self {
            layout,
            driver,
            gate,
            pruning,
            presence,
            max_size: options.max_size,
            stall_time: options.stall_time,
            durability: options.durability,
            log: options.log,
            unsynced: Unsynced::default(),
            unsettled: Mutex::default(),
        };
        shared.settle(&shared.gate.acquire()?)?;
        Ok(shared)
    }

    /// Validates an image id.
    pub fn image_id(&self, text: &str) -> Result<ImageId> {
        self.layout.image_id(text)
    }

    /// Takes the gate and makes the index exact: whoever asks it for totals or lists comes in this way.
    pub fn enter_settled(&self) -> Result<HostLockGuard<'_>> {
        let gate = self.gate.acquire()?;
        self.settle(&gate)?;
        Ok(gate)
    }

    /// Makes the index agree with the directory wherever a change was begun and not ended, here or by a process that died.
    fn settle(&self, gate: &HostLockGuard<'_>) -> Result<()> {
        let mut ids: BTreeSet<ImageId> = self.driver.unsettled(gate)?.into_iter().collect();
        ids.extend(self.unsettled().iter().cloned());
        for id in &ids {
            self.settle_image(gate, id)?;
        }
        Ok(())
    }

    /// Makes the index agree with the directory on one image.
    pub fn settle_image(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<()> {
        match self.layout.examine(Place::Cached, id)?.image() {
            Some(facts) => {
                self.driver.adopt(gate, id, &facts)?;
                // Its writer may have died before it could take the image off the queue.
                self.layout.remove(gate, Place::Queue, id)?;
            }
            None => self.driver.forget(gate, std::slice::from_ref(id))?,
        }
        self.unsettled().remove(id);
        Ok(())
    }

    /// The same, where the caller has done its work and only the index lags behind.
    pub fn try_settle_image(&self, id: &ImageId) {
        let settled = self.gate.acquire().and_then(|gate| self.settle_image(&gate, id));
        self.follow_up(std::slice::from_ref(id), settled);
    }

    /// Runs a step of the index. A failure does not undo what happened to the files: it is logged, and the images are
    /// settled as soon as the index can be written again.
    pub fn follow_up(&self, ids: &[ImageId], step: Result<()>) {
        match step {
            Ok(()) => {}
            Err(error) => {
                self.log.warning(|| format!("{error}; the index is put right later"));
                self.unsettled().extend(ids.iter().cloned());
            }
        }
    }

    /// Removes the files of cached images and their entries. What became of each, and the first failure, if any.
    pub fn remove_cached(&self, gate: &HostLockGuard<'_>, ids: &[ImageId]) -> (Vec<Fate>, Result<()>) {
        // An index that cannot be written must not keep the disk full.
        self.follow_up(ids, self.driver.intend_to_remove(gate, ids));
        let mut outcome = Ok(());
        let mut gone = Vec::with_capacity(ids.len());
        let fates = ids.iter().map(|id| match self.layout.remove(gate, Place::Cached, id) {
            Ok(was_there) => {
                gone.push(id.clone());
                if was_there { Fate::Removed } else { Fate::WasGone }
            }
            Err(error) => {
                self.follow_up(std::slice::from_ref(id), self.settle_image(gate, id));
                if outcome.is_ok() {
                    outcome = Err(error);
                }
                Fate::Kept
            }
        });
        let fates = fates.collect();
        self.follow_up(&gone, self.driver.forget(gate, &gone));
        (fates, outcome)
    }

    /// Enters a published image into the index.
    pub fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>) {
        self.follow_up(std::slice::from_ref(id), self.driver.record(gate, id, record));
    }

    /// The image was opened: the file's access time is set, so that the order of use is exact on every mount, and the
    /// driver is told. A reader never fails for it.
    pub fn note_use(&self, id: &ImageId, file: &File) {
        let now = Timestamp::now();
        if let Err(errno) = futimens(file, &now.as_access_time()) {
            let path = self.layout.path(Place::Cached, id);
            self.log.warning(|| format!("cannot set the access time of '{}': {errno}", path.display()));
        }
        match self.driver.note_use(&self.gate, id, now) {
            Ok(true) => {}
            // A file that was put there behind the cache's back.
            Ok(false) => self.try_settle_image(id),
            Err(error) => self.log.warning(|| format!("{error}; the image's use is noted later")),
        }
    }

    fn unsettled(&self) -> std::sync::MutexGuard<'_, BTreeSet<ImageId>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the handle. If it was the last one and all is settled, the directory is sealed: its modification time is set
    /// to one that the index knows, and which any later change of a name in it replaces. So the next open can tell
    /// without a scan that index and directory agree, and a crash, a power cut and another program's changes all show.
    fn close(&self) -> Result<()> {
        self.unsynced.sync(&self.layout, &self.log);
        let gate = self.gate.acquire()?;
        let settled = self.settle(&gate);
        // A whole second, which every file system can store, and one that is over, so that no later change has it.
        let seal = (settled.is_ok() && self.presence.is_alone()?).then(|| Timestamp::now().previous_second());
        let sealed = self.driver.close(&gate, seal)?;
        match seal {
            Some(seal) if sealed => self.layout.directory(Place::Cached).set_modified(seal),
            _ => settled,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            self.log.error(|| format!("closing the cache: {error}"));
        }
    }
}

/// Repairs what is found at an open. The first handle to open a cache, which no other can be before or beside, gives the
/// directory's modification time, and looks at everything.
fn recover(
    layout: &Layout,
    driver: &dyn Driver,
    log: &Log,
    gate: &HostLockGuard<'_>,
    alone: Option<Timestamp>,
) -> Result<()> {
    let dropped = if alone.is_some() { unsynced::drop_unsynced(layout, log, gate)? } else { 0 };
    if dropped > 0 || driver.needs_rebuild(alone)? {
        let found = driver.rebuild(gate)?;
        if found != driver::Rebuilt::default() {
            log.info(|| {
                format!(
                    "the index was put right: {} images adopted, {} dropped, {} corrected",
                    found.adopted, found.dropped, found.corrected
                )
            });
        }
    }
    if alone.is_some() {
        // A writer that died after publishing may have left its image in the queue.
        for queued in layout.images(Place::Queue)? {
            let (id, _) = queued?;
            if layout.has(Place::Cached, &id)? {
                layout.remove(gate, Place::Queue, &id)?;
            }
        }
    }
    Ok(())
}
