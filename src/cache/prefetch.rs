//! Fetching the queued images. Prefetchers share the queue: each becomes an image's writer, and there is only one.

use std::sync::Arc;

use crate::cache::inner::CacheInner;
use crate::cache::query::is_cached;
use crate::cache::queue;
use crate::cache::wait::wait_for_streams;
use crate::cache::writer::Writer;
use crate::error::{Error, Result};
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;

/// The result of a prefetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefetched {
    /// How many images it fetched and cached.
    pub fetched: u64,
    /// How many failed. They stay queued.
    pub failed: u64,
}

/// Fetches each image that is queued now, oldest first. Those that streams fetch come last: by then they are cached, as a rule.
pub(crate) fn prefetch(
    cache: &Arc<CacheInner>,
    mut fetch: impl FnMut(&str, &mut Writer) -> Result<()>,
) -> Result<Prefetched> {
    let (entries, skipped) = queue::entries(cache)?;
    let mut done = Prefetched { fetched: 0, failed: skipped };
    let mut note = |id: &ImageId, outcome: Result<Outcome>| match outcome {
        Ok(outcome) => {
            done.fetched += u64::from(outcome == Outcome::Fetched);
            outcome
        }
        Err(error) => {
            cache.log().warning(|| format!("prefetching image '{id}' failed: {error}"));
            done.failed += 1;
            Outcome::Skipped
        }
    };
    let mut taken = Vec::new();
    for (id, _) in entries {
        let outcome = prefetch_image(cache, &id, &mut fetch);
        if note(&id, outcome) == Outcome::Taken {
            taken.push(id);
        }
    }
    for id in taken {
        let outcome = wait_for_streams(cache, &id)
            .and_then(|is_over| if is_over { prefetch_image(cache, &id, &mut fetch) } else { Ok(Outcome::Skipped) });
        note(&id, outcome);
    }
    Ok(done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Fetched,
    /// It was cached, or left the queue.
    Skipped,
    /// A writer or a stream has the image.
    Taken,
}

/// Fetches one image.
fn prefetch_image(
    cache: &Arc<CacheInner>,
    id: &ImageId,
    fetch: &mut impl FnMut(&str, &mut Writer) -> Result<()>,
) -> Result<Outcome> {
    let mut writer = match Writer::begin(cache, id) {
        Ok(writer) => writer,
        Err(Error::AlreadyCached(_)) => {
            let lock = cache.lock.acquire()?;
            if is_cached(cache, id)? {
                cache.layout().remove(&lock, Area::Queue, id)?;
            }
            return Ok(Outcome::Skipped);
        }
        Err(Error::BeingCached(_)) => return Ok(Outcome::Taken),
        Err(error) => return Err(error),
    };
    // Since the queue was listed, another prefetcher may have cached the image, and it may have been deleted again.
    if matches!(cache.layout().stat(Area::Queue, id)?, DirEntry::Missing) {
        writer.discard();
        return Ok(Outcome::Skipped);
    }
    match fetch(id.as_str(), &mut writer) {
        Ok(()) => writer.commit().map(|()| Outcome::Fetched),
        Err(error) => {
            writer.fail(&error);
            Err(error)
        }
    }
}
