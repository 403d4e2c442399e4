//! Queries about one image or all images.

use std::fs::File;

use crate::cache::catalog::Exactness;
use crate::cache::inner::CacheInner;
use crate::error::{Error, Result};
use crate::index::Driver;
use crate::index::cached_image::CachedImage;
use crate::index::listing::Listing;
use crate::index::sqlite::driver::SqliteDriver;
use crate::log::LogOnce;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::pins::Pins;
use crate::sys::stat::FileStat;

/// Whether the image is neither cached nor being cached, and nothing else has its name.
pub(crate) fn is_cacheable(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    let is_missing = |area| Ok(matches!(cache.layout().stat(area, id)?, DirEntry::Missing));
    // In this order: a writer that commits in between moves its file from the first to the second.
    Ok(is_missing(Area::Incomplete)?
        && (is_missing(Area::Cached)? || (is_torn(cache, id)? && cache.layout().check_removable(id).is_ok())))
}

/// Whether the image's file may be torn by a restart of the host, and could not be removed at the open. It is not served, and its
/// next writer replaces it.
pub(crate) fn is_torn(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(cache.unsynced.has_suspects() && cache.layout().has(Area::Cached, id)? && !is_cached(cache, id)?)
}

/// Whether the image is cached.
pub(crate) fn is_cached(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(stat_served(cache, id)?.is_some())
}

/// The length of a cached image, in bytes.
pub(crate) fn image_size(cache: &CacheInner, id: &ImageId) -> Result<u64> {
    stat_served(cache, id)?.map(|stat| stat.size).ok_or_else(|| not_found(cache, id))
}

/// Opens an image's file. `None` when it is not cached, or may be torn by a restart of the host, and could not be removed.
pub(crate) fn open_served(cache: &CacheInner, id: &ImageId) -> Result<Option<(File, FileStat)>> {
    match cache.layout().open_file(Area::Cached, id) {
        Ok(Some((file, _))) if cache.unsynced.is_suspect(cache.layout(), &file, id)? => Ok(None),
        // It is being removed, by a process that is stopped. Nobody waits.
        Err(error) if error.is_leased() => Ok(None),
        opened => opened,
    }
}

/// The status of the file that [`open_served`] opens.
fn stat_served(cache: &CacheInner, id: &ImageId) -> Result<Option<FileStat>> {
    let present = cache.layout().stat(Area::Cached, id)?.image();
    if !cache.unsynced.has_suspects() {
        return Ok(present);
    }
    match open_served(cache, id) {
        Ok(served) => Ok(served.map(|(_, stat)| stat)),
        // An image that only other users may open counts as cached, as it does without suspects.
        Err(error) if error.is_denied() => Ok(present),
        Err(error) => Err(error),
    }
}

/// The error for an image that is not cached. Heals an index that has an entry for it.
pub(crate) fn not_found(cache: &CacheInner, id: &ImageId) -> Error {
    let occupied = matches!(cache.layout().stat(Area::Cached, id), Ok(DirEntry::Foreign));
    cache.catalog.heal(&cache.lock, id);
    Error::NotFound { image_id: id.to_string(), occupied }
}

/// The size of all cached images, in bytes.
pub(crate) fn cache_size(cache: &CacheInner) -> Result<u64> {
    if cache.unsynced.has_suspects() {
        // Images that are not served do not count, though they occupy the disk until they can be removed.
        return Ok(list(cache)?.fold(0, |sum, image| sum.saturating_add(image.size)));
    }
    let totals = match &cache.index().driver {
        Driver::Sqlite(index) => reconciled(cache, |lock| index.totals(lock)).or_else(|error| {
            cache.log().warning(|| format!("{error}; the size is computed from the directory"));
            cache.index().scanned_totals(cache.log())
        }),
        Driver::Xattr(_) => cache.index().scanned_totals(cache.log()),
    };
    Ok(u64::try_from(totals?.bytes).unwrap_or(u64::MAX))
}

/// The hits of an image; 0 when it is not cached. Works also while the index cannot be reconciled.
pub(crate) fn hit_count(cache: &CacheInner, id: &ImageId) -> Result<u64> {
    // The query is repeated while another program has the index locked.
    let not_compared = LogOnce::default();
    let lock = || {
        cache.catalog.lock_flushed(&cache.lock, Exactness::Usual).or_else(|error| {
            not_compared.note(Err::<(), _>(error), cache.log(), |error| {
                format!("{error}; the index is compared with the directory before its next query")
            });
            let lock = cache.lock.acquire_to_query()?;
            cache.catalog.flush(&lock);
            Ok(lock)
        })
    };
    CacheInner::patiently(|| {
        cache.query(lock, |lock| if is_cached(cache, id)? { cache.index().hits(lock, id) } else { Ok(0) })
    })
}

/// Queries an index that was compared with the directory if necessary.
fn reconciled<T>(cache: &CacheInner, query: impl Fn(&CacheLockGuard<'_>) -> Result<T>) -> Result<T> {
    cache.query(|| cache.catalog.lock_reconciled(&cache.lock, Exactness::Usual), query)
}

/// A cached image as a listing shows it.
pub(crate) fn image(cache: &CacheInner, id: &ImageId) -> Result<CachedImage> {
    if !is_cached(cache, id)? {
        return Err(not_found(cache, id));
    }
    let image = match &cache.index().driver {
        Driver::Sqlite(index) => {
            let lock = || cache.catalog.lock_flushed(&cache.lock, Exactness::Usual);
            CacheInner::patiently(|| cache.query(lock, |lock| index.image(lock, id)))
        }
        Driver::Xattr(files) => {
            if !cache.index().pending.is_empty() {
                cache.catalog.flush(&cache.lock.acquire_to_query()?);
            }
            files.image(id)
        }
    };
    let mut listing = Listing::default();
    image?.map_or(Ok(()), |image| listing.push(&image))?;
    cache.index().add_pending(&mut listing);
    add_allocated(cache, &mut listing);
    add_pins(cache, &mut listing)?;
    listing.next().ok_or_else(|| not_found(cache, id))
}

/// All cached images, by id. The cache lock is held for one part of them at a time: images that come or go meanwhile may or may not
/// be included.
pub(crate) fn list(cache: &CacheInner) -> Result<Listing> {
    let mut listing = match &cache.index().driver {
        Driver::Sqlite(index) => CacheInner::patiently(|| list_index(cache, index)),
        Driver::Xattr(files) => {
            if !cache.index().pending.is_empty() {
                cache.catalog.flush(&cache.lock.acquire_to_query()?);
            }
            files.list()
        }
    }?;
    cache.index().add_pending(&mut listing);
    add_allocated(cache, &mut listing);
    add_pins(cache, &mut listing)?;
    if !cache.unsynced.has_suspects() {
        return Ok(listing);
    }
    let mut served = Listing::default();
    for image in listing {
        let id = cache.layout().image_id(&image.image_id);
        // An image that cannot be examined is listed, too, when none is suspect.
        if id.and_then(|id| is_cached(cache, &id)).unwrap_or(true) {
            served.push(&image)?;
        }
    }
    Ok(served)
}

/// Adds what images take up on the disk. The index does not have it, since other programs may free blocks, or share them.
fn add_allocated(cache: &CacheInner, listing: &mut Listing) {
    if matches!(cache.index().driver, Driver::Xattr(_)) {
        // It looks at each file anyway.
        return;
    }
    for (image_id, image) in listing.iter_mut() {
        let id = cache.layout().image_id(image_id);
        let entry = id.and_then(|id| cache.layout().stat(Area::Cached, &id));
        image.allocated = entry.ok().and_then(DirEntry::image).map_or(0, |stat| stat.allocated);
    }
}

/// Adds until when images are pinned. A listing does not fail for it.
fn add_pins(cache: &CacheInner, listing: &mut Listing) -> Result<()> {
    let pins = match Pins::open(cache.layout(), cache.log()).and_then(|pins| match pins {
        Some(pins) => Ok(Some((pins.ids()?, pins))),
        None => Ok(None),
    }) {
        Ok(None) => return Ok(()),
        Ok(Some(pins)) => pins,
        Err(error @ Error::NoMemory { .. }) => return Err(error),
        Err(error) => {
            cache.log().warning(|| format!("{error}; pins are not listed"));
            return Ok(());
        }
    };
    let (mut ids, pins) = pins;
    ids.sort_unstable();
    for (image_id, image) in listing.iter_mut() {
        if let Ok(place) = ids.binary_search_by(|id| id.as_str().cmp(image_id)) {
            image.pinned_until = pins.unlocked(&ids[place]).until;
        }
    }
    Ok(())
}

fn list_index(cache: &CacheInner, index: &SqliteDriver) -> Result<Listing> {
    let begin = |lock: &CacheLockGuard<'_>| {
        let mut listing = Listing::default();
        let after = index.list_part(lock, None, &mut listing)?;
        Ok((listing, after))
    };
    let lock = || cache.catalog.lock_flushed(&cache.lock, Exactness::Usual);
    let (mut listing, mut after) = cache.query(lock, begin)?;
    while let Some(last) = after {
        after = index.list_part(&cache.lock.acquire_to_query()?, Some(&last), &mut listing)?;
    }
    Ok(listing)
}
