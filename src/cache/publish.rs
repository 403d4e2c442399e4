//! Publishing: an incomplete file gets its final name.
//!
//! 1. The file has the length that was written, so nobody truncated it. (After a truncation, the bytes that are appended leave it
//!    too short.) Blocks that were reserved behind the end are freed.
//! 2. Attributes and times are set, so that the file has them when it gets its name.
//! 3. Durability full: the file is synced. A name must never reach the disk before its bytes. A failed sync is final: the kernel
//!    may have dropped the dirty pages, and a second sync can succeed without them. Durability none: the file is marked instead (see
//!    `store::unsynced`). In both cases a duplicate of its descriptor is closed, since some file systems report lost bytes only
//!    there. That is final, too.
//! 4. Streaming: the rest of its pages is written back and dropped.
//! 5. Under the cache lock: the incomplete name still is this file's, else the writer has lost it. The length still is what was
//!    written: another program may have appended during the sync. A `NameChange` renames it to the final name, which must be
//!    free, and enters it in the index. Then the mark of an incomplete file is cleared. A kill before the rename leaves an unlocked
//!    incomplete file: a dead writer's. A kill after it leaves a whole image, and a stamp that shows that the index lacks it.
//! 6. Durability full: both directories are synced. If that fails, the image is withdrawn: its name may not survive a power cut.
//! 7. Under the cache lock (durability none: still that of step 5): the image leaves the queue. After a kill before that, it is
//!    still not queued, since it is cached.

use crate::cache::counters::Counter;
use crate::cache::incomplete::IncompleteFile;
use crate::cache::inspection::Inspected;
use crate::cache::name_change::NameChange;
use crate::cache::remove::withdraw;
use crate::digest::expectations::is_computed;
use crate::error::Result;
use crate::index::driver::Record;
use crate::options::Durability;
use crate::store::committed::modification_time;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::sys::file;
use crate::sys::time::Timestamp;

/// Publishes a finished file that was inspected. On failure it goes to `invalid/`.
pub(crate) fn publish(mut file: IncompleteFile, digest: Option<&str>, _: &Inspected) -> Result<()> {
    match try_publish(&mut file, digest) {
        Ok(()) => {
            file.cache.counters().add(Counter::Commits, 1);
            file.end_published();
            Ok(())
        }
        Err(error) => {
            file.invalidate_for(&error);
            Err(error)
        }
    }
}

fn try_publish(image: &mut IncompleteFile, digest: Option<&str>) -> Result<()> {
    image.check_intact()?;
    image.reserve_empty()?;
    // The limit may have been lowered since the last chunk.
    image.reserve(image.written)?;
    image.release()?;
    let committed = Timestamp::now_as_access();
    let Ready { is_synced, has_attributes } = make_ready(image, committed, digest)?;
    // Without attributes, a digest in the index alone makes a file with another mtime another image, whose hits are lost. Only a digest
    // that the caller expects is worth it.
    let digest = digest.filter(|digest| has_attributes || !is_computed(digest));
    {
        let cache = &image.cache;
        let lock = cache.lock.acquire_to_publish()?;
        let Some(stat) = image.stat_in(Area::Incomplete)? else { return Err(image.lost_name()) };
        image.check_length(stat.size)?;
        let record = Record { size: image.written, committed, modified: stat.modified, digest };
        NameChange::begin(&cache.catalog, &lock)?.publish(&image.id, stat.id, &record)?;
        image.unmark(&stat);
        cache.catalog.flush_counters(&lock);
        if !is_synced {
            dequeue(image, &lock);
            return Ok(());
        }
    }
    if let Err(error) = image.cache.layout().sync_published() {
        withdraw(&image.cache, &image.id, &image.file, &error);
        return Err(error);
    }
    match image.cache.lock.acquire().and_then(|lock| Ok((image.stat_in(Area::Cached)?, lock))) {
        Ok((Some(_), lock)) => dequeue(image, &lock),
        // It was deleted meanwhile, and may have been queued again.
        Ok((None, _)) => {}
        Err(error) => image.cache.log().warning(|| error.to_string()),
    }
    Ok(())
}

/// What became of a finished file.
struct Ready {
    is_synced: bool,
    /// Whether digest and size are on it.
    has_attributes: bool,
}

/// Steps 2 to 4.
fn make_ready(image: &mut IncompleteFile, committed: Timestamp, digest: Option<&str>) -> Result<Ready> {
    let cache = &image.cache;
    let path = image.path();
    let path_again = || path.clone();
    let has_attributes = cache.index().prepare(&image.file, &path, digest, image.written)?;
    let modified = modification_time(committed, image.written);
    file::set_both_times(&image.file, path_again, committed, modified)?;
    let is_synced = cache.durability == Durability::Full
        || !cache.unsynced.mark(cache.layout(), &cache.lock, &image.file, &image.id)?;
    if is_synced {
        file::sync(&image.file, path_again)?;
    }
    // Without a descriptor for the duplicate, a sync reports lost bytes.
    if !file::flush_by_closing(&image.file, path_again)? && !is_synced {
        file::sync(&image.file, path_again)?;
    }
    let dropped = image.writeback.drop_rest(&image.file, image.written, path_again);
    dropped.inspect_err(|error| image.free_space(error))?;
    Ok(Ready { is_synced, has_attributes })
}

/// Removes the image from the queue, now that it is cached.
fn dequeue(image: &IncompleteFile, lock: &CacheLockGuard<'_>) {
    if let Err(error) = image.cache.layout().remove(lock, Area::Queue, &image.id) {
        image.cache.log().warning(|| error.to_string());
    }
}
