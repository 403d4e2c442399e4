//! Waiting until the bytes of evicted images are free.
//!
//! XFS frees the blocks of removed files in background, btrfs when it commits a transaction, and ext4 may count blocks twice until dirty
//! pages are written. Without the wait, further images would be evicted in vain, or room would be missed that is about to be there.

use std::time::{Duration, Instant};

use crate::cache::inner::CacheInner;
use crate::error::Result;
use crate::store::layout::Area;
use crate::sys::lock::poll;
use crate::sys::mount::FileSystemSpace;

/// XFS takes a few milliseconds.
const BACKGROUND: Duration = Duration::from_millis(50);

/// The file system's space, after an eviction that should have freed enough. If that shows nowhere, the file system is synced once.
pub(crate) fn wait_until_free(
    cache: &CacheInner,
    is_enough: impl Fn(&FileSystemSpace) -> bool,
) -> Result<FileSystemSpace> {
    let space = || cache.layout().space();
    let freed = || poll(Instant::now() + BACKGROUND, || space().map(|space| is_enough(&space).then_some(space)));
    if let Some(space) = freed()? {
        return Ok(space);
    }
    if let Err(error) = cache.layout().directory(Area::Cached).sync_file_system() {
        cache.log().warning(|| error.to_string());
    }
    freed()?.map_or_else(space, Ok)
}
