//! Waiting until an image is cached.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::incomplete::min_stall;
use crate::cache::inner::CacheInner;
use crate::cache::query::is_cached;
use crate::cache::stream::waiting::Waiters;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;

/// How often it is checked that somebody still caches the image.
const CHECK: Duration = Duration::from_secs(1);

/// Waits until the image is cached (true), or nobody caches it (false). Fails with [`Error::TimedOut`] after that time.
pub(crate) fn wait_cached(cache: &Arc<CacheInner>, id: &ImageId, timeout: Duration) -> Result<bool> {
    let deadline = Instant::now().checked_add(timeout);
    let waiters = Waiters::default();
    loop {
        if is_cached(cache, id)? {
            return Ok(true);
        }
        if !is_cached_by_somebody(cache, id)? {
            // It may have been committed between the two looks.
            return is_cached(cache, id);
        }
        let check = Instant::now() + CHECK;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let path = cache.layout().path(Area::Incomplete, id);
            return Err(Error::TimedOut { operation: "wait until the image is cached", path, waited: timeout });
        }
        let until = deadline.map_or(check, |deadline| deadline.min(check));
        waiters.wait(waiters.version(), until, || !cache.layout().has(Area::Incomplete, id).unwrap_or(false));
    }
}

fn is_cached_by_somebody(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    if cache.layout().written(id)?.is_none() {
        return Ok(false);
    }
    let lock = cache.lock.acquire_to_query()?;
    let Some(file) = cache.layout().written(id)? else { return Ok(false) };
    Ok(writer_of(cache.layout(), &lock, id, &file)?.has_the_image(min_stall(cache)))
}
