//! Evicting the least recently accessed images until the cache is within its limit.
//!
//! One ordered pass: the excess is computed once, and each image is looked at once at most, so a prune always ends. An image that is
//! being read may be evicted: its readers keep its bytes.

use std::collections::VecDeque;

use crate::cache::access::flush_for_query;
use crate::cache::inner::CacheInner;
use crate::cache::name_change::{NameChange, RemoveOutcome};
use crate::cache::remove::BATCH;
use crate::error::Result;
use crate::index::driver::{Candidate, EvictionOrder};
use crate::index::scan;
use crate::store::lock::CacheLockGuard;

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
    let (lock, mut order) = eviction_order(cache)?;
    let totals = order.totals();
    // The first victims are chosen and removed under one lock.
    let mut lock = Some(lock);
    let mut excess = totals.bytes.saturating_sub(cache.max_size.into());
    // Images that are added meanwhile are not candidates, so that the prune ends.
    let mut unseen = usize::try_from(totals.images).unwrap_or(usize::MAX);
    let mut candidates = VecDeque::new();
    let mut pruned = Pruned::default();
    let mut result = Ok(());
    while excess > 0 {
        let lock = lock.take().map_or_else(|| cache.lock.acquire(), Ok)?;
        if candidates.is_empty() {
            candidates.extend(order.next_batch(&lock, BATCH.min(unseen))?);
            unseen -= candidates.len().min(unseen);
        }
        let victims = take_enough(&mut candidates, excess);
        if victims.is_empty() {
            break;
        }
        let ids: Vec<_> = victims.iter().map(|victim| victim.id.clone()).collect();
        let removal = NameChange::begin(&cache.catalog, &lock)?.remove(&ids);
        drop(lock);
        for (victim, outcome) in victims.iter().zip(&removal.outcomes) {
            if *outcome != RemoveOutcome::Failed {
                excess = excess.saturating_sub(victim.size.into());
            }
            // The name may belong to another image by now, with another size.
            if let RemoveOutcome::Removed { size } = outcome {
                pruned.images += 1;
                pruned.bytes = pruned.bytes.saturating_add(*size);
            }
        }
        result = result.and(removal.result);
    }
    // An image that could not be removed is a failure only if the limit is missed. That is unknown if images could not be stat'ed.
    match (result, order.skipped()) {
        (Err(error), _) if excess > 0 => Err(error),
        (result, skipped) => {
            if let Err(error) = result {
                cache.log().warning(|| error.to_string());
            }
            skipped.map_or(Ok(pruned), Err)
        }
    }
}

/// The cache lock, and the order of eviction. If the index fails, for example because it cannot be written on a full disk, the order
/// is that of the files' atimes: a full cache must be able to shrink.
fn eviction_order(cache: &CacheInner) -> Result<(CacheLockGuard<'_>, Box<dyn EvictionOrder + '_>)> {
    let indexed = cache.lock_reconciled().and_then(|lock| {
        flush_for_query(cache, &lock);
        let order = cache.index().eviction_order(&lock)?;
        Ok((lock, order))
    });
    indexed.or_else(|error| {
        cache.log().warning(|| format!("{error}; the order of access is that of the files' access times"));
        Ok((cache.lock.acquire()?, scan::eviction_order(cache.layout(), cache.log())?))
    })
}

/// Takes the first candidates, as many as are needed and are removed under one lock.
fn take_enough(candidates: &mut VecDeque<Candidate>, excess: u128) -> Vec<Candidate> {
    let mut chosen = Vec::new();
    let mut bytes = 0_u128;
    while bytes < excess
        && chosen.len() < BATCH
        && let Some(candidate) = candidates.pop_front()
    {
        bytes += u128::from(candidate.size);
        chosen.push(candidate);
    }
    chosen
}
