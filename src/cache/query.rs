//! Questions about one image or all of them.

use crate::cache::access::flush_for_query;
use crate::cache::inner::CacheInner;
use crate::error::{Error, Result};
use crate::index::listing::Listing;
use crate::index::scan;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, DirEntry};

/// Whether the image is neither cached nor being cached, and nothing else has its name.
pub(crate) fn is_cacheable(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    let is_free = |area| Ok(matches!(cache.layout().stat(area, id)?, DirEntry::Missing));
    // In this order: a writer that commits in between moves its file from the first to the second.
    Ok(is_free(Area::Incomplete)? && is_free(Area::Cached)?)
}

/// The length of a cached image, in bytes.
pub(crate) fn image_size(cache: &CacheInner, id: &ImageId) -> Result<u64> {
    let entry = cache.layout().stat(Area::Cached, id)?;
    entry.image().map(|stat| stat.size).ok_or_else(|| not_found(cache, id))
}

/// The error for an image that is not cached.
pub(crate) fn not_found(cache: &CacheInner, id: &ImageId) -> Error {
    let occupied = matches!(cache.layout().stat(Area::Cached, id), Ok(DirEntry::Foreign));
    Error::NotFound { image_id: id.to_string(), occupied }
}

/// The size of all cached images, in bytes.
pub(crate) fn cache_size(cache: &CacheInner) -> Result<u64> {
    let indexed = cache.query(|lock| cache.index().totals(lock));
    let totals = indexed.or_else(|error| {
        cache.log().warning(|| format!("{error}; the size is computed from the directory"));
        scan::totals(cache.layout(), cache.log())
    });
    Ok(u64::try_from(totals?.bytes).unwrap_or(u64::MAX))
}

/// The hits of an image; 0 when it is not cached. They are known even while the index cannot be reconciled.
pub(crate) fn hit_count(cache: &CacheInner, id: &ImageId) -> Result<u64> {
    let lock = cache.lock_reconciled().or_else(|error| {
        cache.log().warning(|| format!("{error}; the index is rebuilt before its next query"));
        cache.lock.acquire_to_query()
    })?;
    flush_for_query(cache, &lock);
    cache.catalog.query_locked(&lock, |lock| {
        if cache.layout().has(Area::Cached, id)? { cache.index().hits(lock, id) } else { Ok(0) }
    })
}

/// All cached images, by id.
pub(crate) fn list(cache: &CacheInner) -> Result<Listing> {
    cache.query(|lock| {
        flush_for_query(cache, lock);
        cache.index().list(lock)
    })
}
