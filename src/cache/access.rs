//! Recording that an image was opened, and that it was read. A reader never fails for it.

use std::fs::File;

use crate::cache::inner::CacheInner;
use crate::error::Result;
use crate::index::driver::Flush;
use crate::index::pending::Access;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::sys::file;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// Records that an image was opened. Sets its atime, so that the order of access is exact on every mount, over all processes.
pub(crate) fn record_open(cache: &CacheInner, id: &ImageId, file: &File, stat: &FileStat) {
    let (at, set) = set_access_time(cache, id, file);
    cache.unset_access_times.note(set, cache.log(), |error| error.to_string());
    record(cache, id, stat, Access::opened(at));
}

/// Records that a reader of the image was closed.
pub(crate) fn record_hit(cache: &CacheInner, id: &ImageId, stat: &FileStat) {
    record(cache, id, stat, Access::hit());
}

/// Flushes before a query. The query's result includes what could not be written.
pub(crate) fn flush_for_query(cache: &CacheInner, lock: &CacheLockGuard<'_>) {
    if let Err(error) = cache.index().flush(lock, Flush::Quick) {
        cache.log().warning(|| format!("{error}; accesses are written later"));
    }
}

/// Flushes when the cache's own handle closes while readers or writers of it live on. From now on accesses are written through.
pub(crate) fn flush_at_close(cache: &CacheInner) {
    cache.index().write_through();
    if cache.index().can_flush() {
        flush(cache, Flush::Final);
    }
}

fn record(cache: &CacheInner, id: &ImageId, stat: &FileStat, access: Access) {
    if cache.index().add_access(id, stat, access) {
        flush(cache, Flush::Quick);
    }
}

/// A reader does not wait for the cache lock. It leaves its accesses to the next flush.
fn flush(cache: &CacheInner, flush: Flush) {
    let flushed = match flush {
        Flush::Quick => cache.lock.try_acquire().and_then(|lock| match lock {
            Some(lock) => flush_locked(cache, &lock, flush),
            None => Ok(()),
        }),
        Flush::Final => cache.lock.acquire().and_then(|lock| flush_locked(cache, &lock, flush)),
    };
    cache.unwritten_accesses.note(flushed, cache.log(), |error| format!("{error}; accesses are written later"));
}

/// An index that is not current may have no row for an image, or one of an older image. A closing handle rebuilds it first. A reader
/// does not wait for that, and leaves it to the next query.
fn flush_locked(cache: &CacheInner, lock: &CacheLockGuard<'_>, flush: Flush) -> Result<()> {
    match flush {
        Flush::Final => drop(cache.catalog.reconcile(lock)?),
        Flush::Quick if !cache.catalog.is_current(lock)? => {
            cache.index().postpone_flush();
            return Ok(());
        }
        Flush::Quick => {}
    }
    cache.index().flush(lock, flush)
}

/// Sets a file's atime to the present, and returns that. Where two readers do so in the wrong order, the flush corrects it.
fn set_access_time(cache: &CacheInner, id: &ImageId, file: &File) -> (Timestamp, Result<()>) {
    let at = Timestamp::now_as_access();
    if !cache.layout().may_set_metadata() {
        return (at, Ok(()));
    }
    (at, file::set_accessed(file, || cache.layout().path(Area::Cached, id), at))
}
