//! Waiting until an image is cached, or until streams no longer fetch it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::inner::CacheInner;
use crate::cache::query::is_cached;
use crate::cache::stream::waiting::Waiters;
use crate::cache::takeover::min_stall;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;
use crate::store::stream_record::StreamRecord;

/// How often it is checked that somebody still caches the image.
const CHECK: Duration = Duration::from_secs(1);

/// A fetch whose participants do not call their sources for so long does not go on by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// So long may one call of a participant's source take.
const SOURCE: Duration = Duration::from_secs(30);

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

/// Waits as long as streams fetch the image and it grows. Returns whether that is over; false: it has participants that do not read.
pub(crate) fn wait_for_streams(cache: &Arc<CacheInner>, id: &ImageId) -> Result<bool> {
    let waiters = Waiters::default();
    let mut last = None;
    let mut grown = Instant::now();
    while let Some(progress) = look_at_streams(cache, id)? {
        let now = Instant::now();
        if last.replace((progress.length, progress.hashed)) != Some((progress.length, progress.hashed)) {
            grown = now;
        }
        if now >= grown + if progress.is_active { SOURCE } else { PAUSE } {
            return Ok(false);
        }
        let has_gone = || !cache.layout().has(Area::Incomplete, id).unwrap_or(false);
        waiters.wait(waiters.version(), now + PAUSE / 4, has_gone);
    }
    Ok(true)
}

struct StreamsProgress {
    length: u64,
    hashed: u64,
    /// One of them calls its source, verifies or publishes now.
    is_active: bool,
}

/// `None` when no stream takes part in a fetch of the image.
fn look_at_streams(cache: &CacheInner, id: &ImageId) -> Result<Option<StreamsProgress>> {
    let Some(file) = cache.layout().written(id)? else { return Ok(None) };
    let Some((record, facts)) = StreamRecord::open(cache.layout(), id, &file)? else { return Ok(None) };
    if !record.is_attended()? {
        return Ok(None);
    }
    let is_active = record.is_turn_taken(facts.turn)? || record.is_append_locked()?;
    Ok(Some(StreamsProgress { length: file.stat.size, hashed: record.hashed()?, is_active }))
}
