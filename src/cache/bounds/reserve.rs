//! Reservations, and making room for them (see the module above).

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::cache::bounds::allocate::{allocate, extents, most_extents};
use crate::cache::bounds::garbage::{remove_failed, remove_unattended, unattended};
use crate::cache::bounds::usage::{Count, Shortage, count_for_bounds, forget_count};
use crate::cache::freed::wait_until_free;
use crate::cache::inner::CacheInner;
use crate::cache::prune::{self, Pruned};
use crate::cache::victims::Goal;
use crate::error::{Error, Result};
use crate::store::layout::Area;
use crate::store::lock::LongLockGuard;
use crate::sys::stat::FileStat;

/// The steps of a file of unknown size, in bytes.
const SHORTEST_STEP: u64 = 64 << 10;
const LONGEST_STEP: u64 = 16 << 20;

/// Why no eviction helps a floor.
const OUT_OF_REACH: &str = "not so many in all";

/// How long a writer waits for the reservations and evictions of others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a tee or a stream does: it can go on without caching.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// What is reserved ahead for a file of unknown size that gets so many bytes: as much again, within limits.
pub(crate) fn step_after(end: u64) -> u64 {
    end.saturating_add(end.clamp(SHORTEST_STEP, LONGEST_STEP))
}

/// A reservation that was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    /// So many of the file's first bytes have room.
    pub end: u64,
    /// The limit in bytes that held then.
    pub limit: u64,
}

/// Reserves room for the first `need` bytes of an incomplete file, or up to `wish` if these fit without an eviction. The first `start`
/// bytes have theirs, except for `holes` bytes. Fails with [`Error::NoRoom`] if so much room cannot be made.
pub(crate) fn reserve(
    cache: &CacheInner,
    file: &File,
    path: impl Fn() -> PathBuf,
    present: (u64, u64),
    wanted: (u64, u64),
    patience: Duration,
) -> Result<Reserved> {
    let lock = cache.lock.acquire_prune_within(patience)?;
    let count = count_for_bounds(cache)?;
    let limit = count.usage.limit;
    let end = reserve_as_counted(cache, &lock, count, (file, &path), present, wanted)?;
    Ok(Reserved { end, limit })
}

/// Returns how many bytes have room then.
fn reserve_as_counted(
    cache: &CacheInner,
    lock: &LongLockGuard<'_>,
    mut count: Count,
    (file, path): (&File, &dyn Fn() -> PathBuf),
    (mut start, holes): (u64, u64),
    (need, wish): (u64, u64),
) -> Result<u64> {
    let block = count.space.block;
    // How much is missing for so many bytes: with a tree of extents as usual, or the largest one.
    let wanted = |before: &FileStat, bytes: u64, extents: fn(u64, u64) -> u64| {
        let rounded = bytes.checked_next_multiple_of(block).unwrap_or(u64::MAX).saturating_sub(holes);
        rounded.saturating_add(extents(rounded, block)).saturating_sub(before.allocated)
    };
    let mut before = FileStat::of(file, path)?;
    if wish > need && count.shortage(wanted(&before, wish, extents)).is_none() {
        match allocate(file, path, &before, (start, wish), holes > 0, block, count.room()) {
            Ok(end) if end >= need => return Ok(end),
            Err(error) if error.is_unsupported() && !count.usage.is_hard => return Ok(wish),
            Ok(end) => start = end,
            // The file system has less room than it says, or a quota or `ulimit -f` is in the way.
            Err(error) if error.is_no_space() || error.is_too_large() => {}
            Err(error) => return Err(error),
        }
        count = count_for_bounds(cache)?;
        before = FileStat::of(file, path)?;
    }
    // A second time if the file system has less room than it says, or its free space is fragmented.
    for (is_last, extents) in [(false, extents as fn(u64, u64) -> u64), (true, most_extents)] {
        let wanted = wanted(&before, need, extents);
        if !count.shortage(wanted).is_none() {
            make(cache, lock, &mut count, wanted)?;
        }
        match allocate(file, path, &before, (start, need), holes > 0, block, count.room()) {
            Ok(end) if end >= need => return Ok(end),
            // A floor alone need not be reserved: it is checked before each step.
            Err(error) if error.is_unsupported() && !count.usage.is_hard => return Ok(need),
            Err(error) if is_last || !error.is_no_space() => return Err(error),
            Ok(_) if is_last => return Err(no_room(cache, &count, wanted, "the free space is fragmented")),
            Ok(end) => {
                start = end;
                count = count_for_bounds(cache)?;
                before = FileStat::of(file, path)?;
            }
            Err(_) => {
                count.space.free_bytes = count.usage.min_free;
                count.usage.free = count.usage.min_free;
                before = FileStat::of(file, path)?;
            }
        }
    }
    Ok(need)
}

/// Evicts until the cache is within a limit, in bytes, and the file system has what must stay free. `None`: its own limit.
pub(crate) fn prune(cache: &CacheInner, limit: Option<u64>) -> Result<Pruned> {
    let hard = cache.hard_limit(&cache.lock.acquire_to_query()?)?;
    let mut pruned = Pruned::default();
    if hard.is_none() {
        pruned.add(prune::prune(cache, limit.unwrap_or_else(|| cache.own_limit()))?);
    }
    if hard.is_some() || cache.bounds.floor.is_set() {
        pruned.add(prune_to_bounds(cache, limit)?);
    }
    Ok(pruned)
}

fn prune_to_bounds(cache: &CacheInner, limit: Option<u64>) -> Result<Pruned> {
    let lock = match cache.lock.acquire_prune() {
        // Within the bounds, there is nothing to do. Else the removal fails.
        Err(error) if error.is_not_permitted() => None,
        acquired => Some(acquired?),
    };
    let counted = || {
        let mut count = count_for_bounds(cache)?;
        count.usage.limit = limit.unwrap_or(count.usage.limit);
        if count.is_floor_out_of_reach() {
            let error = no_room(cache, &count, 0, OUT_OF_REACH);
            cache.log().warning(|| error.to_string());
            count.drop_floor();
        }
        Ok(count.shortage(0))
    };
    let mut short = counted()?;
    if short.bytes > 0 && remove_failed(cache, short.bytes)? > 0 {
        short = counted()?;
    }
    evict(cache, lock.as_ref(), short, false)
}

/// Evicts down to the bounds. A failure is logged: the next reservation tries again.
pub(crate) fn keep_limit(cache: &CacheInner) {
    if cache.bounds.are_set()
        && let Err(error) = prune(cache, None)
    {
        cache.log().warning(|| error.to_string());
    }
}

/// Makes room for so many bytes more, without a reservation. `patience`: how long it waits for those of others.
pub(crate) fn make_room(cache: &CacheInner, bytes: u64, patience: Duration) -> Result<Pruned> {
    if cache.hard_limit(&cache.lock.acquire_to_query()?)?.is_none() && !cache.bounds.floor.is_set() {
        return prune::make_room(cache, bytes);
    }
    let lock = cache.lock.acquire_prune_within(patience)?;
    let mut count = count_for_bounds(cache)?;
    let wanted = bytes.checked_next_multiple_of(count.space.block).unwrap_or(u64::MAX);
    make(cache, &lock, &mut count, wanted)
}

/// Makes room for so many bytes more. Before it fails, the images are counted: the ledger may have drifted.
fn make(cache: &CacheInner, lock: &LongLockGuard<'_>, count: &mut Count, wanted: u64) -> Result<Pruned> {
    let made = make_as_counted(cache, lock, count, wanted);
    if !matches!(made, Err(Error::NoRoom { .. })) || !count.exceeds_limit(wanted) || wanted > count.usage.limit {
        return made;
    }
    let former = count.usage.cached;
    forget_count(cache)?;
    *count = count_for_bounds(cache)?;
    if count.usage.cached < former { make_as_counted(cache, lock, count, wanted) } else { made }
}

/// First for what is missing already: that is worth an eviction in any case.
fn make_as_counted(cache: &CacheInner, lock: &LongLockGuard<'_>, count: &mut Count, wanted: u64) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    if count.is_floor_out_of_reach() {
        return Err(no_room(cache, count, wanted, OUT_OF_REACH));
    }
    for (wanted, is_all_or_nothing) in [(0, false), (wanted, true)] {
        let Shortage { bytes, .. } = count.shortage(wanted);
        if count.shortage(wanted).is_none() {
            continue;
        }
        if count.usage.is_hard && wanted > count.usage.limit {
            return Err(no_room(cache, count, wanted, "the image is larger than the limit"));
        }
        let removed = remove_failed(cache, bytes)?;
        if removed > 0 {
            *count = count_freed(cache, count, wanted, removed >= bytes)?;
        }
        let evicted = evict(cache, Some(lock), count.shortage(wanted), is_all_or_nothing);
        let evicted = match evicted {
            // Together with images they may be enough. If not, they stay: nothing is removed in vain.
            Err(error @ Error::NoRoom { .. }) => match unattended(cache)? {
                0 => Err(error),
                more => {
                    let Shortage { bytes, .. } = count.shortage(wanted);
                    let rest = Shortage { bytes: bytes.saturating_sub(more), ..count.shortage(wanted) };
                    let evicted = evict(cache, Some(lock), rest, is_all_or_nothing);
                    if evicted.is_ok() {
                        *count = count_for_bounds(cache)?;
                        remove_unattended(cache, count.shortage(wanted).bytes)?;
                    }
                    evicted
                }
            },
            evicted => evicted,
        };
        match evicted {
            Ok(evicted) => {
                *count = count_freed(cache, count, wanted, evicted.images > 0)?;
                pruned.add(evicted);
            }
            Err(Error::NoRoom { why, .. }) if is_all_or_nothing => return Err(no_room(cache, count, wanted, &why)),
            Err(error) => return Err(error),
        }
    }
    if count.shortage(wanted).is_none() {
        Ok(pruned)
    } else {
        Err(no_room(cache, count, wanted, "other programs take room"))
    }
}

/// Counts again, after files were removed. `is_enough`: that should have freed what so many bytes more need.
fn count_freed(cache: &CacheInner, count: &Count, wanted: u64, is_enough: bool) -> Result<Count> {
    if is_enough {
        wait_until_free(cache, |space| count.fits_on(space, wanted))?;
    }
    count_for_bounds(cache)
}

fn evict(
    cache: &CacheInner,
    lock: Option<&LongLockGuard<'_>>,
    Shortage { bytes, inodes, is_of_limit }: Shortage,
    is_all_or_nothing: bool,
) -> Result<Pruned> {
    if bytes == 0 && inodes == 0 {
        return Ok(Pruned::default());
    }
    prune::evict(
        cache,
        lock,
        Goal { limit: u64::MAX, free: 0, freed: bytes, counts_names: is_of_limit, inodes, is_all_or_nothing },
    )
}

/// Why so many bytes more do not fit.
fn no_room(cache: &CacheInner, count: &Count, wanted: u64, cause: &str) -> Error {
    let usage = &count.usage;
    let why = if count.exceeds_limit(wanted) {
        format!(
            "the limit is {} bytes; {} of them are taken up ({} by cached images, {} being cached, {} invalid, {} deleted but open), \
             those that are being cached may need {} more for their attributes and extents, and {cause}",
            usage.limit,
            usage.total(),
            usage.cached,
            usage.incomplete,
            usage.invalid,
            usage.deleted,
            count.overhead
        )
    } else if count.is_short_of_inodes() {
        let (least, free) = (count.min_free_inodes, count.space.free_inodes);
        format!("{least} inodes must stay free, the disk has {free} free, and {cause}")
    } else {
        format!("{} bytes must stay free, the disk has {} free, and {cause}", usage.min_free, usage.free)
    };
    Error::NoRoom { bytes: wanted, why, path: cache.layout().directory(Area::Cached).path().to_owned() }
}
