//! Removing cached images: by name, all of them, or one whose sync failed.

use std::fs::File;

use crate::cache::inner::CacheInner;
use crate::cache::name_change::{NameChange, RemoveOutcome};
use crate::error::{Error, Result};
use crate::store::attributes;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::unsynced::Unsyncable;
use crate::sys::memory;
use crate::sys::stat::FileStat;

/// How many images are removed each time that the cache lock is held.
pub(crate) const BATCH: usize = 64;

/// Deletes an image, if it is cached.
pub(crate) fn delete(cache: &CacheInner, id: &ImageId) -> Result<()> {
    let lock = cache.lock.acquire_to_query()?;
    if lock.check_held().is_err() && !cache.layout().has(Area::Cached, id)? {
        return Ok(());
    }
    let removal = NameChange::begin(&cache.catalog, &lock)?.remove(std::slice::from_ref(id));
    drop(lock);
    removal.result
}

/// Deletes every image that is cached now. Returns how many there were.
pub(crate) fn delete_all(cache: &CacheInner) -> Result<u64> {
    // An image that cannot be stat'ed fails below, after the others were deleted.
    let ids = memory::collect(cache.layout().images(Area::Cached)?.map(|(id, _)| Ok(id)), "list the images")?;
    let mut deleted = 0;
    let mut result = Ok(());
    for batch in ids.chunks(BATCH) {
        let removal = {
            let lock = cache.lock.acquire()?;
            NameChange::begin(&cache.catalog, &lock)?.remove(batch)
        };
        deleted +=
            removal.outcomes.iter().filter(|outcome| matches!(outcome, RemoveOutcome::Removed { .. })).count() as u64;
        result = result.and(removal.result);
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
