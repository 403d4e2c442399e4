//! Opening and closing a cache's state.

use std::path::Path;
use std::sync::Arc;

use crate::cache::access::flush_at_close;
use crate::cache::bounds::of_handle::Bounds;
use crate::cache::bounds::reserve;
use crate::cache::catalog::{Catalog, Exactness};
use crate::cache::inner::CacheInner;
use crate::cache::recovery::recover;
use crate::cache::remove::withdraw_all;
use crate::cache::stream::shared::Streams;
use crate::error::Result;
use crate::index::Index;
use crate::index::driver::Currency;
use crate::log::LogOnce;
use crate::options::{LimitMode, Options};
use crate::store::layout::Layout;
use crate::store::lock::{CacheLockGuard, Locks};

/// Opens a cache: creates missing directories, repairs the leftovers of a crash, and takes the open-handle lock.
pub(crate) fn open(path: &Path, options: Options) -> Result<CacheInner> {
    let Options {
        driver,
        max_size,
        has_max_size,
        limit_mode,
        floor,
        max_pinned,
        stall_time,
        database,
        durability,
        streaming,
        sparse,
        inspection,
        log,
    } = options;
    let layout = Arc::new(Layout::open(path, Index::reserved_names(&database))?);
    let locks = Locks::new(layout.shared_directory());
    let (catalog, unsynced) = {
        let lock = locks.acquire_to_query()?;
        let is_only_handle = lock.is_only_handle()?;
        let index = Index::open(&layout, driver, &database, &log, &lock, is_only_handle)?;
        let catalog = Catalog::new(layout, index, log);
        let unsynced = recover(&catalog, &lock, is_only_handle)?;
        locks.acquire_open(&lock)?;
        (catalog, unsynced)
    };
    // Now, so that readers can write accesses from the beginning, and defects are logged at the open.
    if let Err(error) = catalog.lock_reconciled(&locks, Exactness::Full)
        && !error.is_index_locked()
    {
        catalog.log.warning(|| format!("{error}; the index is compared with the directory before its next query"));
    }
    let cache = CacheInner {
        catalog,
        lock: locks,
        bounds: Bounds::new(max_size, floor),
        max_pinned,
        stall_time,
        durability,
        streaming,
        sparse,
        inspection,
        unsynced,
        streams: Streams::default(),
        unwritten_accesses: LogOnce::default(),
        unset_access_times: LogOnce::default(),
    };
    match cache.choose_limit_mode(limit_mode, has_max_size) {
        Err(error) if limit_mode.is_none() => cache.log().warning(|| error.to_string()),
        chosen => chosen?,
    }
    if limit_mode == Some(LimitMode::Hard) {
        reserve::keep_limit(&cache);
    }
    Ok(cache)
}

impl Drop for CacheInner {
    fn drop(&mut self) {
        if let Err(error) = close(self) {
            self.log().error(|| format!("closing the cache: {error}"));
        }
    }
}

/// The part of a close that may wait: syncs the images that were published without a sync, those of dead processes included, and
/// flushes accesses. From now on accesses are written through.
pub(crate) fn prepare_close(cache: &CacheInner) {
    withdraw_all(cache, cache.unsynced.sync(cache.layout(), cache.log()));
    withdraw_all(cache, cache.unsynced.settle(cache.layout(), &cache.lock, cache.log()));
    flush_at_close(cache);
    flush_counters(cache);
}

/// Adds to the statistics what was counted. Does nothing for a handle that may not write.
fn flush_counters(cache: &CacheInner) {
    if !cache.counters().is_empty()
        && let Ok(lock) = cache.lock.acquire()
    {
        cache.counters().flush(cache.layout(), &lock, cache.log());
    }
}

/// Ends the last handle of this state, and closes the driver. A reader that outlives the cache's own handle waits for nobody here.
fn close(cache: &CacheInner) -> Result<()> {
    // The cache's own handle was closed before.
    if cache.index().pending.is_written_through() && !cache.unsynced.has_published() {
        let closed = match cache.lock.try_acquire()? {
            Some(lock) => {
                // The close of a reader may have found the lock taken.
                if cache.catalog.currency(&lock)? != Currency::InDoubt {
                    cache.catalog.flush(&lock);
                }
                cache.counters().flush(cache.layout(), &lock, cache.log());
                close_driver(cache, &lock)
            }
            // Dropping the driver closes it, and the next open compares the index.
            None => Ok(()),
        };
        cache.lock.release_open();
        return closed;
    }
    prepare_close(cache);
    let lock = cache.lock.acquire_to_query()?;
    let closed = close_driver(cache, &lock);
    cache.lock.release_open();
    closed
}

fn close_driver(cache: &CacheInner, lock: &CacheLockGuard<'_>) -> Result<()> {
    // A change that another handle could not enter in the index is left to the next open.
    let is_current = cache.catalog.currency(lock) == Ok(Currency::Current);
    let is_last = cache.index().reconciled().is_some() && lock.is_only_handle().unwrap_or(false);
    let closed = cache.index().close(lock, cache.log(), is_last);
    if closed.is_ok()
        && is_current
        && is_last
        && let Some(index) = cache.index().reconciled()
    {
        index.note_closed(lock);
    }
    closed
}
