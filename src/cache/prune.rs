//! Evicting the least recently accessed images until the cache is within its limit, and the disk has room.
//!
//! Victims are chosen first, in the order of access and as many as the goal needs. Then they are removed. So nothing is evicted
//! in vain:
//!
//! - If room for an image is to be made, and cannot be, none is evicted.
//! - An image that cannot be removed (an immutable file, another user's in a sticky directory) is never a victim. If such images
//!   alone exceed the limit, none is evicted.
//! - An empty image is no victim.
//! - If a victim has no file, or another size, the index is wrong: it is rebuilt, and the victims are chosen again.
//!
//! Each image is looked at once at most, and the order starts again twice at most, so a prune always ends. An image that is being
//! read may be evicted: its readers keep its bytes.

use std::collections::VecDeque;

use crate::cache::catalog::Exactness;
use crate::cache::inner::CacheInner;
use crate::cache::name_change::{NameChange, RemoveOutcome};
use crate::cache::remove::BATCH;
use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder};
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::sys::memory;
use crate::sys::stat::Removable;
use crate::sys::time::Timestamp;

/// How often the victims are chosen again, when other programs change images meanwhile, or the index is wrong.
const RESTARTS: usize = 2;

/// The result of a prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many images were evicted.
    pub images: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What an eviction is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// The rest has at most so many bytes.
    pub limit: u64,
    /// The file system has so many bytes free.
    pub free: u64,
    /// Nothing is evicted if that cannot be reached.
    pub is_all_or_nothing: bool,
}

/// Evicts until the rest has at most so many bytes, or no candidate is left.
pub(crate) fn prune(cache: &CacheInner, limit: u64) -> Result<Pruned> {
    evict(cache, Goal { limit, free: 0, is_all_or_nothing: false })
}

/// Makes room for an image: within the limit, and on the disk. Fails for a full disk, and evicts nothing, if that cannot be.
pub(crate) fn make_room(cache: &CacheInner, bytes: u64) -> Result<Pruned> {
    let Some(limit) = cache.max_size.checked_sub(bytes) else {
        return Err(no_room(cache, bytes, format!("the limit is {} bytes", cache.max_size)));
    };
    let pruned = evict(cache, Goal { limit, free: bytes, is_all_or_nothing: true })?;
    // Readers keep what was deleted, and other programs write.
    match cache.layout().free_bytes()? {
        free if free < bytes => {
            Err(no_room(cache, bytes, format!("the disk has {free} bytes free after the eviction")))
        }
        _ => Ok(pruned),
    }
}

fn no_room(cache: &CacheInner, bytes: u64, why: String) -> Error {
    Error::NoRoom { bytes, why, path: cache.layout().directory(Area::Cached).path().to_owned() }
}

fn evict(cache: &CacheInner, goal: Goal) -> Result<Pruned> {
    // Two prunes at the same time would compute the same excess, and evict twice as much.
    let _prune_lock = match cache.lock.acquire_prune() {
        // Below the limit, there is nothing to do. Above it, the removal fails.
        Err(error) if error.is_not_permitted() => None,
        acquired => Some(acquired?),
    };
    if let Err(error) = correct_future_accesses(cache) {
        cache.log().warning(|| error.to_string());
    }
    let mut restarts = if cache.index().reconciled().is_some() { RESTARTS } else { 0 };
    loop {
        let (lock, mut pruning) = Pruning::begin(cache, goal)?;
        let mut lock = Some(lock);
        if let Some(victims) = pruning.choose(&mut lock, restarts > 0)? {
            return pruning.run(lock, victims);
        }
        pruning.doubt(lock)?;
        restarts = restarts.saturating_sub(1);
    }
}

/// Replaces accesses in the future, a few under each lock.
fn correct_future_accesses(cache: &CacheInner) -> Result<()> {
    let Some(index) = cache.index().reconciled() else { return Ok(()) };
    loop {
        let lock = cache.lock.acquire_to_query()?;
        if lock.check_held().is_err() || !index.correct_future_accesses(&lock, &cache.index().pending)? {
            return Ok(());
        }
    }
}

/// The cache lock, taken if it is not held.
fn held<'a, 'l>(cache: &'a CacheInner, lock: &'l mut Option<CacheLockGuard<'a>>) -> Result<&'l CacheLockGuard<'a>> {
    let held = lock.take().map_or_else(|| cache.lock.acquire(), Ok)?;
    Ok(lock.insert(held))
}

/// An image that was chosen.
struct Victim {
    candidate: Candidate,
    /// What it takes up on the disk, in bytes.
    allocated: u64,
}

struct Pruning<'a> {
    cache: &'a CacheInner,
    order: Box<dyn EvictionOrder + 'a>,
    candidates: VecDeque<Candidate>,
    /// A batch of candidates was looked at.
    has_looked: bool,
    /// How many candidates are left in the order. Images that are added meanwhile are none, so that the prune ends.
    unseen: usize,
    goal: Goal,
    /// Bytes above the limit.
    excess: u128,
    /// Bytes that are missing on the disk.
    short: u64,
    /// Bytes of images that cannot be removed.
    fixed: u128,
    pruned: Pruned,
    /// The first failure.
    failed: Result<()>,
    /// Images that were evicted, and are still to be logged: without the cache lock.
    evicted: Vec<Candidate>,
}

impl<'a> Pruning<'a> {
    fn begin(cache: &'a CacheInner, goal: Goal) -> Result<(CacheLockGuard<'a>, Self)> {
        let (lock, order) = eviction_order(cache)?;
        let totals = order.totals();
        let short = if goal.free > 0 { goal.free.saturating_sub(cache.layout().free_bytes()?) } else { 0 };
        let pruning = Self {
            cache,
            order,
            candidates: VecDeque::new(),
            has_looked: false,
            unseen: usize::try_from(totals.images).unwrap_or(usize::MAX),
            goal,
            excess: totals.bytes.saturating_sub(goal.limit.into()),
            short,
            fixed: 0,
            pruned: Pruned::default(),
            failed: Ok(()),
            evicted: Vec::new(),
        };
        Ok((lock, pruning))
    }

    /// The index contradicts the directory. If nobody has changed it meanwhile, it is wrong, and is compared.
    fn doubt(self, mut lock: Option<CacheLockGuard<'a>>) -> Result<()> {
        let Some(index) = self.cache.index().reconciled() else { return Ok(()) };
        let has_changed =
            index.totals(held(self.cache, &mut lock)?).is_ok_and(|present| present != self.order.totals());
        drop(lock);
        if !has_changed && let Err(error) = self.cache.catalog.compare(&self.cache.lock) {
            self.cache
                .log()
                .warning(|| format!("{error}; the index is compared with the directory before its next query"));
        }
        Ok(())
    }

    /// Chooses as many victims as the goal needs; none when it cannot be reached. `None` when the index does not agree with
    /// the directory, and the prune may restart.
    fn choose(&mut self, lock: &mut Option<CacheLockGuard<'a>>, may_restart: bool) -> Result<Option<Vec<Victim>>> {
        let mut victims = Vec::new();
        let (mut bytes, mut allocated) = (0_u128, 0_u64);
        while (bytes < self.excess || allocated < self.short) && !self.is_out_of_reach() {
            let Some(candidate) = self.candidates.pop_front() else {
                // Other handles get the lock between two batches, also if nothing of the first was chosen.
                if self.has_looked {
                    drop(lock.take());
                }
                self.has_looked = true;
                self.candidates.extend(self.order.next_batch(held(self.cache, lock)?, BATCH.min(self.unseen))?);
                self.unseen -= self.candidates.len().min(self.unseen);
                if self.candidates.is_empty() {
                    break;
                }
                continue;
            };
            match self.cache.layout().check_removable(&candidate.id) {
                // It takes up nothing that is missing.
                Ok(Some(Removable { size: 0, .. })) if candidate.size == 0 => {}
                // Only the disk is short, and it takes up nothing there: it is sparse, or has another name.
                Ok(Some(Removable { allocated: 0, .. })) if bytes >= self.excess => {}
                Ok(Some(file)) if file.size == candidate.size || !may_restart => {
                    bytes += u128::from(candidate.size);
                    allocated = allocated.saturating_add(file.allocated);
                    let victim = Victim { candidate, allocated: file.allocated };
                    memory::push(&mut victims, victim, "choose the images to be evicted")?;
                }
                Ok(_) if may_restart => return Ok(None),
                // It vanished.
                Ok(_) => self.excess = self.excess.saturating_sub(candidate.size.into()),
                Err(error) => {
                    self.fixed += u128::from(candidate.size);
                    self.note(Err(error));
                }
            }
        }
        let is_missed = bytes < self.excess || allocated < self.short;
        if self.is_out_of_reach() || (is_missed && self.goal.is_all_or_nothing) {
            victims.clear();
        }
        Ok(Some(victims))
    }

    /// Removes the victims, and further ones for those that could not be removed.
    fn run(mut self, mut lock: Option<CacheLockGuard<'a>>, mut victims: Vec<Victim>) -> Result<Pruned> {
        while !victims.is_empty() {
            for victims in victims.chunks(BATCH) {
                if self.is_out_of_reach() {
                    break;
                }
                let removed = self.remove(held(self.cache, &mut lock)?, victims);
                drop(lock.take());
                self.log_evicted();
                removed?;
            }
            if self.is_reached() {
                break;
            }
            victims = self.choose(&mut lock, false)?.unwrap_or_default();
        }
        drop(lock);
        let is_reached = self.is_reached();
        // An image that could not be removed is a failure only if the limit is missed. That is unknown if images could not be stat'ed.
        match (self.failed, self.order.skipped()) {
            (Err(error), _) if !is_reached => Err(error),
            _ if !is_reached && self.goal.is_all_or_nothing => {
                let place = if self.excess > 0 { "within the limit" } else { "on the disk" };
                Err(no_room(self.cache, self.goal.free, format!("too little can be evicted {place}")))
            }
            (failed, skipped) => {
                if let Err(error) = failed {
                    self.cache.log().warning(|| error.to_string());
                }
                skipped.map_or(Ok(self.pruned), Err)
            }
        }
    }

    fn remove(&mut self, lock: &CacheLockGuard<'_>, victims: &[Victim]) -> Result<()> {
        let victims = self.still_needed(lock, victims);
        let ids: Vec<_> = victims.iter().map(|victim| victim.candidate.id.clone()).collect();
        let removal = NameChange::begin(&self.cache.catalog, lock)?.remove(&ids);
        for (victim, outcome) in victims.iter().zip(&removal.outcomes) {
            let size = u128::from(victim.candidate.size);
            match outcome {
                RemoveOutcome::Failed => self.fixed += size,
                // The name may belong to another image by now, with another size.
                RemoveOutcome::Removed { size: removed } => {
                    self.excess = self.excess.saturating_sub(size);
                    self.short = self.short.saturating_sub(victim.allocated);
                    self.evicted.push(victim.candidate.clone());
                    self.pruned.images += 1;
                    self.pruned.bytes = self.pruned.bytes.saturating_add(*removed);
                }
                RemoveOutcome::Missing => self.excess = self.excess.saturating_sub(size),
            }
        }
        self.note(removal.result);
        Ok(())
    }

    /// The victims that are still needed: others may have removed images meanwhile.
    fn still_needed<'v>(&mut self, lock: &CacheLockGuard<'_>, victims: &'v [Victim]) -> &'v [Victim] {
        if let Some(index) = self.cache.index().reconciled()
            && let Ok(totals) = index.totals(lock)
        {
            self.excess = self.excess.min(totals.bytes.saturating_sub(self.goal.limit.into()));
        }
        let (mut bytes, mut allocated) = (0, 0_u64);
        let count = victims
            .iter()
            .take_while(|victim| {
                let is_needed = bytes < self.excess || allocated < self.short;
                bytes += u128::from(victim.candidate.size);
                allocated = allocated.saturating_add(victim.allocated);
                is_needed
            })
            .count();
        &victims[..count]
    }

    /// Whether the images that cannot be removed exceed the limit alone.
    fn is_out_of_reach(&self) -> bool {
        self.fixed > self.goal.limit.into()
    }

    fn is_reached(&self) -> bool {
        self.excess == 0 && self.short == 0
    }

    fn log_evicted(&mut self) {
        for Candidate { id, size, accessed } in self.evicted.drain(..) {
            self.cache.log().info(|| {
                let idle = Timestamp::now().distance(accessed).as_secs();
                format!("image '{id}' is evicted: {size} bytes, not accessed for {idle} s")
            });
        }
    }

    fn note(&mut self, result: Result<()>) {
        if self.failed.is_ok() {
            self.failed = result;
        }
    }
}

/// The cache lock, and the order of eviction. If the index fails, for example because it cannot be written on a full disk, the order
/// is that of the files' atimes: a full cache must be able to shrink.
fn eviction_order(cache: &CacheInner) -> Result<(CacheLockGuard<'_>, Box<dyn EvictionOrder + '_>)> {
    let scanned = || {
        let order = cache.index().scanned_order(cache.log())?;
        Ok((cache.lock.acquire_to_query()?, order))
    };
    let Some(index) = cache.index().reconciled() else {
        cache.catalog.flush(&cache.lock.acquire_to_query()?);
        return scanned();
    };
    let indexed = cache.catalog.lock_flushed(&cache.lock, Exactness::Full).and_then(|lock| {
        let order = index.eviction_order(&lock, &cache.index().pending)?;
        Ok((lock, order))
    });
    indexed.or_else(|error| {
        cache.log().warning(|| format!("{error}; the order of access is that of the files' access times"));
        scanned()
    })
}
