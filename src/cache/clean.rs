//! Removes invalid and stalled files, deleted ones that nobody has open any more, and pins that have no use any more; and syncs the
//! images that dead processes published without a sync.

use std::time::Duration;

use crate::cache::bounds::usage::forget_count;
use crate::cache::inner::CacheInner;
use crate::cache::remove::withdraw_all;
use crate::cache::unfinished::Holder;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::Area;
use crate::store::pins::Pins;
use crate::store::removal;
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
    clean_pins(cache, &mut skipped)?;
    skipped.note(correct_bounds(cache));
    // Also if the stamp is current.
    if let Err(error) = cache.catalog.compare(&cache.lock) {
        cache.log().warning(|| format!("{error}; the index is compared with the directory before its next query"));
    }
    // A restart of the host would drop them.
    withdraw_all(cache, cache.unsynced.clean(cache.layout(), &cache.lock, cache.log()));
    skipped.outcome(removed)
}

fn remove_invalid(cache: &CacheInner, id: &ImageId) -> Result<bool> {
    Ok(removal::remove(cache.layout(), &cache.lock.acquire()?, Area::Invalid, id)?.is_some())
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
    let is_removed = removal::remove(cache.layout(), &lock, Area::Incomplete, id)?.is_some();
    StreamRecord::remove(cache.layout(), &lock, id)?;
    Ok(is_removed)
}

/// Removes pins that have ended, damaged ones, and those of images that are not cached any more.
fn clean_pins(cache: &CacheInner, skipped: &mut SkippedErrors<'_>) -> Result<()> {
    let Some(pins) = skipped.note(Pins::open(cache.layout(), cache.log())).flatten() else { return Ok(()) };
    for id in skipped.note(pins.ids()).unwrap_or_default() {
        skipped.note_unless_timed_out(clean_pins_of(cache, &pins, &id))?;
    }
    Ok(())
}

fn clean_pins_of(cache: &CacheInner, pins: &Pins<'_>, id: &ImageId) -> Result<()> {
    let lock = cache.lock.acquire()?;
    match cache.layout().stat(Area::Cached, id)? {
        DirEntry::Missing => {
            if let Ok(left) = pins.of(id)
                && !left.is_empty()
            {
                cache.log().info(|| format!("image '{id}' is gone, and its pins are removed: {}", left.holders()));
            }
            pins.remove_all(&lock, id)
        }
        _ => pins.tidy(&lock, id),
    }
}

/// Removes deleted files that nobody has open any more. The next reservation counts the images: another program may have written to one.
fn correct_bounds(cache: &CacheInner) -> Result<()> {
    removal::reap(cache.layout())?;
    forget_count(cache)
}

/// Removes the records of streams whose file is gone.
fn remove_orphaned_records(cache: &CacheInner) -> Result<()> {
    for id in StreamRecord::ids(cache.layout())? {
        let lock = cache.lock.acquire()?;
        if matches!(cache.layout().stat(Area::Incomplete, &id)?, DirEntry::Missing) {
            StreamRecord::remove(cache.layout(), &lock, &id)?;
        }
    }
    Ok(())
}
