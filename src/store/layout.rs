//! The directories of a cache and the moves between them. Only this file knows paths.
//!
//! ```text
//! <directory>/<image id>              cached: the image's bytes, nothing else
//! <directory>/incomplete/<image id>   being cached
//! <directory>/invalid/<image id>      a failed fetch, kept until the next clean
//! <directory>/queue/<image id>        empty; the queue is ordered by modification time
//! ```
//!
//! This is the layout of Glance (`glance/image_cache`). The driver's own files stand beside the images under reserved names.
//! Files with other names, and everything that is no regular file, are never touched.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::{ImageId, ReservedNames};
use crate::store::lock::CacheLockGuard;
use crate::store::recognise::{LOCK_PATH, OWN_SUBDIRECTORY, check_is_a_cache};
use crate::sys::dir::Directory;
use crate::sys::file;
use crate::sys::mount::{FileSystemSpace, check_is_movable, has_exact_times, is_overlay};
use crate::sys::stat::{FileStat, Removable, StatAndBirth};
use crate::sys::time::Timestamp;

/// The subdirectories of the cache's directory.
pub(crate) const SUBDIRECTORIES: [&str; 3] = ["incomplete", "invalid", "queue"];

/// The file system frees up to this many bytes within microseconds.
pub(super) const SMALL: u64 = 1 << 20;

/// How often an image is opened whose file is replaced each time.
const REOPENS: usize = 100;

/// One of the four directories. The area that holds an image's file is the image's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Cached,
    Incomplete,
    Invalid,
    Queue,
}

impl Area {
    /// The name of the subdirectory, if it is one.
    pub fn subdirectory(self) -> Option<&'static str> {
        let [incomplete, invalid, queue] = SUBDIRECTORIES;
        match self {
            Self::Cached => None,
            Self::Incomplete => Some(incomplete),
            Self::Invalid => Some(invalid),
            Self::Queue => Some(queue),
        }
    }
}

/// The open directories of a cache.
///
/// Methods that add, move or remove names take the cache lock's guard. A stat and a change of a name under one guard are one atomic
/// step for all processes that respect the lock.
#[derive(Debug)]
pub(crate) struct Layout {
    cached: Arc<Directory>,
    incomplete: Directory,
    invalid: Directory,
    queue: Directory,
    reserved: ReservedNames,
    /// See [`Self::may_set_metadata`].
    is_overlay: bool,
    /// See [`Self::has_exact_times`].
    has_exact_times: bool,
    keeps_deleted: AtomicBool,
}

impl Layout {
    /// Opens a cache's directory. Creates it and its subdirectories if they are missing, but not its parent. `reserved` are the
    /// names of the driver's own files.
    pub fn open(path: &Path, reserved: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let created = Directory::create_at(path)?;
        // From here on the path is absolute and without symbolic links: the process may change its working directory, and SQLite
        // opens by path and follows no link.
        let path = path.canonicalize().map_err(|error| Error::from_io("open the directory", path, &error))?;
        let cached = Directory::open(&path)?;
        let reserved = ReservedNames::new(SUBDIRECTORIES.into_iter().map(OsString::from).chain(reserved));
        check_is_a_cache(&cached, &SUBDIRECTORIES, &reserved)?;
        let [(incomplete, new_incomplete), (invalid, new_invalid), (queue, new_queue)] = [
            cached.open_or_create(SUBDIRECTORIES[0])?,
            cached.open_or_create(SUBDIRECTORIES[1])?,
            cached.open_or_create(SUBDIRECTORIES[2])?,
        ];
        for subdirectory in [&incomplete, &invalid, &queue] {
            check_is_movable(subdirectory, &cached)?;
        }
        if new_incomplete || new_invalid || new_queue {
            cached.sync()?;
        }
        if created && let Some(parent) = path.parent() {
            Directory::open(parent)?.sync()?;
        }
        let is_overlay = is_overlay(&cached);
        let has_exact_times = has_exact_times(&cached);
        let (cached, keeps_deleted) = (Arc::new(cached), AtomicBool::new(false));
        Ok(Self { cached, incomplete, invalid, queue, reserved, is_overlay, has_exact_times, keeps_deleted })
    }

    /// Validates an image id.
    pub fn image_id(&self, text: &str) -> Result<ImageId> {
        self.reserved.image_id(text)
    }

    /// The cache's directory, to be kept.
    pub fn shared_directory(&self) -> Arc<Directory> {
        Arc::clone(&self.cached)
    }

    pub fn directory(&self, area: Area) -> &Directory {
        match area {
            Area::Cached => &self.cached,
            Area::Incomplete => &self.incomplete,
            Area::Invalid => &self.invalid,
            Area::Queue => &self.queue,
        }
    }

    /// Whether a reader may set the times and attributes of an image's file. On overlayfs this would copy a lower layer's file.
    pub fn may_set_metadata(&self) -> bool {
        !self.is_overlay
    }

    /// Whether this process has the permission to take the cache's locks.
    pub fn may_lock(&self) -> bool {
        let is_writable = |name| self.cached.is_writable(OsStr::new(name)).unwrap_or(true);
        is_writable(LOCK_PATH) && is_writable(".")
    }

    /// Whether the file system is read-only, also since an error. Newer kernels then show neither a read-only mount nor other
    /// permissions: only opening a file to write fails. That is the lock file, whose locks survive the close of this descriptor.
    pub fn is_read_only(&self) -> bool {
        self.cached.open_to_write(OsStr::new(LOCK_PATH)).is_err_and(|error| error.is_read_only_file_system())
    }

    /// Opens the lock file again, with an open file description of its own; `None` when there is none. With its path, for messages.
    pub fn open_lock_file(&self) -> Result<Option<(File, PathBuf)>> {
        let name = OsStr::new(LOCK_PATH);
        Ok(self.cached.open_to_write(name)?.map(|file| (file, self.cached.path_of(name))))
    }

    /// Whether the directory's ctime shows each change of names.
    pub fn has_exact_times(&self) -> bool {
        self.has_exact_times
    }

    /// The path of an image's file, for messages.
    pub fn path(&self, area: Area, id: &ImageId) -> PathBuf {
        self.directory(area).path_of(id.as_file_name())
    }

    /// What has the image's name.
    pub fn stat(&self, area: Area, id: &ImageId) -> Result<DirEntry> {
        let directory = self.directory(area);
        let turns = directory.turns();
        let mut stat = directory.stat(id.as_file_name())?;
        // Another thread may follow meanwhile.
        if stat.is_none() && (self.follow(area)? || turns % 2 == 1 || directory.turns() != turns) {
            stat = directory.stat(id.as_file_name())?;
        }
        Ok(match stat {
            None => DirEntry::Missing,
            Some(stat) if stat.is_regular => DirEntry::Image(stat),
            Some(_) => DirEntry::Foreign,
        })
    }

    /// Whether the image's file exists.
    pub fn has(&self, area: Area, id: &ImageId) -> Result<bool> {
        Ok(self.stat(area, id)?.image().is_some())
    }

    /// Opens the image's file for reading; `None` when there is none. A file that was removed between the kernel's look at the name and its
    /// open is none: the evictor could not see that open.
    pub fn open_file(&self, area: Area, id: &ImageId) -> Result<Option<(File, FileStat)>> {
        for _ in 0..REOPENS {
            let Some(file) = self.directory(area).open_file(id.as_file_name())? else { return Ok(None) };
            let stat = FileStat::of(&file, || self.path(area, id))?;
            let may_have_moved = area == Area::Cached && self.keeps_deleted();
            if stat.is_regular && (stat.links == 0 || may_have_moved) {
                let named = self.stat(area, id)?.image();
                if named.is_none_or(|named| named.id != stat.id) {
                    continue;
                }
            }
            return Ok(stat.is_regular.then_some((file, stat)));
        }
        Ok(None)
    }

    /// Every image in a directory, in no order. Images that come or go meanwhile may or may not be included.
    ///
    /// Fails when the names cannot be listed. An image that cannot be stat'ed is included with its error.
    pub fn images(&self, area: Area) -> Result<impl Iterator<Item = (ImageId, Result<FileStat>)> + '_> {
        self.follow(area)?;
        let names = self.directory(area).all_names()?;
        Ok(names.into_iter().filter_map(move |name| {
            let id = self.reserved.image_id_of(&name)?;
            let stat = self.stat(area, &id).map(DirEntry::image).transpose()?;
            Some((id, stat))
        }))
    }

    /// The ids that names in a directory have, in no order, of files of any kind.
    pub fn ids(&self, area: Area) -> Result<impl Iterator<Item = Result<ImageId>> + use<'_>> {
        self.ids_in(self.directory(area))
    }

    /// Creates the image's incomplete file, with our mark (see `writers`). `None` when its name is taken.
    pub fn create_incomplete(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<Option<File>> {
        self.renewing(Area::Incomplete, || self.incomplete.create_marked(id.as_file_name()))
    }

    /// The image's incomplete file, with its time of birth.
    pub fn written(&self, id: &ImageId) -> Result<Option<StatAndBirth>> {
        let Some(stat) = self.stat(Area::Incomplete, id)?.image() else { return Ok(None) };
        Ok(Some(StatAndBirth { stat, born: self.incomplete.birth_of(id.as_file_name()) }))
    }

    /// Moves a finished file to its final name; false when that is taken.
    pub fn publish(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool> {
        self.incomplete.move_if_free(id.as_file_name(), &self.cached)
    }

    /// Moves an image's file to `invalid/`, and replaces what an earlier failure left there.
    pub fn invalidate(&self, lock: &CacheLockGuard<'_>, from: Area, id: &ImageId) -> Result<()> {
        let is_there = || self.stat(from, id).is_ok_and(|entry| entry.image().is_some());
        self.free_after_removal(lock, Area::Invalid, id)?;
        match self.directory(from).move_to(id.as_file_name(), &self.invalid, id.as_file_name()) {
            Err(error) if error.is_missing() && is_there() => {
                self.renew(Area::Invalid)?;
                self.directory(from).move_to(id.as_file_name(), &self.invalid, id.as_file_name())
            }
            moved => moved,
        }
    }

    /// A cached image that can be removed; `None` when it is not there. Fails when it cannot be removed.
    pub fn check_removable(&self, id: &ImageId) -> Result<Option<Removable>> {
        self.cached.check_removable(id.as_file_name())
    }

    /// What the file system has, and what is free of it.
    pub fn space(&self) -> Result<FileSystemSpace> {
        FileSystemSpace::of(&self.cached)
    }

    /// Removes an image's file, as `removal` says; `None` when there is none. A large file's bytes are freed after the cache lock is released.
    pub fn remove(&self, lock: &CacheLockGuard<'_>, area: Area, id: &ImageId) -> Result<Option<Removable>> {
        let Some(file) = self.free_after_removal(lock, area, id)? else { return Ok(None) };
        Ok(self.directory(area).remove(id.as_file_name())?.then_some(file))
    }

    /// Defers freeing the bytes of a removed or replaced file until the cache lock is released: freeing can take seconds.
    /// A small file's bytes are freed at once, which is faster. `None` when there is no such file.
    fn free_after_removal(&self, lock: &CacheLockGuard<'_>, area: Area, id: &ImageId) -> Result<Option<Removable>> {
        let Some(stat) = self.stat(area, id)?.image() else { return Ok(None) };
        if stat.size > SMALL
            && let Some(file) = self.directory(area).hold(id.as_file_name())?
        {
            lock.free_afterwards(file);
        }
        Ok(Some(Removable { size: stat.size, allocated: stat.allocated }))
    }

    /// Opens the image's incomplete file for reading and appending; `None` when there is none.
    pub fn open_incomplete(&self, id: &ImageId) -> Result<Option<File>> {
        self.incomplete.open_to_append(id.as_file_name())
    }

    /// A directory of ours for a part of the images; `None` when it was never created.
    pub fn own_subdirectory(&self, name: &str) -> Result<Option<Directory>> {
        let own = self.cached.open_subdirectory(OWN_SUBDIRECTORY)?;
        own.map_or(Ok(None), |own| own.open_subdirectory(name))
    }

    /// The same, created if necessary.
    pub fn create_own_subdirectory(&self, name: &str) -> Result<Directory> {
        let (own, _) = self.cached.open_or_create(OWN_SUBDIRECTORY)?;
        own.open_or_create(name).map(|(directory, _)| directory)
    }

    /// The images that have a file in a directory of ours.
    pub fn ids_in(&self, directory: &Directory) -> Result<impl Iterator<Item = Result<ImageId>> + use<'_>> {
        let names = directory.names()?;
        Ok(names.filter_map(|name| name.map(|name| self.reserved.image_id_of(&name)).transpose()))
    }

    /// Whether deleted files that are still open may be in sight (see `removal`), as far as this handle has seen.
    pub fn keeps_deleted(&self) -> bool {
        self.keeps_deleted.load(Ordering::Relaxed)
    }

    /// They stay in sight until they are closed, also without a hard limit.
    pub fn keep_deleted(&self) {
        self.keeps_deleted.store(true, Ordering::Relaxed);
    }

    /// Appends an image to the queue; false when it is queued already.
    pub fn enqueue(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool> {
        let created = self.renewing(Area::Queue, || self.queue.create(id.as_file_name()))?;
        let Some(created) = created else { return Ok(false) };
        // The kernel can give the same mtime to files that are created within a few milliseconds.
        file::set_modified(&created, || self.path(Area::Queue, id), Timestamp::now())?;
        Ok(true)
    }

    /// The error for an image's name that something other than a file has.
    pub fn occupied(&self, area: Area, id: &ImageId) -> Error {
        Error::exists("create", &self.path(area, id))
    }

    /// Makes published names durable.
    pub fn sync_published(&self) -> Result<()> {
        self.cached.sync()?;
        self.incomplete.sync()
    }

    /// Creates files in a subdirectory, and the subdirectory when it was removed.
    fn renewing<T>(&self, area: Area, create: impl Fn() -> Result<T>) -> Result<T> {
        match create() {
            Err(error) if error.is_missing() => {
                self.renew(area)?;
                create()
            }
            created => created,
        }
    }

    /// Opens a subdirectory that was removed again, and creates it if no other handle has.
    fn renew(&self, area: Area) -> Result<()> {
        let Some(name) = area.subdirectory() else { return Ok(()) };
        let (new, _) = self.cached.open_or_create(name)?;
        check_is_movable(&new, &self.cached)?;
        self.directory(area).turn_into(&new)
    }

    /// If a subdirectory was removed, and another handle created it again: opens that one. False when there is nothing to open.
    fn follow(&self, area: Area) -> Result<bool> {
        let Some(name) = area.subdirectory() else { return Ok(false) };
        if !self.directory(area).is_removed() {
            return Ok(false);
        }
        let Some(new) = self.cached.open_subdirectory(name)? else { return Ok(false) };
        check_is_movable(&new, &self.cached)?;
        self.directory(area).turn_into(&new).map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lock::Locks;

    /// How many descriptors of this process lead to a removed file below the directory.
    fn removed_files(directory: &Path) -> usize {
        let targets =
            std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| std::fs::read_link(entry.unwrap().path()));
        let is_removed = |path: &PathBuf| path.starts_with(directory) && path.to_string_lossy().ends_with("(deleted)");
        targets.filter(|target| target.as_ref().is_ok_and(is_removed)).count()
    }

    #[test]
    fn the_bytes_of_large_files_are_freed_after_the_cache_lock() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().canonicalize().unwrap().join("cache");
        let layout = Layout::open(&directory, []).unwrap();
        let id = layout.image_id("1").unwrap();
        let make = |area, size| {
            std::fs::File::create(layout.path(area, &id)).unwrap().set_len(size).unwrap();
        };
        make(Area::Cached, SMALL + 1);
        make(Area::Invalid, SMALL + 1);
        make(Area::Incomplete, SMALL);
        let sparse = |size| Removable { size, allocated: 0 };
        let lock = Locks::new(layout.shared_directory());
        {
            let lock = lock.acquire().unwrap();
            layout.invalidate(&lock, Area::Cached, &id).unwrap();
            assert_eq!(removed_files(&directory), 1, "the replaced file");
            assert_eq!(layout.remove(&lock, Area::Invalid, &id), Ok(Some(sparse(SMALL + 1))));
            assert_eq!(layout.remove(&lock, Area::Invalid, &id), Ok(None));
            assert_eq!(layout.remove(&lock, Area::Incomplete, &id), Ok(Some(sparse(SMALL))));
            assert_eq!(removed_files(&directory), 2, "a small file is not kept");
        }
        assert_eq!(removed_files(&directory), 0);
    }
}
