//! Images in use: who evicts leaves an image that anybody has open.
//!
//! The kernel says whether anybody has (see `sys::lease`): a reader of this or another process or user, a mapping, qemu that opened the
//! image by its path, `cat`. So opening an image costs nothing more, and needs no right to write.
//!
//! # Protocol
//!
//! Under the cache lock, so that two handles do not see each other's leases:
//!
//! 1. Take a lease on the image's file. Without one, the image is in use.
//! 2. If somebody has tried to open the file since, it is in use as well. So an image is left also if this process was stopped after
//!    step 1 until the kernel took the lease away.
//! 3. Remove the name, or move a large file away (see `store::removal`). A reader that opens in between gets `EAGAIN`, tries again, and
//!    finds no file; another program waits for the lease, and has the file of a deleted image.
//! 4. Release the lease. An open that had found the name before step 3 may succeed now. Its reader sees that the file has lost the name,
//!    and looks again (`Layout::open_file`).
//!
//! A kill at any point ends the lease, and leaves the image or removes it. If this process is stopped between 2 and 4, no reader gets the
//! image for up to 45 s: it is not cached for them, and nobody waits. If a process is stopped exactly between 2 and 3 until the kernel has
//! taken the lease away, an image is removed that is in use; its readers keep its bytes.
//!
//! Where it is unknown (another user's image without `CAP_LEASE`, a file system without leases, no free descriptor), an image counts
//! as unused, unless another program has a lock on it.

use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout, SMALL};
use crate::store::lock::CacheLockGuard;
use crate::store::removal;
use crate::sys::lease::{Lease, Usage};
use crate::sys::stat::Removable;

/// The outcome of removing an image that nobody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnusedRemoval {
    Removed(Removable),
    /// It had no file.
    Missing,
    /// Somebody has it open.
    InUse,
}

/// Whether anybody has a cached image open, as far as this process can tell. Readers may open it at once after the call.
pub(crate) fn is_in_use(layout: &Layout, _lock: &CacheLockGuard<'_>, id: &ImageId) -> bool {
    matches!(Lease::take(layout.directory(Area::Cached), id.as_file_name()), Usage::InUse)
}

/// Removes a cached image, unless anybody has it open. A large file's bytes are freed after the cache lock is released.
pub(crate) fn remove_if_unused(layout: &Layout, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<UnusedRemoval> {
    let lease = match Lease::take(layout.directory(Area::Cached), id.as_file_name()) {
        Usage::Unused(lease) => lease,
        Usage::InUse => return Ok(UnusedRemoval::InUse),
        // A directory or the like is unknown, too. It is not removed.
        Usage::Unknown | Usage::Missing => {
            let removed = removal::remove(layout, lock, Area::Cached, id)?;
            return Ok(removed.map_or(UnusedRemoval::Missing, UnusedRemoval::Removed));
        }
    };
    let stat = lease.stat().map_err(|errno| Error::system("stat", &layout.path(Area::Cached, id), errno))?;
    if lease.is_broken() {
        return Ok(UnusedRemoval::InUse);
    }
    let removed = Removable { size: stat.size, allocated: stat.allocated };
    if stat.size > SMALL && removal::keeps_deleted(layout) && removal::move_unused(layout, lock, id, &stat).is_ok() {
        return Ok(UnusedRemoval::Removed(removed));
    }
    let is_removed = layout.directory(Area::Cached).remove(id.as_file_name())?;
    let file = lease.release();
    if !is_removed {
        return Ok(UnusedRemoval::Missing);
    }
    if let Some(file) = file
        && stat.size > SMALL
    {
        lock.free_afterwards(file);
    }
    Ok(UnusedRemoval::Removed(removed))
}
