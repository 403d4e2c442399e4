//! How files are removed. With a hard limit, deleted files that are still open stay in sight, since they take up room on the disk:
//! in `.image_cache/deleted/<inode>`.
//!
//! # Protocol
//!
//! 1. Under the cache lock: a removal moves the file here if anybody has it open, or if it is large: to free its bytes takes longer than
//!    the cache lock may be held. Else the removal frees them, before the lock is released.
//! 2. After the cache lock: its bytes are freed, and its name is removed, if nobody has it open (see `sys::lease`).
//! 3. Else by the reader of ours that closes it, by the next count of what is used, or by a clean. A kill in between leaves it to them.
//!
//! So no file takes up room without a name, except for a program that has it open only after step 2 began.
//!
//! Where it is unknown whether anybody has it open (another user's file without `CAP_LEASE`), it counts as unused, as for an eviction.
//!
//! A writer whose file is taken away must notice that. Before the move, the file loses the mark of an incomplete one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::sync::Arc;

use crate::error::Result;
use crate::store::image_id::ImageId;
use crate::store::kept_limit;
use crate::store::layout::{Area, Layout, SMALL};
use crate::store::lock::CacheLockGuard;
use crate::sys::dir::Directory;
use crate::sys::file;
use crate::sys::lease::{Lease, RemovedWhenUnused, Usage, remove_unused};
use crate::sys::stat::{FileStat, Removable, STICKY};

const NAME: &str = "deleted";
/// The path of the directory from the cache's.
pub(crate) const DELETED: &str = ".image_cache/deleted";

/// Removes an image's file from its directory; `None` when there is none. A large file's bytes are freed after the cache lock is
/// released.
pub(crate) fn remove(
    layout: &Layout,
    lock: &CacheLockGuard<'_>,
    area: Area,
    id: &ImageId,
) -> Result<Option<Removable>> {
    if area == Area::Queue || !keeps_deleted(layout) {
        return layout.remove(lock, area, id);
    }
    let Some(stat) = layout.stat(area, id)?.image() else { return Ok(None) };
    let (directory, name) = (layout.directory(area), id.as_file_name());
    let removed = Some(Removable { size: stat.size, allocated: stat.allocated });
    let is_kept = match Lease::take(directory, name) {
        Usage::InUse if area == Area::Incomplete => stat.allocated > 0 && unmark(directory, name, &stat),
        Usage::InUse => true,
        Usage::Unused(_) | Usage::Unknown => stat.size > SMALL,
        Usage::Missing => false,
    };
    if is_kept && let Ok(moved) = move_here(layout, directory, id, &stat) {
        lock.reap_afterwards(moved);
        return Ok(removed);
    }
    Ok(directory.remove(name)?.then_some(removed).flatten())
}

/// Removes an incomplete file whose bytes nobody needs any more, which the caller has open to write: frees them first.
pub(crate) fn remove_own(layout: &Layout, lock: &CacheLockGuard<'_>, id: &ImageId, file: &File) -> Result<()> {
    if keeps_deleted(layout) {
        file::truncate(file, || layout.path(Area::Incomplete, id))?;
    }
    layout.remove(lock, Area::Incomplete, id).map(drop)
}

/// Moves an image's file to `invalid/`, and replaces what an earlier failure left there.
pub(crate) fn invalidate(layout: &Layout, lock: &CacheLockGuard<'_>, from: Area, id: &ImageId) -> Result<()> {
    if keeps_deleted(layout) {
        remove(layout, lock, Area::Invalid, id)?;
    }
    layout.invalidate(lock, from, id)
}

/// Whether the directory has a hard limit now: another handle may have set or removed it. If that is unknown, it has one.
pub(super) fn keeps_deleted(layout: &Layout) -> bool {
    kept_limit::is_kept(layout).unwrap_or(true)
}

/// Removes the mark of an incomplete file. False if that is not permitted.
fn unmark(directory: &Directory, name: &OsStr, stat: &FileStat) -> bool {
    let opened = directory.open_file(name).ok().flatten();
    opened.is_some_and(|file| file::set_mode(&file, || directory.path_of(name), stat.permissions & !STICKY).is_ok())
}

/// Moves a file here whose lease the caller has, to be freed after the cache lock is released.
pub(super) fn move_unused(layout: &Layout, lock: &CacheLockGuard<'_>, id: &ImageId, stat: &FileStat) -> Result<()> {
    let moved = move_here(layout, layout.directory(Area::Cached), id, stat)?;
    lock.reap_afterwards(moved);
    Ok(())
}

fn move_here(layout: &Layout, from: &Directory, id: &ImageId, stat: &FileStat) -> Result<RemovedWhenUnused> {
    let directory = layout.create_own_subdirectory(NAME)?;
    let name = name_of(stat.id.inode);
    from.move_to(id.as_file_name(), &directory, &name)?;
    Ok(RemovedWhenUnused { directory, name })
}

/// No other file has the inode as long as this one exists.
fn name_of(inode: u64) -> OsString {
    inode.to_string().into()
}

/// What deleted files take up on the disk, in bytes; `None` if there are none.
pub(crate) fn count_deleted(layout: &Layout) -> Result<Option<u64>> {
    let Some(directory) = layout.own_subdirectory(NAME)? else { return Ok(None) };
    let mut allocated = None;
    for name in directory.names()? {
        if let Some(stat) = directory.stat(&name?)?.filter(|stat| stat.is_regular) {
            allocated = Some(allocated.unwrap_or(0) + stat.allocated);
        }
    }
    Ok(allocated)
}

/// Removes the deleted files that nobody has open any more: step 3, also after the directory's limit became soft. Not under the cache
/// lock: it takes long. Returns whether there were any.
pub(crate) fn reap(layout: &Layout) -> Result<bool> {
    let Some(directory) = layout.own_subdirectory(NAME)? else { return Ok(false) };
    let mut is_any = false;
    for name in directory.names()? {
        let name = name?;
        if directory.stat(&name)?.is_some_and(|stat| stat.is_regular) {
            is_any |= remove_unused(&directory, &name).unwrap_or(false);
        }
    }
    Ok(is_any)
}

/// Removes a deleted file after its reader has closed it. To be a field behind the reader's file.
#[derive(Debug)]
pub(crate) struct ReapAtClose {
    layout: Arc<Layout>,
    inode: u64,
}

impl ReapAtClose {
    pub fn new(layout: &Arc<Layout>, inode: u64) -> Self {
        Self { layout: Arc::clone(layout), inode }
    }
}

impl Drop for ReapAtClose {
    fn drop(&mut self) {
        if !self.layout.keeps_deleted() {
            return;
        }
        let name = name_of(self.inode);
        let path = [DELETED.as_ref(), name.as_os_str()].join("/".as_ref());
        let is_there = self.layout.directory(Area::Cached).stat(&path).is_ok_and(|stat| stat.is_some());
        if is_there && let Ok(Some(directory)) = self.layout.own_subdirectory(NAME) {
            drop(RemovedWhenUnused { directory, name });
        }
    }
}
