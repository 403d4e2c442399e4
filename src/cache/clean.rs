//! Removing invalid and stalled files, and syncing what a process that died published without a sync.

use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::remove::withdraw_all;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// Empties `invalid/`, and removes incomplete files that were not written to for `stall_time`, even if their writer lives. Returns how
/// many files were removed.
pub(crate) fn clean(cache: &CacheInner, stall_time: Duration) -> Result<u64> {
    let mut skipped = SkippedErrors::new(cache.log());
    let mut removed = 0;
    for (id, _) in cache.layout().images(Area::Invalid)? {
        removed += u64::from(skipped.note(remove_invalid(cache, &id)).unwrap_or(false));
    }
    for (id, stat) in cache.layout().images(Area::Incomplete)? {
        let cleaned =
            stat.and_then(|stat| Ok(has_stalled(&stat, stall_time) && remove_stalled(cache, &id, stall_time)?));
        removed += u64::from(skipped.note(cleaned).unwrap_or(false));
    }
    // A restart of the host would cost them.
    withdraw_all(cache, cache.unsynced.sync_all(cache.layout(), cache.log()));
    skipped.outcome(removed)
}

fn remove_invalid(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(cache.layout().remove(&cache.lock.acquire()?, Area::Invalid, id)?.is_some())
}

fn remove_stalled(cache: &CacheInner, id: &ImageId, stall_time: Duration) -> Result<bool> {
    let lock = cache.lock.acquire()?;
    // The name may belong to another writer by now.
    let stat = cache.layout().stat(Area::Incomplete, id)?.image();
    if !stat.is_some_and(|stat| has_stalled(&stat, stall_time)) {
        return Ok(false);
    }
    cache.log().info(|| format!("image '{id}' was not written to for {stall_time:?}: its file is removed"));
    Ok(cache.layout().remove(&lock, Area::Incomplete, id)?.is_some())
}

/// Whether the file was not written to for that long. A time in the future, after the clock was set back, counts by its distance.
fn has_stalled(stat: &FileStat, stall_time: Duration) -> bool {
    stat.modified.distance(Timestamp::now()) >= stall_time
}
