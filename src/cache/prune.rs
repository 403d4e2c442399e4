//! Evicting the least recently accessed images until the cache is within its limit.
//!
//! Victims are chosen first, in the order of access and as many as the excess needs. Then they are removed. So nothing is evicted
//! in vain:
//!
//! - An image that cannot be removed (an immutable file, another user's in a sticky directory) is never a victim. If such images
//!   alone exceed the limit, none is evicted.
//! - If a victim has no file, or another size, the index is wrong: it is rebuilt, and the victims are chosen again.
//!
//! Each image is looked at once at most, and the order starts again twice at most, so a prune always ends. An image that is being
//! read may be evicted: its readers keep its bytes.

use std::collections::VecDeque;

use crate::cache::catalog::Exactness;
use crate::cache::inner::CacheInner;
use crate::cache::name_change::{NameChange, RemoveOutcome};
use crate::cache::remove::BATCH;
use crate::error::Result;
use crate::index::driver::{Candidate, EvictionOrder};
use crate::store::lock::CacheLockGuard;
use crate::sys::memory;

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

/// Evicts until the cache is within its limit, or no candidate is left.
pub(crate) fn prune(cache: &CacheInner) -> Result<Pruned> {
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
        let (lock, mut pruning) = Pruning::begin(cache)?;
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

struct Pruning<'a> {
    cache: &'a CacheInner,
    order: Box<dyn EvictionOrder + 'a>,
    candidates: VecDeque<Candidate>,
    /// How many candidates are left in the order. Images that are added meanwhile are none, so that the prune ends.
    unseen: usize,
    /// Bytes above the limit.
    excess: u128,
    /// Bytes of images that cannot be removed.
    fixed: u128,
    pruned: Pruned,
    /// The first failure.
    failed: Result<()>,
}

impl<'a> Pruning<'a> {
    fn begin(cache: &'a CacheInner) -> Result<(CacheLockGuard<'a>, Self)> {
        let (lock, order) = eviction_order(cache)?;
        let totals = order.totals();
        let pruning = Self {
            cache,
            order,
            candidates: VecDeque::new(),
            unseen: usize::try_from(totals.images).unwrap_or(usize::MAX),
            excess: totals.bytes.saturating_sub(cache.max_size.into()),
            fixed: 0,
            pruned: Pruned::default(),
            failed: Ok(()),
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

    /// Chooses as many victims as the excess needs; none when the limit cannot be reached. `None` when the index does not agree with
    /// the directory, and the prune may restart.
    fn choose(&mut self, lock: &mut Option<CacheLockGuard<'a>>, may_restart: bool) -> Result<Option<Vec<Candidate>>> {
        let mut victims = Vec::new();
        let mut bytes = 0_u128;
        while bytes < self.excess && !self.is_out_of_reach() {
            let Some(candidate) = self.candidates.pop_front() else {
                // Other handles get the lock between two batches.
                if !victims.is_empty() {
                    drop(lock.take());
                }
                self.candidates.extend(self.order.next_batch(held(self.cache, lock)?, BATCH.min(self.unseen))?);
                self.unseen -= self.candidates.len().min(self.unseen);
                if self.candidates.is_empty() {
                    break;
                }
                continue;
            };
            match self.cache.layout().check_removable(&candidate.id) {
                Ok(Some(size)) if size == candidate.size || !may_restart => {
                    bytes += u128::from(candidate.size);
                    memory::push(&mut victims, candidate, "choose the images to be evicted")?;
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
        if self.is_out_of_reach() {
            victims.clear();
        }
        Ok(Some(victims))
    }

    /// Removes the victims, and further ones for those that could not be removed.
    fn run(mut self, mut lock: Option<CacheLockGuard<'a>>, mut victims: Vec<Candidate>) -> Result<Pruned> {
        while !victims.is_empty() {
            for victims in victims.chunks(BATCH) {
                if self.is_out_of_reach() {
                    break;
                }
                self.remove(held(self.cache, &mut lock)?, victims)?;
                drop(lock.take());
            }
            if self.excess == 0 {
                break;
            }
            victims = self.choose(&mut lock, false)?.unwrap_or_default();
        }
        drop(lock);
        // An image that could not be removed is a failure only if the limit is missed. That is unknown if images could not be stat'ed.
        match (self.failed, self.order.skipped()) {
            (Err(error), _) if self.excess > 0 => Err(error),
            (failed, skipped) => {
                if let Err(error) = failed {
                    self.cache.log().warning(|| error.to_string());
                }
                skipped.map_or(Ok(self.pruned), Err)
            }
        }
    }

    fn remove(&mut self, lock: &CacheLockGuard<'_>, victims: &[Candidate]) -> Result<()> {
        let victims = self.still_needed(lock, victims);
        let ids: Vec<_> = victims.iter().map(|victim| victim.id.clone()).collect();
        let removal = NameChange::begin(&self.cache.catalog, lock)?.remove(&ids);
        for (victim, outcome) in victims.iter().zip(&removal.outcomes) {
            let size = u128::from(victim.size);
            match outcome {
                RemoveOutcome::Failed => self.fixed += size,
                // The name may belong to another image by now, with another size.
                RemoveOutcome::Removed { size: removed } => {
                    self.excess = self.excess.saturating_sub(size);
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
    fn still_needed<'v>(&mut self, lock: &CacheLockGuard<'_>, victims: &'v [Candidate]) -> &'v [Candidate] {
        if let Some(index) = self.cache.index().reconciled()
            && let Ok(totals) = index.totals(lock)
        {
            self.excess = self.excess.min(totals.bytes.saturating_sub(self.cache.max_size.into()));
        }
        let mut bytes = 0;
        let count = victims
            .iter()
            .take_while(|victim| {
                let is_needed = bytes < self.excess;
                bytes += u128::from(victim.size);
                is_needed
            })
            .count();
        &victims[..count]
    }

    /// Whether the images that cannot be removed exceed the limit alone.
    fn is_out_of_reach(&self) -> bool {
        self.fixed > self.cache.max_size.into()
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
