//! Fetching the queued images. Prefetchers share the queue: each becomes an image's writer, and there is only one.

use std::sync::Arc;

use crate::cache::inner::CacheInner;
use crate::cache::query::is_cached;
use crate::cache::queue;
use crate::cache::writer::Writer;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, DirEntry};

/// The result of a prefetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefetched {
    /// How many images it fetched and cached.
    pub fetched: u64,
    /// How many failed. They stay queued.
    pub failed: u64,
}

/// Fetches each image that is queued now, oldest first.
pub(crate) fn prefetch(
    cache: &Arc<CacheInner>,
    mut fetch: impl FnMut(&str, &mut Writer) -> Result<()>,
) -> Result<Prefetched> {
    let (entries, skipped) = queue::entries(cache)?;
    let mut done = Prefetched { fetched: 0, failed: skipped };
    for (id, _) in entries {
        match prefetch_image(cache, &id, &mut fetch) {
            Ok(fetched) => done.fetched += u64::from(fetched),
            Err(error) => {
                cache.log().warning(|| format!("prefetching image '{id}' failed: {error}"));
                done.failed += 1;
            }
        }
    }
    Ok(done)
}

/// Fetches one image. False if another writer has the image or has cached it, or if it left the queue.
fn prefetch_image(
    cache: &Arc<CacheInner>,
    id: &ImageId,
    fetch: &mut impl FnMut(&str, &mut Writer) -> Result<()>,
) -> Result<bool> {
    let mut writer = match Writer::begin(cache, id) {
        Ok(writer) => writer,
        Err(Error::AlreadyCached(_)) => {
            let lock = cache.lock.acquire()?;
            if is_cached(cache, id)? {
                cache.layout().remove(&lock, Area::Queue, id)?;
            }
            return Ok(false);
        }
        Err(Error::BeingCached(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    // Since the queue was listed, another prefetcher may have cached the image, and it may have been deleted again.
    if matches!(cache.layout().stat(Area::Queue, id)?, DirEntry::Missing) {
        writer.discard();
        return Ok(false);
    }
    match fetch(id.as_str(), &mut writer) {
        Ok(()) => writer.commit().map(|()| true),
        Err(error) => {
            writer.abort(&error.to_string());
            Err(error)
        }
    }
}
