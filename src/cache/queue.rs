//! The queue of images to be cached: a subdirectory of empty files. Publishing an image removes it from the queue, so an image whose
//! fetch fails, or whose prefetcher dies, stays queued.

use crate::cache::inner::CacheInner;
use crate::cache::query::{is_cacheable, is_cached};
use crate::cache::takeover::is_replaceable;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::memory;
use crate::sys::time::Timestamp;

/// For messages.
const LIST: &str = "list the queue";

/// An image in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedImage {
    /// Its id.
    pub image_id: String,
    /// When it was queued: nanoseconds since the Unix epoch.
    pub queued: i64,
}

/// Appends an image to the queue. False when it is queued, cached or being cached, or its name is taken.
pub(crate) fn enqueue(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    let lock = cache.lock.acquire_to_query()?;
    let is_free = is_cacheable(cache, id)? || is_replaceable(cache, &lock, id)?;
    if is_free {
        lock.check_held()?;
    }
    Ok(is_free && cache.layout().enqueue(&lock, id)?)
}

/// Whether the image is queued. A cached image is not, even if a dead writer left it in the queue.
pub(crate) fn is_queued(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(cache.layout().has(Area::Queue, id)? && !is_cached(cache, id)?)
}

/// The queued images, oldest first.
pub(crate) fn list(cache: &CacheInner) -> Result<Vec<QueuedImage>> {
    let mut images = Vec::new();
    for (id, queued) in entries(cache)?.0 {
        if !is_cached(cache, &id)? {
            let image = QueuedImage { image_id: id.to_string(), queued: queued.as_nanoseconds() };
            memory::push(&mut images, image, LIST)?;
        }
    }
    Ok(images)
}

/// The entries of the queue, oldest first, and how many could not be stat'ed. A dead writer may have left cached images in it.
pub(crate) fn entries(cache: &CacheInner) -> Result<(Vec<(ImageId, Timestamp)>, u64)> {
    let mut skipped = SkippedErrors::new(cache.log());
    let images = cache.layout().images(Area::Queue)?;
    let queued = images.filter_map(|(id, stat)| Some(Ok((id, skipped.note(stat)?.modified))));
    let mut queue = memory::collect(queued, LIST)?;
    queue.sort_unstable_by(|(id, queued), (other_id, other)| (queued, id).cmp(&(other, other_id)));
    Ok((queue, skipped.count()))
}

/// Removes an image from the queue. False when it was not queued.
pub(crate) fn dequeue(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(cache.layout().remove(&cache.lock.acquire()?, Area::Queue, id)?.is_some())
}

/// Empties the queue. Returns how many images were in it.
pub(crate) fn dequeue_all(cache: &CacheInner) -> Result<u64> {
    let mut skipped = SkippedErrors::new(cache.log());
    let mut deleted = 0;
    for (id, _) in cache.layout().images(Area::Queue)? {
        deleted += u64::from(skipped.note_unless_timed_out(dequeue(cache, &id))?.unwrap_or(false));
    }
    skipped.outcome(deleted)
}
