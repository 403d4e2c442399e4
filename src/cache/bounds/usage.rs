//! What a cache uses of its limit, and of the file system.

use crate::cache::bounds::allocate::later;
use crate::cache::inner::CacheInner;
use crate::error::Result;
use crate::index::driver::Currency;
use crate::log::SkippedErrors;
use crate::store::layout::Area;
use crate::store::ledger::Counted;
use crate::store::lock::CacheLockGuard;
use crate::store::removal;
use crate::store::stamp::Stamp;
use crate::sys::mount::FileSystemSpace;

/// How often the images are counted without the cache lock, while others change names.
const COUNTS: u32 = 3;

/// What a cache takes up on the disk, in bytes, and what bounds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// By cached images.
    pub cached: u64,
    /// By images that are being cached, with what is reserved for them.
    pub incomplete: u64,
    /// The part of `incomplete` that has no bytes yet.
    pub reserved: u64,
    /// By images whose fetch failed.
    pub invalid: u64,
    /// By deleted images, and files that were taken from stalled writers, that are still open.
    pub deleted: u64,
    /// The limit: the directory's if it is hard, else that of the handle.
    pub limit: u64,
    /// Whether the limit is hard: never exceeded.
    pub is_hard: bool,
    /// What the file system has free for this user.
    pub free: u64,
    /// What stays free at least: the floor of the handle.
    pub min_free: u64,
    /// How many inodes the file system has free; 0 where it has no fixed number of them.
    pub free_inodes: u64,
    /// By pinned images, which are a part of `cached`.
    pub pinned: u64,
}

impl Usage {
    /// What counts for a hard limit.
    pub fn total(&self) -> u64 {
        self.cached.saturating_add(self.incomplete).saturating_add(self.invalid).saturating_add(self.deleted)
    }
}

/// What is missing for a number of bytes, or for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    /// Bytes on the disk.
    pub bytes: u64,
    pub inodes: u64,
    /// It is the limit that misses the bytes, at least as many as the file system.
    pub is_of_limit: bool,
}

impl Shortage {
    pub fn is_none(self) -> bool {
        (self.bytes, self.inodes) == (0, 0)
    }
}

/// A count of what is used, and the file system's space then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    pub usage: Usage,
    pub space: FileSystemSpace,
    /// How many inodes must stay free.
    pub min_free_inodes: u64,
    /// What images that are being cached may take up beyond their blocks, in bytes: see [`later`].
    pub overhead: u64,
}

impl Count {
    fn over(&self, wanted: u64) -> u64 {
        let Self { usage, overhead, .. } = self;
        let total = usage.total().saturating_add(*overhead).saturating_add(wanted);
        if usage.is_hard { total.saturating_sub(usage.limit) } else { 0 }
    }

    /// What is missing to take up so many bytes more, and one inode.
    pub fn shortage(&self, wanted: u64) -> Shortage {
        let Self { usage, space, min_free_inodes, .. } = self;
        let over = self.over(wanted);
        let missing = usage.min_free.saturating_add(wanted).saturating_sub(space.free_bytes);
        let inodes = min_free_inodes.saturating_sub(space.free_inodes);
        Shortage { bytes: over.max(missing), inodes, is_of_limit: over > 0 && over >= missing }
    }

    /// Whether more must stay free than the file system has in all: then no eviction helps.
    pub fn is_floor_out_of_reach(&self) -> bool {
        self.usage.min_free > self.space.bytes || self.min_free_inodes > self.space.inodes
    }

    /// Whether too few inodes are free.
    pub fn is_short_of_inodes(&self) -> bool {
        self.min_free_inodes > self.space.free_inodes
    }

    /// Whether the file system has room for so many bytes more, and one inode, above the floor.
    pub fn fits_on(&self, space: &FileSystemSpace, wanted: u64) -> bool {
        space.free_bytes >= self.usage.min_free.saturating_add(wanted) && space.free_inodes >= self.min_free_inodes
    }

    pub fn drop_floor(&mut self) {
        (self.usage.min_free, self.min_free_inodes) = (0, 0);
    }

    /// What can be taken up, in bytes.
    pub fn room(&self) -> u64 {
        let Self { usage, space, overhead, .. } = self;
        let within_limit = usage.limit.saturating_sub(usage.total().saturating_add(*overhead));
        let on_disk = space.free_bytes.saturating_sub(usage.min_free);
        if usage.is_hard { within_limit.min(on_disk) } else { on_disk }
    }

    /// Whether so many bytes more exceed the limit.
    pub fn exceeds_limit(&self, wanted: u64) -> bool {
        self.over(wanted) > 0
    }
}

/// Counts what is used. In a cache without a hard limit, each image is stat'ed.
pub(crate) fn count(cache: &CacheInner) -> Result<Count> {
    let (lock, limit, cached) = with_cached(cache, false)?;
    without_unused(cache, count_with(cache, lock, limit, cached)?, count)
}

/// As [`count`], but without a hard limit only the floor counts.
pub(crate) fn count_for_bounds(cache: &CacheInner) -> Result<Count> {
    let (lock, limit, cached) = with_cached(cache, true)?;
    if limit.is_some() {
        return without_unused(cache, count_with(cache, lock, limit, cached)?, count_for_bounds);
    }
    drop(lock);
    let space = cache.layout().space()?;
    let floor = cache.bounds.floor;
    let (limit, free, min_free) = (cache.own_limit(), space.free_bytes, floor.least_bytes(&space));
    let usage = Usage { limit, free, min_free, ..Usage::default() };
    Ok(Count { usage, space, min_free_inodes: floor.least_inodes(&space), overhead: 0 })
}

/// Removes the deleted files that nobody has open any more. Counts again if there were any.
fn without_unused(cache: &CacheInner, counted: Count, count: impl Fn(&CacheInner) -> Result<Count>) -> Result<Count> {
    match counted.usage.deleted {
        0 => Ok(counted),
        _ if removal::reap(cache.layout())? => count(cache),
        _ => Ok(counted),
    }
}

/// The next count stats the images.
pub(crate) fn forget_count(cache: &CacheInner) -> Result<()> {
    let lock = cache.lock.acquire()?;
    cache.hard_limit(&lock)?;
    cache.catalog.ledger.forget(&lock)
}

fn count_with(cache: &CacheInner, lock: CacheLockGuard<'_>, limit: Option<u64>, cached: u64) -> Result<Count> {
    let (layout, bounds) = (cache.layout(), &cache.bounds);
    let space = layout.space()?;
    let mut usage = Usage { cached, is_hard: limit.is_some(), ..Usage::default() };
    usage.limit = limit.unwrap_or_else(|| cache.own_limit());
    usage.deleted = bounds.deleted.sum(layout, removal::DELETED, || removal::count_deleted(layout))?;
    usage.invalid = bounds.invalid.sum(layout, Area::Invalid.subdirectory().unwrap_or("."), || {
        let files = layout.images(Area::Invalid)?.filter_map(|(_, stat)| Some(stat.ok()?.allocated));
        Ok(files.reduce(u64::saturating_add))
    })?;
    let overhead = count_incomplete(cache, space.block, &mut usage)?;
    drop(lock);
    usage.free = space.free_bytes;
    usage.free_inodes = space.free_inodes;
    usage.min_free = bounds.floor.least_bytes(&space);
    Ok(Count { usage, space, min_free_inodes: bounds.floor.least_inodes(&space), overhead })
}

/// Returns what the files may take up in addition.
fn count_incomplete(cache: &CacheInner, block: u64, usage: &mut Usage) -> Result<u64> {
    let mut overhead = 0;
    for stat in cache.layout().images(Area::Incomplete)?.filter_map(|(_, stat)| stat.ok()) {
        overhead += later(stat.allocated, block);
        usage.incomplete += stat.allocated;
        usage.reserved += stat.allocated.saturating_sub(stat.size.next_multiple_of(block));
    }
    Ok(overhead)
}

/// The cache lock, the hard limit, and what the cached images take up while the lock is held: 0 without a hard limit, if only that is of
/// interest.
fn with_cached(cache: &CacheInner, only_hard: bool) -> Result<(CacheLockGuard<'_>, Option<u64>, u64)> {
    let ledger = &cache.catalog.ledger;
    let mut attempt = 0;
    loop {
        let lock = cache.lock.acquire_to_query()?;
        let limit = cache.hard_limit(&lock)?;
        if only_hard && limit.is_none() {
            return Ok((lock, None, 0));
        }
        let present = Stamp::of(cache.layout())?;
        if let Some(allocated) = ledger.allocated(&lock, present) {
            return Ok((lock, limit, allocated));
        }
        if !ledger.is_kept() || lock.check_held().is_err() || attempt == COUNTS {
            let counted = scanned(cache)?;
            return Ok((lock, limit, counted.allocated));
        }
        attempt += 1;
        // Another program may have removed the file. Without one, the images are counted each time.
        let opened = ledger.open(cache.layout(), &lock);
        let settled = settle(cache, &lock, present)?;
        drop(lock);
        let counted = scanned(cache)?;
        let lock = cache.lock.acquire_to_query()?;
        if Stamp::of(cache.layout())? == settled {
            if let Err(error) = opened.and_then(|()| ledger.set(&lock, settled, counted)) {
                cache.log().warning(|| format!("{error}; the images are counted for each reservation"));
            }
            return Ok((lock, limit, counted.allocated));
        }
    }
}

/// The stamp of a directory that each later change of names changes. If the index is current, its stamp is such a one, and stays.
fn settle(cache: &CacheInner, lock: &CacheLockGuard<'_>, present: Stamp) -> Result<Stamp> {
    if cache.index().reconciled().is_some() && cache.catalog.currency(lock)? == Currency::Current {
        return Ok(present);
    }
    Stamp::settle(lock, cache.layout())
}

/// What the cached images take up. One that cannot be stat'ed is logged, and does not count.
fn scanned(cache: &CacheInner) -> Result<Counted> {
    let mut skipped = SkippedErrors::new(cache.log());
    let sizes = cache.layout().images(Area::Cached)?.filter_map(|(_, stat)| Some(skipped.note(stat)?.allocated));
    Ok(sizes.fold(Counted::default(), |sum, allocated| Counted {
        images: sum.images + 1,
        allocated: sum.allocated.saturating_add(allocated),
    }))
}
