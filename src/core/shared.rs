//! What a cache, its readers, writers and tees have in common, alive as long as one of them is.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::futimens;
use rustix::io::Errno;

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place, Removed};
use crate::core::log::{Log, Missed, Once};
use crate::core::options::{Durability, Options};
use crate::core::unsynced::{self, Unsynced};
use crate::driver::uses::Use;
use crate::driver::{self, Driver, Rebuilt, Record, Seal};
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::lock::{HostLock, HostLockGuard, Presence};
use crate::system::time::Timestamp;

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// With as many bytes as its file had.
    Removed { size: u64 },
    /// Its file was not there.
    WasGone,
    /// Its file could not be removed.
    Kept,
}

/// What became of images that were to be removed.
#[derive(Debug)]
pub(crate) struct Removal {
    /// Of each, in their order.
    pub fates: Vec<Fate>,
    /// The first failure, if any.
    pub outcome: Result<()>,
    files: Vec<Removed>,
}

/// The state behind a cache's handles.
pub(crate) struct Shared {
    pub layout: Arc<Layout>,
    pub driver: Box<dyn Driver>,
    /// Held by whoever moves an image from one state to another, or needs all images to stay as they are: for
    /// microseconds, but for a rebuild and for the xattr driver's scans. Never while data is copied, hashed, synced or freed,
    /// and never while a caller's function runs (a log's aside).
    pub gate: HostLock,
    /// Held by whoever prunes, so that two do not both evict what is too much.
    pub pruning: HostLock,
    presence: Presence,
    pub max_size: u64,
    pub stall_time: Duration,
    pub durability: Durability,
    /// Whether what is written is not to stay in the page cache.
    pub streaming: bool,
    pub log: Log,
    /// What this handle published without waiting for the disk.
    pub unsynced: Unsynced,
    /// What can fail at every read, and keeps none from going on.
    untold_uses: Once,
    unset_times: Once,
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
            let driver = driver::open(&layout, &options, &guard, alone)?;
            recover(&layout, driver.as_ref(), &options.log, &guard, modified, alone)?;
            presence.announce()?;
            driver
        };
        Ok(Self {
            layout,
            driver,
            gate,
            pruning,
            presence,
            max_size: options.max_size,
            stall_time: options.stall_time,
            durability: options.durability,
            streaming: options.streaming,
            log: options.log,
            unsynced: Unsynced::default(),
            untold_uses: Once::default(),
            unset_times: Once::default(),
        })
    }

    /// Validates an image id.
    pub fn image_id(&self, text: &str) -> Result<ImageId> {
        self.layout.image_id(text)
    }

    /// Takes the gate and makes the index exact: whoever goes by what it has comes in this way.
    pub fn enter_settled(&self) -> Result<HostLockGuard<'_>> {
        let gate = self.gate.acquire()?;
        self.settle(&gate)?;
        Ok(gate)
    }

    /// Asks the index, once it is exact. Should it turn out to be damaged only then, it is made anew, and asked once more.
    pub fn ask<T>(&self, question: impl Fn(&HostLockGuard<'_>) -> Result<T>) -> Result<T> {
        self.ask_under(&self.enter_settled()?, question)
    }

    /// The same, of an index that is as exact as it can be now.
    pub fn ask_under<T>(
        &self,
        gate: &HostLockGuard<'_>,
        question: impl Fn(&HostLockGuard<'_>) -> Result<T>,
    ) -> Result<T> {
        question(gate).or_else(|error| match self.settle(gate) {
            Ok(true) => question(gate),
            _ => Err(error),
        })
    }

    /// Writes what waits of uses, for somebody who asks for them. What cannot be written, the driver adds to its answer.
    pub fn tell_uses(&self, gate: &HostLockGuard<'_>) {
        if let Err(error) = self.driver.write_uses(gate, false) {
            self.log.warning(|| format!("{error}; it is done later"));
        }
    }

    /// Makes the index exact; true when it was not.
    fn settle(&self, gate: &HostLockGuard<'_>) -> Result<bool> {
        let is_current = self.is_current(gate)?;
        if !is_current {
            rebuild(&self.layout, self.driver.as_ref(), &self.log, gate)?;
        }
        Ok(!is_current)
    }

    fn is_current(&self, gate: &HostLockGuard<'_>) -> Result<bool> {
        self.driver.is_current(gate, self.layout.directory(Place::Cached).modified()?)
    }

    /// Begins a change of final names.
    pub fn begin_change(&self, gate: &HostLockGuard<'_>) -> Result<Seal> {
        Seal::begin(gate, self.layout.directory(Place::Cached))
    }

    /// Enters a published image into the index.
    pub fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>, seal: &Seal) {
        self.end_change(gate, seal, self.driver.record(gate, id, record, seal));
    }

    /// Drops images whose files were removed from the index.
    pub fn forget(&self, gate: &HostLockGuard<'_>, ids: &[ImageId], seal: &Seal) {
        if !ids.is_empty() {
            self.end_change(gate, seal, self.driver.forget(gate, ids, seal));
        }
    }

    /// Ends a change of final names that the index followed, or failed to. Such a failure does not undo what happened to
    /// the files: the directory keeps the time of the change, so that the index is put right before it is asked next.
    fn end_change(&self, gate: &HostLockGuard<'_>, seal: &Seal, followed: Result<bool>) {
        let sealed = followed
            .and_then(|sealed| if sealed { put_seal(&self.layout, self.driver.as_ref(), gate, seal) } else { Ok(()) });
        if let Err(error) = sealed {
            self.log.warning(|| format!("{error}; the index is put right later"));
        }
    }

    /// Removes the files of cached images and their entries. The files' bytes are freed when the removal is dropped, which is
    /// to be after the gate.
    pub fn remove_cached(&self, gate: &HostLockGuard<'_>, ids: &[ImageId]) -> Result<Removal> {
        let mut seal = self.begin_change(gate)?;
        let mut removal = Removal { fates: Vec::with_capacity(ids.len()), outcome: Ok(()), files: Vec::new() };
        let mut removed = Vec::with_capacity(ids.len());
        for id in ids {
            let taken =
                seal.step(self.layout.directory(Place::Cached), || self.layout.take_away(gate, Place::Cached, id));
            let fate = match taken {
                Ok(Some(file)) => {
                    // Left there by a writer that died: it must not come back now that the image is gone.
                    if let Err(error) = self.layout.remove(gate, Place::Queue, id) {
                        self.log.warning(|| error.to_string());
                    }
                    removed.push(id.clone());
                    let size = file.size;
                    removal.files.push(file);
                    Fate::Removed { size }
                }
                // Whoever removed it saw to the index, or did not know of it: then the directory's time tells.
                Ok(None) => Fate::WasGone,
                Err(error) => {
                    if removal.outcome.is_ok() {
                        removal.outcome = Err(error);
                    }
                    Fate::Kept
                }
            };
            removal.fates.push(fate);
        }
        self.forget(gate, &removed, &seal);
        Ok(removal)
    }

    /// Takes back a published image whose bytes or name may not be on the disk: a sync that failed is final.
    pub fn withdraw(&self, id: &ImageId, file: &File, cause: &Error) {
        self.log.error(|| format!("{cause}; image '{id}' is withdrawn"));
        let withdrawn = self.gate.acquire().and_then(|gate| {
            let ours = Facts::of(file, &self.layout.path(Place::Cached, id))?.identity;
            let standing = self.layout.examine(Place::Cached, id)?.image();
            if standing.is_none_or(|facts| facts.identity != ours) {
                return Ok(());
            }
            driver::note_failure(file, &cause.to_string());
            let mut seal = self.begin_change(&gate)?;
            seal.step(self.layout.directory(Place::Cached), || {
                self.layout.invalidate(&gate, Place::Cached, id).or_else(|error| {
                    self.log.warning(|| error.to_string());
                    // Better no file to look at than one that may be torn.
                    self.layout.remove(&gate, Place::Cached, id).map(drop)
                })
            })?;
            self.forget(&gate, std::slice::from_ref(id), &seal);
            Ok(())
        });
        if let Err(error) = withdrawn {
            self.log.error(|| format!("image '{id}', which could not be synced, stays: {error}"));
        }
    }

    /// The image was opened: the file's access time is set, so that the order of use is exact on every mount and over all
    /// processes, and the driver is told. A reader never fails for it.
    pub fn note_use(&self, id: &ImageId, file: &File, facts: &Facts) {
        let (at, set) = set_access_time(file);
        let set =
            set.map_err(|errno| Error::system("set the access time of", &self.layout.path(Place::Cached, id), errno));
        self.unset_times.note(set, &self.log, |error| error.to_string());
        self.note(id, facts, Use::opened(at));
    }

    /// The image was opened, and is closed. A reader never fails for it.
    pub fn note_hit(&self, id: &ImageId, facts: &Facts) {
        self.note(id, facts, Use::hit());
    }

    fn note(&self, id: &ImageId, facts: &Facts, one: Use) {
        if self.driver.uses().add(id, facts, one) {
            self.write_uses(false);
        }
    }

    /// The cache's own handle is closed, and readers or writers that were made from it live on.
    pub fn let_go(&self) {
        self.driver.uses().let_go();
        if self.driver.uses().are_waiting() {
            self.write_uses(true);
        }
    }

    fn write_uses(&self, patiently: bool) {
        let written = self.gate.acquire().and_then(|gate| self.write_uses_under(&gate, patiently));
        self.untold_uses.note(written, &self.log, |error| format!("{error}; the images' uses are noted later"));
    }

    /// An index that is not right may have no place for an image's uses, or an older image's. Whoever ends puts it right first; a
    /// reader has no time for that, and leaves it to those who ask.
    fn write_uses_under(&self, gate: &HostLockGuard<'_>, patiently: bool) -> Result<()> {
        if patiently {
            self.settle(gate)?;
        } else if !self.is_current(gate)? {
            self.driver.uses().postpone();
            return Ok(());
        }
        self.driver.write_uses(gate, patiently)
    }

    /// Ends the handle. The driver may remove files of its own with its last handle, so the directory is sealed once more.
    fn close(&self) -> Result<()> {
        for (id, file, error) in self.unsynced.sync(&self.layout, &self.log) {
            self.withdraw(&id, &file, &error);
        }
        let gate = self.gate.acquire()?;
        if self.driver.uses().are_waiting()
            && let Err(error) = self.settle(&gate)
        {
            self.log.warning(|| format!("{error}; the index is put right later"));
        }
        let sealed = self.seal_if_alone(&gate);
        // Closing takes SQLite a while: what other programs do meanwhile must not be sealed in. The two names that it removes at
        // the end are all that is left.
        let undisturbed = if let Ok(Some(seal)) = &sealed {
            self.driver.settle(&gate);
            seal.is_undisturbed(self.layout.directory(Place::Cached)).unwrap_or(false)
        } else {
            false
        };
        // Whatever fails: it is closed under the gate.
        let closed = self.driver.close(&gate, sealed.as_ref().ok().and_then(Option::as_ref));
        let set = match &sealed {
            Ok(Some(seal)) if closed.is_ok() && undisturbed => {
                match self.layout.directory(Place::Cached).set_modified(seal.after) {
                    // Only the directory's owner may: the next one to open it looks at all files.
                    Err(error) if error.is_not_permitted() => Ok(()),
                    result => result,
                }
            }
            _ => Ok(()),
        };
        // Not left to the descriptor's closing: a forked child may have it open for longer.
        self.presence.withdraw();
        closed.and(sealed.map(drop)).and(set)
    }

    /// Gives the index, which no other handle uses, another seal; `None` where that cannot be.
    fn seal_if_alone(&self, gate: &HostLockGuard<'_>) -> Result<Option<Seal>> {
        let seal = self.begin_change(gate)?;
        Ok((self.presence.is_alone()? && self.driver.reseal(gate, &seal)?).then_some(seal))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            self.log.error(|| format!("closing the cache: {error}"));
        }
    }
}

/// Sets a file's access time to the present, which is returned. Whoever is interrupted between looking at the clock and setting
/// the time does both again: another one may have set a later time meanwhile.
fn set_access_time(file: &File) -> (Timestamp, std::result::Result<(), Errno>) {
    const PROMPT: Duration = Duration::from_micros(20);
    const ATTEMPTS: usize = 4; // a file system may always take that long
    let mut attempts_left = ATTEMPTS;
    loop {
        let at = Timestamp::now_in_use();
        let set = futimens(file, &at.as_access_time());
        attempts_left -= 1;
        if set.is_err() || at.distance(Timestamp::now()) <= PROMPT || attempts_left == 0 {
            return (at, set);
        }
    }
}

/// Repairs what is found at an open. `modified` was the directory's time before the driver created files of its own. The
/// first handle to open a cache, which no other can be beside, looks at more.
fn recover(
    layout: &Layout,
    driver: &dyn Driver,
    log: &Log,
    gate: &HostLockGuard<'_>,
    modified: Timestamp,
    alone: bool,
) -> Result<()> {
    let was_current = driver.is_current(gate, modified)?;
    let dropped = if alone { unsynced::drop_unsynced(layout, log, gate)? } else { 0 };
    if !was_current || dropped > 0 {
        rebuild(layout, driver, log, gate)?;
    } else if layout.directory(Place::Cached).modified()? != modified {
        let seal = Seal::begin(gate, layout.directory(Place::Cached))?.since(modified);
        if driver.reseal(gate, &seal)? {
            put_seal(layout, driver, gate, &seal)?;
        }
    }
    if alone {
        // A writer that died after publishing may have left its image in the queue.
        let mut missed = Missed::new(log);
        for (id, _) in layout.images(Place::Queue)? {
            let is_cached = missed.note(layout.has(Place::Cached, &id)).unwrap_or(false);
            if is_cached {
                missed.note(layout.remove(gate, Place::Queue, &id));
            }
        }
    }
    Ok(())
}

/// Makes the index agree with the directory.
fn rebuild(layout: &Layout, driver: &dyn Driver, log: &Log, gate: &HostLockGuard<'_>) -> Result<()> {
    let directory = layout.directory(Place::Cached);
    let seal = Seal::begin(gate, directory)?;
    let seal = driver.sealed(gate)?.map_or(seal, |known| seal.earlier_than(known));
    let found = driver.rebuild(gate, &seal)?;
    if found != Rebuilt::default() {
        log.info(|| {
            format!(
                "the index was put right: {} images adopted, {} dropped, {} corrected",
                found.adopted, found.dropped, found.corrected
            )
        });
    }
    put_seal(layout, driver, gate, &seal)
}

/// Gives the directory the time that the index has, unless another program changed a name meanwhile. Only the directory's
/// owner may choose a time; for others, and for an index of one handle alone, the index takes the directory's.
fn put_seal(layout: &Layout, driver: &dyn Driver, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<()> {
    let directory = layout.directory(Place::Cached);
    if !seal.is_undisturbed(directory)? {
        return Ok(());
    }
    if driver.chooses_times() {
        match directory.set_modified(seal.after) {
            Err(error) if error.is_not_permitted() => {}
            result => return result,
        }
    }
    seal.as_it_is().map_or(Ok(()), |seal| driver.reseal(gate, &seal).map(drop))
}
