//! What is of no use, or of little: removed before images are evicted, or after that was not enough.

use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;
use crate::store::removal;
use crate::store::stream_record::StreamRecord;
use crate::store::writers::Writer;

/// An unfinished fetch that nobody took part in for so long is worth less than a cached image.
const ABANDONED: Duration = Duration::from_secs(10 * 60);

/// Removes invalid files, those of dead writers, and fetches that were abandoned long ago, until so many bytes are free. Returns how many are.
pub(super) fn remove_failed(cache: &CacheInner, bytes: u64) -> Result<u64> {
    let mut freed = 0;
    let mut skipped = SkippedErrors::new(cache.log());
    for (id, stat) in cache.layout().images(Area::Invalid)? {
        if freed >= bytes {
            return Ok(freed);
        }
        // It says why a fetch failed, and frees nothing.
        if stat.is_ok_and(|stat| stat.allocated == 0 || stat.size == 0) {
            continue;
        }
        let removed = cache.lock.acquire().and_then(|lock| removal::remove(cache.layout(), &lock, Area::Invalid, &id));
        let removed = skipped.note_unless_timed_out(removed)?.flatten();
        freed += removed.map_or(0, |file| file.allocated);
        cache.log().info(|| format!("image '{id}' is removed from invalid/: its room is needed"));
    }
    remove_incomplete(cache, bytes, freed, |writer| match writer {
        Writer::Dead => true,
        Writer::Stream { is_attended: false, idle, .. } => *idle >= ABANDONED,
        _ => false,
    })
}

/// Removes the unfinished fetches that nobody takes part in.
pub(super) fn remove_unattended(cache: &CacheInner, bytes: u64) -> Result<u64> {
    remove_incomplete(cache, bytes, 0, is_unattended)
}

/// What they take up, in bytes.
pub(super) fn unattended(cache: &CacheInner) -> Result<u64> {
    let mut skipped = SkippedErrors::new(cache.log());
    let mut allocated = 0;
    for (id, _) in cache.layout().images(Area::Incomplete)? {
        let lock = cache.lock.acquire()?;
        let Some(file) = cache.layout().written(&id)? else { continue };
        if skipped.note(writer_of(cache.layout(), &lock, &id, &file)).is_some_and(|writer| is_unattended(&writer)) {
            allocated += file.stat.allocated;
        }
    }
    Ok(allocated)
}

fn is_unattended(writer: &Writer) -> bool {
    matches!(writer, Writer::Dead | Writer::Stream { is_attended: false, .. })
}

fn remove_incomplete(
    cache: &CacheInner,
    bytes: u64,
    mut freed: u64,
    is_garbage: impl Fn(&Writer) -> bool,
) -> Result<u64> {
    let mut skipped = SkippedErrors::new(cache.log());
    for (id, _) in cache.layout().images(Area::Incomplete)? {
        if freed >= bytes {
            break;
        }
        freed += skipped.note_unless_timed_out(remove_if(cache, &id, &is_garbage))?.unwrap_or(0);
    }
    Ok(freed)
}

fn remove_if(cache: &CacheInner, id: &ImageId, is_garbage: impl Fn(&Writer) -> bool) -> Result<u64> {
    let lock = cache.lock.acquire()?;
    let Some(file) = cache.layout().written(id)? else { return Ok(0) };
    if !is_garbage(&writer_of(cache.layout(), &lock, id, &file)?) {
        return Ok(0);
    }
    cache.log().info(|| format!("the unfinished file of image '{id}' is removed: its room is needed"));
    let removed = removal::remove(cache.layout(), &lock, Area::Incomplete, id)?;
    StreamRecord::remove(cache.layout(), &lock, id)?;
    Ok(removed.map_or(0, |file| file.allocated))
}
