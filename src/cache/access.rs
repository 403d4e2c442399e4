//! Recording that an image was opened, and that it was read. A reader never fails for it.

use std::fs::File;
use std::time::Duration;

use crate::cache::catalog::Exactness;
use crate::cache::counters::Counter;
use crate::cache::inner::CacheInner;
use crate::error::{Error, Result};
use crate::index::driver::Currency;
use crate::index::pending::Access;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::file;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// A call that sets a time takes a microsecond.
const DELAYED: Duration = Duration::from_micros(10);

/// How often a time is set again.
const ATTEMPTS: usize = 3;

/// Records that an image was opened. Sets its atime, so that the order of access is exact on every mount, over all processes.
pub(crate) fn record_open(cache: &CacheInner, id: &ImageId, file: &File, stat: &FileStat) {
    let (at, set) = set_access_time(cache, id, file);
    cache.unset_access_times.note(set, cache.log(), |error| error.to_string());
    record(cache, id, stat, Access::opened(at));
}

/// Records that a reader of the image was closed, which has returned so many bytes.
pub(crate) fn record_hit(cache: &CacheInner, id: &ImageId, stat: &FileStat, bytes: u64) {
    cache.counters().add(Counter::Hits, 1);
    cache.counters().add(Counter::BytesServed, bytes);
    record(cache, id, stat, Access::hit());
}

/// Flushes when the cache's own handle closes while readers or writers of it live on. From now on accesses are written through.
pub(crate) fn flush_at_close(cache: &CacheInner) {
    cache.index().pending.write_through();
    flush_finally(cache);
}

/// Flushes the pending accesses before the handle ends. Waits for the cache lock, for a comparison, and for other programs.
fn flush_finally(cache: &CacheInner) {
    if cache.index().pending.is_empty() {
        return;
    }
    let flushed = CacheInner::patiently(|| {
        let lock = cache.catalog.lock_reconciled(&cache.lock, Exactness::Usual)?;
        lock.check_held()?;
        cache.index().flush(&lock)
    });
    if flushed.as_ref().is_err_and(Error::is_not_permitted) {
        return;
    }
    note_flush(cache, flushed);
}

fn record(cache: &CacheInner, id: &ImageId, stat: &FileStat, access: Access) {
    if cache.index().pending.add(id, stat, access) {
        flush(cache);
    }
}

/// A reader does not wait for the cache lock, nor for a comparison of the index. It leaves its accesses to the next flush.
fn flush(cache: &CacheInner) {
    let flushed = cache.lock.try_acquire().and_then(|lock| match lock {
        // Names may have changed: the flush stats each file, and reads its row.
        Some(lock) if cache.catalog.currency(&lock)? != Currency::InDoubt => {
            cache.catalog.flush_counters(&lock);
            cache.index().flush_part(&lock)
        }
        _ => {
            cache.index().pending.postpone();
            Ok(())
        }
    });
    // The open has logged that hits are not recorded.
    if flushed.as_ref().is_err_and(Error::is_not_permitted) {
        cache.index().pending.postpone();
        return;
    }
    note_flush(cache, flushed);
}

fn note_flush(cache: &CacheInner, flushed: Result<()>) {
    cache.unwritten_accesses.note(flushed, cache.log(), |error| format!("{error}; accesses are written later"));
}

/// Sets a file's atime to the present, and returns it. If two readers set it in the wrong order, the flush corrects it.
///
/// A thread that the scheduler takes off the processor before it sets the time may replace a later one, which another handle has flushed
/// meanwhile. Then it sets the time again.
fn set_access_time(cache: &CacheInner, id: &ImageId, file: &File) -> (Timestamp, Result<()>) {
    let mut at = Timestamp::now_as_access();
    if !cache.layout().may_set_metadata() {
        return (at, Ok(()));
    }
    for _ in 0..ATTEMPTS {
        let set = file::set_accessed(file, || cache.layout().path(Area::Cached, id), at);
        let now = Timestamp::now_as_access();
        if set.is_err() || now.distance(at) < DELAYED {
            return (at, set);
        }
        at = now;
    }
    (at, file::set_accessed(file, || cache.layout().path(Area::Cached, id), at))
}
