//! The statistics of a cache: what its directory has now, and what all processes have counted.

use crate::cache::counters::Counter;
use crate::cache::eviction_order::{eviction_order, next_batch};
use crate::cache::inner::CacheInner;
use crate::cache::remove::BATCH;
use crate::error::Result;
use crate::index::driver::Candidate;
use crate::log::SkippedErrors;
use crate::store::layout::Area;
use crate::store::pins::Pins;
use crate::sys::time::Timestamp;

/// The statistics of a cache. The counters are those of all processes, since the cache was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How many images are cached.
    pub images: u64,
    /// Their lengths, in bytes.
    pub bytes: u64,
    /// What they take up on the disk, in bytes.
    pub allocated: u64,
    /// The maximum size of this handle, in bytes.
    pub limit: u64,
    /// How many bytes are free on the file system.
    pub free: u64,
    /// How long ago the image that is evicted next was accessed, in seconds; 0 if no image can be evicted.
    pub next_victim_idle: u64,
    /// Images that were opened, read and closed.
    pub hits: u64,
    /// Images that were not cached as a reader or a stream of them was opened.
    pub misses: u64,
    /// Images that were cached.
    pub commits: u64,
    /// Images that were not cached, since the caller aborted.
    pub aborted_by_call: u64,
    /// The same, since a writer or tee was closed before the end.
    pub closed_early: u64,
    /// The same, since the bytes had another digest.
    pub wrong_digest: u64,
    /// The same, since there were more or fewer bytes, or none.
    pub wrong_size: u64,
    /// The same, since the disk was full.
    pub no_space: u64,
    /// The same, since the writer lost its file.
    pub lost: u64,
    /// The same, since the source failed.
    pub source_failed: u64,
    /// The same, for another reason.
    pub other_failures: u64,
    /// Images that were evicted.
    pub evictions: u64,
    /// Their lengths, in bytes.
    pub evicted_bytes: u64,
    /// Streams that got bytes from the fetch of another one.
    pub streams_followed: u64,
    /// How many bytes those were.
    pub bytes_not_fetched: u64,
    /// Bytes that readers and streams have returned.
    pub bytes_served: u64,
    /// Verifications that found an image intact.
    pub verified: u64,
    /// Verifications that found an image damaged.
    pub found_damaged: u64,
}

/// The statistics of a cache. What the directory has is read without the cache lock.
pub(crate) fn statistics(cache: &CacheInner) -> Result<Statistics> {
    let totals = {
        let lock = cache.lock.acquire_to_query()?;
        cache.counters().totals(cache.layout(), &lock, cache.log())?
    };
    let mut statistics = Statistics {
        limit: cache.limit()?,
        free: cache.layout().space()?.free_bytes,
        next_victim_idle: next_victim(cache)?.map_or(0, |victim| idle_seconds(victim.accessed)),
        hits: totals.of(Counter::Hits),
        misses: totals.of(Counter::Misses),
        commits: totals.of(Counter::Commits),
        aborted_by_call: totals.of(Counter::AbortedByCall),
        closed_early: totals.of(Counter::ClosedEarly),
        wrong_digest: totals.of(Counter::WrongDigest),
        wrong_size: totals.of(Counter::WrongSize),
        no_space: totals.of(Counter::NoSpace),
        lost: totals.of(Counter::Lost),
        source_failed: totals.of(Counter::SourceFailed),
        other_failures: totals.of(Counter::OtherFailure),
        evictions: totals.of(Counter::Evictions),
        evicted_bytes: totals.of(Counter::EvictedBytes),
        streams_followed: totals.of(Counter::StreamsFollowed),
        bytes_not_fetched: totals.of(Counter::BytesNotFetched),
        bytes_served: totals.of(Counter::BytesServed),
        verified: totals.of(Counter::Verified),
        found_damaged: totals.of(Counter::FoundDamaged),
        ..Statistics::default()
    };
    let mut skipped = SkippedErrors::new(cache.log());
    for (_, stat) in cache.layout().images(Area::Cached)? {
        let Some(stat) = skipped.note(stat) else { continue };
        statistics.images += 1;
        statistics.bytes = statistics.bytes.saturating_add(stat.size);
        statistics.allocated = statistics.allocated.saturating_add(stat.allocated);
    }
    Ok(statistics)
}

/// The image that a prune would evict first; `None` if none can be.
fn next_victim(cache: &CacheInner) -> Result<Option<Candidate>> {
    let pins = Pins::open(cache.layout(), cache.log())?;
    let can_be_evicted = |candidate: &Candidate| {
        let file = cache.layout().check_removable(&candidate.id);
        let is_pinned = || pins.as_ref().is_some_and(|pins| pins.check_none(&candidate.id).is_err());
        file.is_ok_and(|file| file.is_some_and(|file| file.size > 0)) && !is_pinned()
    };
    let (lock, mut order) = eviction_order(cache)?;
    let mut lock = Some(lock);
    let mut unseen = usize::try_from(order.totals().images).unwrap_or(usize::MAX);
    while unseen > 0 {
        let batch = next_batch(order.as_mut(), &mut lock, || cache.lock.acquire_to_query(), BATCH.min(unseen))?;
        drop(lock.take());
        unseen -= batch.len().min(unseen);
        if batch.is_empty() {
            break;
        }
        if let Some(victim) = batch.into_iter().find(can_be_evicted) {
            return Ok(Some(victim));
        }
    }
    Ok(None)
}

/// 0 for a time in the future.
fn idle_seconds(accessed: Timestamp) -> u64 {
    let now = Timestamp::now();
    if accessed < now { now.distance(accessed).as_secs() } else { 0 }
}
