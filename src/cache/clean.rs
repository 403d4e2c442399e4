//! Removes invalid and stalled files, and syncs the images that dead processes published without a sync.

use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::remove::withdraw_all;
use crate::cache::unfinished::Holder;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::{Area, DirEntry};
use crate::store::stream_record::StreamRecord;
use crate::store::writers::Writer;

/// Empties `invalid/`, and removes the incomplete files of dead writers, and those that were not written to for `stall_time`, even if
/// their writer lives. Returns how many files were removed.
pub(crate) fn clean(cache: &CacheInner, stall_time: Duration) -> Result<u64> {
    let mut skipped = SkippedErrors::new(cache.log());
    let mut removed = 0;
    for (id, _) in cache.layout().images(Area::Invalid)? {
        removed += u64::from(skipped.note_unless_timed_out(remove_invalid(cache, &id))?.unwrap_or(false));
    }
    for (id, _) in cache.layout().images(Area::Incomplete)? {
        removed += u64::from(skipped.note_unless_timed_out(remove_stalled(cache, &id, stall_time))?.unwrap_or(false));
    }
    skipped.note(remove_orphaned_records(cache));
    // Also if the stamp is current.
    if let Err(error) = cache.catalog.compare(&cache.lock) {
        cache.log().warning(|| format!("{error}; the index is compared with the directory before its next query"));
    }
    // A restart of the host would drop them.
    withdraw_all(cache, cache.unsynced.clean(cache.layout(), &cache.lock, cache.log()));
    skipped.outcome(removed)
}

fn remove_invalid(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(cache.layout().remove(&cache.lock.acquire()?, Area::Invalid, id)?.is_some())
}

fn remove_stalled(cache: &CacheInner, id: &ImageId, stall_time: Duration) -> Result<bool> {
    let lock = cache.lock.acquire()?;
    let Some(file) = cache.layout().written(id)? else { return Ok(false) };
    let writer = writer_of(cache.layout(), &lock, id, &file)?;
    if writer.is_kept(stall_time) {
        cache.log().info(|| format!("image '{id}' is not removed from incomplete/: {}", Holder::of(&writer)));
        return Ok(false);
    }
    cache.log().info(|| match writer {
        Writer::Dead => format!("the incomplete file of image '{id}' is a dead writer's: it is removed"),
        _ => format!("image '{id}' was not written to for {stall_time:?}: its file is removed"),
    });
    let is_removed = cache.layout().remove(&lock, Area::Incomplete, id)?.is_some();
    StreamRecord::remove(cache.layout(), &lock, id)?;
    Ok(is_removed)
}

/// Removes the records of streams whose file is gone.
fn remove_orphaned_records(cache: &CacheInner) -> Result<()> {
    for id in cache.layout().stream_ids()? {
        let lock = cache.lock.acquire()?;
        if matches!(cache.layout().stat(Area::Incomplete, &id)?, DirEntry::Missing) {
            StreamRecord::remove(cache.layout(), &lock, &id)?;
        }
    }
    Ok(())
}
