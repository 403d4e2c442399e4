//! Repairs at the open of a cache: what a crash, a restart of the host or another program left.

use crate::cache::catalog::Catalog;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::unsynced;

/// Repairs the cache. The first handle, which has no other beside it (`is_only_handle`), repairs more. True when images may be
/// torn, and could not be removed.
pub(crate) fn recover(catalog: &Catalog, lock: &CacheLockGuard<'_>, is_only_handle: bool) -> Result<bool> {
    let Catalog { layout, log, .. } = catalog;
    let has_suspects = unsynced::drop_unsynced(layout, log, lock, is_only_handle)?;
    if is_only_handle {
        dequeue_cached(catalog, lock)?;
    }
    Ok(has_suspects)
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
