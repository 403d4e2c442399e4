//! An image whose file has another length than at its commit: another program truncated it, or appended to it. It is not served.
//!
//! The first call that meets it moves it to `invalid/`. A reader does that only if the cache lock is free, and only if this process may.
//! Else it finds no image, and the file stays for the next call. An image that is not cached any more is fetched again.

use std::fs::File;

use crate::cache::inner::CacheInner;
use crate::cache::remove::withdraw_damaged;
use crate::error::Result;
use crate::store::committed;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::sys::stat::FileStat;

/// Whether a file that was opened to be read has another length than at its commit. Never waits.
pub(crate) fn is_resized(cache: &CacheInner, id: &ImageId, file: &File, stat: &FileStat) -> bool {
    let Some(size) = committed::if_other(file, stat) else { return false };
    let moved = cache.lock.try_acquire().and_then(|lock| match lock {
        Some(lock) => withdraw_damaged(cache, &lock, id, (file, stat), &why(size, stat.size)),
        None => Ok(false),
    });
    if let Err(error) = moved {
        cache.log().warning(|| format!("{error}; image '{id}' is not served: {}", why(size, stat.size)));
    }
    true
}

/// Moves a cached image with this status to `invalid/` if it has another length than at its commit; true then.
pub(crate) fn withdraw_resized(
    cache: &CacheInner,
    lock: &CacheLockGuard<'_>,
    id: &ImageId,
    stat: &FileStat,
) -> Result<bool> {
    if committed::has_its_digits(stat) {
        return Ok(false);
    }
    let Ok(Some((file, stat))) = cache.layout().open_file(Area::Cached, id) else { return Ok(false) };
    match committed::if_other(&file, &stat) {
        Some(size) => withdraw_damaged(cache, lock, id, (&file, &stat), &why(size, stat.size)),
        None => Ok(false),
    }
}

/// The reason, with both lengths in bytes.
pub(crate) fn why(size: u64, present: u64) -> String {
    format!("it had {size} bytes at its commit, and has {present} now")
}
