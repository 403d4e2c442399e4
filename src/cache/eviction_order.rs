//! The order in which images are evicted: that of their accesses.

use crate::cache::catalog::Exactness;
use crate::cache::inner::CacheInner;
use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder};
use crate::store::lock::CacheLockGuard;

/// Replaces accesses in the future, a few under each lock.
pub(super) fn correct_future_accesses(cache: &CacheInner) -> Result<()> {
    let Some(index) = cache.index().reconciled() else { return Ok(()) };
    loop {
        let lock = cache.lock.acquire_to_query()?;
        if lock.check_held().is_err() || !index.correct_future_accesses(&lock, &cache.index().pending)? {
            return Ok(());
        }
    }
}

/// The cache lock, and the order of eviction. If the index fails, for example because it cannot be written on a full disk, the order
/// is that of the files' atimes: a full cache must be able to shrink.
pub(crate) fn eviction_order(cache: &CacheInner) -> Result<(CacheLockGuard<'_>, Box<dyn EvictionOrder + '_>)> {
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

/// Up to so many further images in the order. While another program has the index locked, this waits, without the cache lock.
/// `lock`: the cache lock, which `acquire` takes if it is not held.
pub(super) fn next_batch<'a>(
    order: &mut dyn EvictionOrder,
    lock: &mut Option<CacheLockGuard<'a>>,
    acquire: impl Fn() -> Result<CacheLockGuard<'a>>,
    count: usize,
) -> Result<Vec<Candidate>> {
    CacheInner::patiently(|| {
        let held = lock.take().map_or_else(&acquire, Ok)?;
        let batch = order.next_batch(lock.insert(held), count);
        if batch.as_ref().is_err_and(Error::is_index_locked) {
            drop(lock.take());
        }
        batch
    })
}
