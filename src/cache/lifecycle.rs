//! Opening and closing a cache's state.

use std::path::Path;
use std::sync::Arc;

use crate::cache::catalog::Catalog;
use crate::cache::inner::CacheInner;
use crate::cache::recovery::recover;
use crate::cache::remove::withdraw_all;
use crate::error::Result;
use crate::index::Index;
use crate::index::driver::{Flush, ReconciledIndex};
use crate::log::LogOnce;
use crate::options::Options;
use crate::store::layout::{Area, Layout};
use crate::store::lock::{CacheLockGuard, Locks};
use crate::store::stamp::DirectoryStamp;
use crate::store::unsynced::Unsynced;

/// Opens a cache: creates what is missing, repairs what a crash left, and takes the open-handle lock.
pub(crate) fn open(path: &Path, options: Options) -> Result<CacheInner> {
    let Options { driver, max_size, stall_time, database, durability, streaming, log } = options;
    let layout = Arc::new(Layout::open(path, Index::reserved_names(&database))?);
    let locks = Locks::new(layout.shared_directory());
    let (catalog, suspects) = {
        let lock = locks.acquire_to_query()?;
        // Before the driver is opened: SQLite creates files in the directory.
        let modified = layout.directory(Area::Cached).modified()?;
        let is_only_handle = lock.is_only_handle()?;
        let index = Index::open(&layout, driver, &database, &log, &lock, is_only_handle)?;
        let catalog = Catalog { layout, index, log };
        let suspects = recover(&catalog, &lock, modified, is_only_handle)?;
        locks.acquire_open(&lock)?;
        (catalog, suspects)
    };
    Ok(CacheInner {
        catalog,
        lock: locks,
        max_size,
        stall_time,
        durability,
        streaming,
        unsynced: Unsynced::new(suspects),
        unwritten_accesses: LogOnce::default(),
        unset_access_times: LogOnce::default(),
    })
}

impl Drop for CacheInner {
    fn drop(&mut self) {
        if let Err(error) = close(self) {
            self.log().error(|| format!("closing the cache: {error}"));
        }
    }
}

/// Ends the last handle of this state. Syncs what was published without a sync, flushes accesses, and closes the driver.
fn close(cache: &CacheInner) -> Result<()> {
    withdraw_all(cache, cache.unsynced.sync(cache.layout(), cache.log()));
    let lock = cache.lock.acquire_to_query()?;
    if cache.index().can_flush()
        && let Err(error) = cache.catalog.reconcile(&lock)
    {
        cache.log().warning(|| format!("{error}; the index is rebuilt before its next query"));
    }
    let closed = match cache.index().reconciled() {
        Some(index) => close_index(cache, &lock, index),
        None => cache.index().close(&lock, Flush::Final, cache.log()),
    };
    cache.lock.release_open();
    closed
}

/// Closes an index. SQLite may remove files of its own with its last connection, so the only handle stamps the directory again
/// afterwards.
fn close_index(cache: &CacheInner, lock: &CacheLockGuard<'_>, index: &dyn ReconciledIndex) -> Result<()> {
    let directory = cache.catalog.directory();
    let restamped = restamp_if_only_handle(cache, lock, index);
    let stamp = restamped.as_ref().ok().and_then(Option::as_ref);
    // The close takes a while, and what other programs do meanwhile must not be stamped. After this preparation, it only removes
    // SQLite's two files.
    let is_undisturbed = stamp.is_some_and(|stamp| {
        let _ = cache.index().flush(lock, Flush::Quick);
        index.prepare_close(lock);
        stamp.is_undisturbed(directory).unwrap_or(false)
    });
    // The only handle has already waited for other programs, when it restamped.
    let flush = if stamp.is_some() { Flush::Quick } else { Flush::Final };
    let closed = cache.index().close(lock, flush, cache.log());
    let mut stamped = Ok(());
    if let Some(stamp) = stamp
        && closed.is_ok()
    {
        index.mark_closed(lock, stamp);
        if is_undisturbed {
            // Only the directory's owner may. After others, the next open compares all files.
            stamped = directory
                .set_modified(stamp.after)
                .or_else(|error| if error.is_not_permitted() { Ok(()) } else { Err(error) });
        }
    }
    closed.and(restamped.map(drop)).and(stamped)
}

/// Stores a new stamp in an index that no other handle uses. `None` when there is another handle, or the index is not current.
fn restamp_if_only_handle(
    cache: &CacheInner,
    lock: &CacheLockGuard<'_>,
    index: &dyn ReconciledIndex,
) -> Result<Option<DirectoryStamp>> {
    let stamp = DirectoryStamp::begin(lock, cache.catalog.directory())?;
    Ok((lock.is_only_handle()? && index.restamp(lock, &stamp)?).then_some(stamp))
}
