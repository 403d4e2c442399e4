//! Repairs the leftovers of a crash, a restart of the host or another program, at the open of a cache.

use crate::cache::catalog::Catalog;
use crate::error::Result;
use crate::log::SkippedErrors;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::store::unsynced::{self, Unsynced};

/// Repairs the cache. The only handle of a directory (`is_only_handle`) repairs more. The result shows whether there are
/// images that may be torn, and could not be removed.
pub(crate) fn recover(catalog: &Catalog, lock: &CacheLockGuard<'_>, is_only_handle: bool) -> Result<Unsynced> {
    let Catalog { layout, log, .. } = catalog;
    let unsynced = Unsynced::new(unsynced::drop_unsynced(layout, log, lock, is_only_handle)?);
    if is_only_handle {
        dequeue_cached(catalog, &unsynced, lock)?;
    }
    Ok(unsynced)
}

/// Removes cached images from the queue: a writer that died after its publish left them there.
fn dequeue_cached(catalog: &Catalog, unsynced: &Unsynced, lock: &CacheLockGuard<'_>) -> Result<()> {
    let Catalog { layout, log, .. } = catalog;
    let mut skipped = SkippedErrors::new(log);
    for (id, _) in layout.images(Area::Queue)? {
        let is_cached = if unsynced.has_suspects() {
            let opened = layout.open_file(Area::Cached, &id);
            opened
                .and_then(|opened| opened.map_or(Ok(false), |(file, _)| Ok(!unsynced.is_suspect(layout, &file, &id)?)))
        } else {
            layout.has(Area::Cached, &id)
        };
        if skipped.note(is_cached).unwrap_or(false) {
            skipped.note(layout.remove(lock, Area::Queue, &id));
        }
    }
    Ok(())
}
