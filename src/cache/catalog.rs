//! The catalog: the directory and the index, which is compared with the directory when they may disagree.
//!
//! The index is current while it has the directory's stamp (see `store::stamp`). A query of an index that is not current compares
//! first. A contradiction (an entry without a file, a file without an entry, a wrong length) makes the index not current, too.
//! A clean always compares.
//!
//! # The comparison
//!
//! It takes as long as the directory is large, so the cache lock is held for one part of it at a time.
//!
//! 0. Without the lock: an index that may be damaged is checked, and its rows are counted. The result is valid under the lock if
//!    nobody has written the index since. If others write it each time, the third attempt checks it under the lock.
//! 1. Under the cache lock: store the directory's stamp in the index, with a tag of this comparison. From here on, changes of names
//!    by our own handles bring the directory and the index from stamp to stamp, as always.
//! 2. Without the lock: list the names, in the order of ids. For each part of them: stat the files.
//! 3. Under the lock, for each part: compare with the rows. A difference is checked again, since the directory has changed
//!    meanwhile, and corrected.
//! 4. Under the lock: if the index still has the tag, and the directory's stamp, then only our own handles changed names since step
//!    1. The index is current: the tag is removed.
//!
//! A process that dies in between leaves a tag, and an index that is not current. A second comparison at the same time joins the
//! first one, and uses its tag, unless another program disturbed that.
//!
//! # A directory that is never quiet
//!
//! Other programs may change names all the time, without touching images (a hidden file that comes and goes). After three
//! comparisons in a row that were made because names changed, and that found nothing to correct, the next one waits at least ten
//! times as long as the last one took: comparisons use a tenth of the time at most. Until then, the index is used as it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::cache::counters::Counters;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::index::driver::{Comparison, Corrected, Currency, Examined, Found, Page};
use crate::index::sqlite::driver::SqliteDriver;
use crate::log::{Log, LogOnce, SkippedErrors};
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::ledger::Ledger;
use crate::store::lock::{CacheLockGuard, Locks};
use crate::store::stamp::Stamp;
use crate::sys::memory;

/// How many images are compared each time that the cache lock is held.
const PART: usize = 64;

/// How often an index is examined without the cache lock before it is examined under it, since others write it all the time.
const EXAMINATIONS: u32 = 3;

/// After comparisons in vain, the index is used as it is for this multiple of the last one's duration.
const REST: u32 = 10;

/// How many comparisons in vain, in a row, come before such a rest.
const PATIENCE: u32 = 3;

/// The directory and its index.
pub(crate) struct Catalog {
    pub layout: Arc<Layout>,
    pub index: Index,
    pub log: Log,
    pub ledger: Ledger,
    /// What this handle counts for the statistics.
    pub counters: Counters,
    /// A query is repeated while another program has the index locked.
    unflushed: LogOnce,
    rest: Mutex<Rest>,
}

/// Limits the comparisons of a directory whose names change all the time.
#[derive(Debug, Default)]
struct Rest {
    /// How many comparisons in a row were made in vain.
    in_vain: u32,
    /// Until then, a directory whose names changed needs no comparison.
    until: Option<Instant>,
}

/// How exact an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exactness {
    /// A recently compared index is exact enough, if the comparison found nothing to correct.
    Usual,
    /// The index must have the directory's stamp.
    Full,
}

impl Catalog {
    pub fn new(layout: Arc<Layout>, index: Index, log: Log) -> Self {
        Self {
            layout,
            index,
            log,
            ledger: Ledger::default(),
            counters: Counters::default(),
            unflushed: LogOnce::default(),
            rest: Mutex::default(),
        }
    }

    /// Whether the index agrees with the directory. A driver without an index is always current.
    pub fn currency(&self, lock: &CacheLockGuard<'_>) -> Result<Currency> {
        let Some(index) = self.index.reconciled() else { return Ok(Currency::Current) };
        index.currency(lock, Stamp::of(&self.layout)?)
    }

    /// Whether a query needs no comparison.
    fn is_enough(&self, currency: Currency, exactness: Exactness) -> bool {
        match currency {
            Currency::Current => true,
            Currency::DirectoryChanged => exactness == Exactness::Usual && self.rests(),
            Currency::InDoubt => false,
        }
    }

    /// The cache lock, with an index that is good enough. Compares at most once: another program may change names without end.
    pub fn lock_reconciled<'a>(&self, locks: &'a Locks, exactness: Exactness) -> Result<CacheLockGuard<'a>> {
        let lock = locks.acquire_to_query()?;
        let currency = self.currency(&lock)?;
        if self.is_enough(currency, exactness) {
            return Ok(lock);
        }
        drop(lock);
        let began = Instant::now();
        let was_in_vain = !self.compare(locks)?;
        self.note_comparison(began, was_in_vain && currency == Currency::DirectoryChanged);
        locks.acquire_to_query()
    }

    /// As [`Self::lock_reconciled`], with the pending accesses in the index. Accesses that could not be written stay pending.
    pub fn lock_flushed<'a>(&self, locks: &'a Locks, exactness: Exactness) -> Result<CacheLockGuard<'a>> {
        let lock = self.lock_reconciled(locks, exactness)?;
        self.flush_counters(&lock);
        if self.index.pending.is_empty() {
            return Ok(lock);
        }
        self.flush(&lock);
        if self.is_enough(self.currency(&lock)?, exactness) {
            return Ok(lock);
        }
        // The flush has met an image without an entry, or with a wrong one.
        drop(lock);
        let lock = self.lock_reconciled(locks, exactness)?;
        self.flush(&lock);
        Ok(lock)
    }

    /// Flushes for a query. The query adds those that could not be written.
    pub fn flush(&self, lock: &CacheLockGuard<'_>) {
        self.unflushed.note(self.index.flush(lock), &self.log, |error| format!("{error}; accesses are written later"));
    }

    /// Adds to the statistics what was counted, if it is due.
    pub fn flush_counters(&self, lock: &CacheLockGuard<'_>) {
        self.counters.flush_if_due(&self.layout, lock, &self.log);
    }

    /// Compares the index with the directory, and corrects it. True when there was something to correct. Called without the cache
    /// lock.
    pub fn compare(&self, locks: &Locks) -> Result<bool> {
        let Some(index) = self.index.reconciled() else { return Ok(false) };
        // A transient read error looks like damage.
        let again = |error| if index.is_suspect() { self.try_compare(locks, index) } else { Err(error) };
        self.try_compare(locks, index).or_else(again).or_else(|error| {
            // A check does not find every damage that makes a statement fail.
            if !index.reset_if_damaged(&locks.acquire_to_query()?)? {
                return Err(error);
            }
            self.try_compare(locks, index)
        })
    }

    fn try_compare(&self, locks: &Locks, index: &SqliteDriver) -> Result<bool> {
        let comparison = self.begin_comparison(locks, index)?;
        let mut skipped = SkippedErrors::new(&self.log);
        let mut corrected = Corrected::default();
        let mut ids = memory::collect(self.layout.ids(Area::Cached)?, "list the images")?;
        ids.sort_unstable();
        let parts = ids.chunks(PART).map(Some).chain([None]);
        let mut after = None;
        for part in parts {
            let found = part.map_or_else(Vec::new, |part| self.found(part, &mut skipped));
            let until = part.and_then(<[_]>::last).map(ImageId::as_str);
            let mut reached: Option<String> = after.map(str::to_owned);
            loop {
                let lock = locks.acquire_to_query()?;
                let page = Page { after: reached.as_deref(), until, found: &found };
                match index.compare_page(&lock, &page, &mut corrected)? {
                    Some(id) => reached = Some(id),
                    None => break,
                }
            }
            after = until.or(after);
        }
        let lock = locks.acquire_to_query()?;
        // Without a stamp of the directory, the index does not become current.
        let stamp = if corrected.unsure == 0 { Some(Stamp::of(&self.layout)?) } else { None };
        index.end_comparison(&lock, comparison, stamp, skipped.into_first())?;
        drop(lock);
        if corrected.count() > 0 {
            let Corrected { adopted, dropped, changed, .. } = corrected;
            self.log.info(|| {
                format!(
                    "the index was compared with the directory: {adopted} images adopted, {dropped} dropped, {changed} corrected"
                )
            });
        }
        Ok(corrected.count() > 0)
    }

    fn begin_comparison(&self, locks: &Locks, index: &SqliteDriver) -> Result<Comparison> {
        let begin = |examined: Option<&Examined>, is_last| {
            let lock = locks.acquire_to_query()?;
            let present = Stamp::of(&self.layout)?;
            index.begin_comparison(&lock, present, Stamp::settle(&lock, &self.layout)?, examined, is_last)
        };
        let mut examined = None;
        for _ in 0..EXAMINATIONS {
            if let Some(comparison) = begin(examined.as_ref(), false)? {
                return Ok(comparison);
            }
            examined = index.examine();
        }
        begin(examined.as_ref(), true)?.ok_or_else(|| Error::Internal("a comparison did not begin".to_owned()))
    }

    /// Stats a part of the images.
    fn found(&self, ids: &[ImageId], skipped: &mut SkippedErrors<'_>) -> Vec<Found> {
        let found = ids.iter().filter_map(|id| match skipped.note(self.layout.stat(Area::Cached, id)) {
            Some(DirEntry::Image(stat)) => Some(Found { id: id.clone(), stat: Some(stat) }),
            Some(DirEntry::Missing | DirEntry::Foreign) => None,
            None => Some(Found { id: id.clone(), stat: None }),
        });
        found.collect()
    }

    fn note_comparison(&self, began: Instant, was_in_vain: bool) {
        let now = Instant::now();
        let mut rest = self.rest();
        rest.in_vain = if was_in_vain { rest.in_vain.saturating_add(1) } else { 0 };
        rest.until = (rest.in_vain >= PATIENCE).then(|| now + (now - began) * REST);
    }

    fn rests(&self) -> bool {
        self.rest().until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the entry of an image that has no file, if there is one. Does not wait for the cache lock.
    pub fn heal(&self, locks: &Locks, id: &ImageId) {
        if self.index.reconciled().is_none() {
            return;
        }
        // If it fails, the next comparison corrects the index.
        if let Ok(Some(lock)) = locks.try_acquire()
            && let Ok(DirEntry::Missing) = self.layout.stat(Area::Cached, id)
        {
            self.forget(&lock, id);
        }
    }

    /// Removes the entry of an image that has no file, if there is one. The next query then compares: others may be wrong as well.
    pub fn forget(&self, lock: &CacheLockGuard<'_>, id: &ImageId) {
        match self.index.reconciled().map_or(Ok(false), |index| index.forget(lock, id)) {
            Ok(true) => self.log.info(|| format!("image '{id}' had no file: it was removed from the index")),
            Ok(false) => {}
            Err(error) => {
                self.log.warning(|| format!("{error}; the index is compared with the directory before its next query"));
            }
        }
    }
}
