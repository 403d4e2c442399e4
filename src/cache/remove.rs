//! Removing cached images: by name, all of them, one whose sync failed, or one that is damaged.

use std::fs::File;

use crate::cache::inner::CacheInner;
use crate::cache::name_change::{NameChange, Removal, RemoveOutcome};
use crate::error::{Error, Result};
use crate::store::attributes;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::unsynced::Unsyncable;
use crate::sys::memory;
use crate::sys::stat::FileStat;

/// How many images are removed each time that the cache lock is held.
pub(crate) const BATCH: usize = 64;

/// Deletes an image, if it is cached. A pinned one stays, which is an error.
pub(crate) fn delete(cache: &CacheInner, id: &ImageId) -> Result<()> {
    delete_with(cache, id, |change| change.remove(std::slice::from_ref(id))).map(drop)
}

/// Deletes an image, if it is cached and nobody has it open. False when it is in use.
pub(crate) fn delete_unused(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    let outcome = delete_with(cache, id, |change| change.remove_unused(std::slice::from_ref(id)))?;
    Ok(outcome != RemoveOutcome::InUse)
}

fn delete_with(
    cache: &CacheInner,
    id: &ImageId,
    remove: impl FnOnce(NameChange<'_>) -> Result<Removal>,
) -> Result<RemoveOutcome> {
    let lock = cache.lock.acquire_to_query()?;
    if lock.check_held().is_err() && !cache.layout().has(Area::Cached, id)? {
        return Ok(RemoveOutcome::Missing);
    }
    let removal = remove(NameChange::begin(&cache.catalog, &lock)?);
    drop(lock);
    let removal = removal?;
    removal.pinned.and(removal.result)?;
    Ok(removal.outcomes.first().copied().unwrap_or(RemoveOutcome::Missing))
}

/// Deletes every image that is cached now, except pinned ones, which are an error as well. Returns how many there were.
pub(crate) fn delete_all(cache: &CacheInner) -> Result<u64> {
    // An image that cannot be stat'ed fails below, after the others were deleted.
    let ids = memory::collect(cache.layout().images(Area::Cached)?.map(|(id, _)| Ok(id)), "list the images")?;
    let mut deleted = 0;
    let mut result = Ok(());
    for batch in ids.chunks(BATCH) {
        let removal = {
            let lock = cache.lock.acquire()?;
            NameChange::begin(&cache.catalog, &lock)?.remove(batch)?
        };
        deleted +=
            removal.outcomes.iter().filter(|outcome| matches!(outcome, RemoveOutcome::Removed { .. })).count() as u64;
        result = result.and(removal.result).and(removal.pinned);
    }
    result.map(|()| deleted)
}

/// Withdraws images that were published without a sync, and that could not be synced later.
pub(crate) fn withdraw_all(cache: &CacheInner, unsyncable: Vec<Unsyncable>) {
    for (id, file, error) in unsyncable {
        withdraw(cache, &id, &file, &error);
    }
}

/// Withdraws a published image whose bytes or name may not be on the disk. A failed sync is final.
pub(crate) fn withdraw(cache: &CacheInner, id: &ImageId, file: &File, cause: &Error) {
    cache.log().error(|| format!("{cause}; image '{id}' is withdrawn"));
    let withdrawn = cache.lock.acquire().and_then(|lock| {
        let ours = FileStat::of(file, || cache.layout().path(Area::Cached, id))?.id;
        let present = cache.layout().stat(Area::Cached, id)?.image();
        if present.is_none_or(|stat| stat.id != ours) {
            return Ok(());
        }
        attributes::record_failure(file, &cause.to_string());
        NameChange::begin(&cache.catalog, &lock)?.withdraw(id)
    });
    if let Err(error) = withdrawn {
        cache.log().error(|| format!("image '{id}', which could not be synced, stays: {error}"));
    }
}

/// Moves a damaged image to `invalid/`, if its name still is that of the file that was found damaged, and nobody has written to that
/// file since. Its readers go on. True when it was moved.
pub(crate) fn withdraw_damaged(
    cache: &CacheInner,
    lock: &CacheLockGuard<'_>,
    id: &ImageId,
    damaged: (&File, &FileStat),
    why: &str,
) -> Result<bool> {
    let (file, found) = damaged;
    let present = cache.layout().stat(Area::Cached, id)?.image();
    let is_same =
        |present: FileStat| (present.id, present.size, present.modified) == (found.id, found.size, found.modified);
    if !present.is_some_and(is_same) {
        return Ok(false);
    }
    let change = NameChange::begin(&cache.catalog, lock)?;
    attributes::record_failure(file, why);
    change.withdraw(id)?;
    cache.log().error(|| format!("image '{id}' is damaged, and moved to invalid/: {why}"));
    Ok(true)
}
