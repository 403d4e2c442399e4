//! Repairs at the open of a cache: what a crash, a restart of the host or another program left.

use crate::cache::catalog::Catalog;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::DirectoryStamp;
use crate::store::unsynced::{self, Suspects};
use crate::sys::time::Timestamp;

/// Repairs the cache. `modified` is the directory's mtime before the driver created files of its own. The first handle, which has
/// no other beside it (`is_only_handle`), repairs more. Returns which images may be torn, and could not be removed.
pub(crate) fn recover(
    catalog: &Catalog,
    lock: &CacheLockGuard<'_>,
    modified: Timestamp,
    is_only_handle: bool,
) -> Result<Suspects> {
    let Catalog { layout, index, log } = catalog;
    let index = index.reconciled();
    let (index, was_current) = match index.map_or(Ok(true), |index| index.is_current(lock, modified)) {
        // It is rebuilt before its next query.
        Err(error) if error.is_index_locked() => (None, false),
        was_current => (index, was_current?),
    };
    let dropped = unsynced::drop_unsynced(layout, log, lock, is_only_handle)?;
    if let Some(index) = index {
        if !was_current || dropped.images > 0 {
            catalog.rebuild(lock, index)?;
        } else if catalog.directory().modified()? != modified {
            let stamp = DirectoryStamp::begin(lock, catalog.directory())?.since(modified);
            if index.restamp(lock, &stamp)? {
                catalog.apply_stamp(lock, index, &stamp)?;
            }
        }
    }
    if is_only_handle {
        dequeue_cached(catalog, lock)?;
    }
    Ok(dropped.suspects)
}

/// Removes cached images from the queue, where a writer left them that died after it published.
fn dequeue_cached(Catalog { layout, log, .. }: &Catalog, lock: &CacheLockGuard<'_>) -> Result<()> {
    let mut skipped = SkippedErrors::new(log);
    for (id, _) in layout.images(Area::Queue)? {
        if skipped.note(layout.has(Area::Cached, &id)).unwrap_or(false) {
            skipped.note(layout.remove(lock, Area::Queue, &id));
        }
    }
    Ok(())
}
