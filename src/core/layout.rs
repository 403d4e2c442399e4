//! The directories of a cache and the moves between them. The only place that knows paths.
//!
//! ```text
//! <directory>/<image id>              cached: the image's bytes, nothing else
//! <directory>/incomplete/<image id>   being cached
//! <directory>/invalid/<image id>      a fetch that failed, kept for a look until the next clean
//! <directory>/queue/<image id>        empty; the queue's order is the files' modification time
//! <directory>/cache.db                the SQLite driver's index
//! ```
//!
//! This is Glance's layout (`glance/image_cache`). A name that is no image's is never touched, and neither is anything
//! that is no regular file.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, futimens, mkdirat};
use rustix::io::Errno;

use crate::core::image_id::{DATABASE_SUFFIXES, ImageId, ReservedNames};
use crate::core::options::DEFAULT_DATABASE;
use crate::error::{Error, Result};
use crate::system::directory::{Directory, Facts};
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

/// The folders in the cache's directory: `incomplete`, `invalid` and `queue`.
pub(crate) const FOLDERS: [&str; 3] = ["incomplete", "invalid", "queue"];

/// So many bytes are freed within microseconds.
const SMALL: u64 = 1 << 20;

/// One of the four directories; the state of an image is which of them has its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cached,
    Incomplete,
    Invalid,
    Queue,
}

/// What stands under an image's name in one of the directories.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing {
    Nothing,
    Image(Facts),
    /// A directory, symbolic link, fifo, socket or device: not ours, never followed, never removed.
    Other,
}

impl Standing {
    /// The facts, if it is an image's file.
    pub fn image(self) -> Option<Facts> {
        if let Self::Image(facts) = self { Some(facts) } else { None }
    }
}

/// A file without a name. Its bytes are freed when this is dropped.
#[derive(Debug)]
pub(crate) struct Removed {
    /// How many bytes it has.
    pub size: u64,
    _kept: Option<OwnedFd>,
}

/// The open directories of a cache. Methods that move or remove what other processes look at take the proof that the
/// gate is held, so that looking at a name and acting on it are one step for all who keep to the gate.
#[derive(Debug)]
pub(crate) struct Layout {
    cached: Directory,
    incomplete: Directory,
    invalid: Directory,
    queue: Directory,
    reserved: ReservedNames,
    database: PathBuf,
}

impl Layout {
    /// Opens a cache's directory, creating it and its folders (but not its parent) when they are not there.
    pub fn open(path: &Path, database: &OsStr) -> Result<Self> {
        let created = match mkdirat(CWD, path, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            // A file system mounted read-only says so even where the directory exists.
            Err(Errno::ROFS) if path.exists() => false,
            Err(errno) => return Err(Error::system("create the directory", path, errno)),
        };
        // From here on the path is absolute and free of symbolic links: the process may change its working directory,
        // and SQLite, which opens by path, is told to follow none.
        let path = path.canonicalize().map_err(|error| Error::from_io("open the directory", path, &error))?;
        let cached = Directory::open(&path)?;
        let reserved = ReservedNames::new(&FOLDERS, &[database, OsStr::new(DEFAULT_DATABASE)]);
        check_is_a_caches(&cached, &reserved)?;
        let [(incomplete, new_incomplete), (invalid, new_invalid), (queue, new_queue)] = [
            cached.open_or_create(FOLDERS[0])?,
            cached.open_or_create(FOLDERS[1])?,
            cached.open_or_create(FOLDERS[2])?,
        ];
        if new_incomplete || new_invalid || new_queue {
            cached.sync()?;
        }
        if created && let Some(parent) = path.parent() {
            Directory::open(parent)?.sync()?;
        }
        Ok(Self { cached, incomplete, invalid, queue, reserved, database: path.join(database) })
    }

    /// Validates an image id.
    pub fn image_id(&self, text: &str) -> Result<ImageId> {
        self.reserved.image_id(text)
    }

    /// The index's file: absolute, without symbolic links on the way.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Creates the index's file, empty, where there is none, with the mode that the process's other files have: SQLite's own is
    /// for nobody else to write. Its journals take the mode over. Should this fail, SQLite tries, and says why it cannot.
    pub fn create_database(&self) {
        if let Some(name) = self.database.file_name() {
            // A file that was not there before: closing it lets go of no lock that this process has on it.
            drop(self.cached.create(name));
        }
    }

    pub fn directory(&self, place: Place) -> &Directory {
        match place {
            Place::Cached => &self.cached,
            Place::Incomplete => &self.incomplete,
            Place::Invalid => &self.invalid,
            Place::Queue => &self.queue,
        }
    }

    /// The path of an image's file, for messages.
    pub fn path(&self, place: Place, id: &ImageId) -> PathBuf {
        self.directory(place).path_of(id.as_file_name())
    }

    /// What stands under the image's name.
    pub fn examine(&self, place: Place, id: &ImageId) -> Result<Standing> {
        Ok(match self.directory(place).examine(id.as_file_name())? {
            None => Standing::Nothing,
            Some(facts) if facts.is_regular => Standing::Image(facts),
            Some(_) => Standing::Other,
        })
    }

    /// Whether the image's file is there.
    pub fn has(&self, place: Place, id: &ImageId) -> Result<bool> {
        Ok(self.examine(place, id)?.image().is_some())
    }

    /// Opens the image's file for reading; `None` when there is none.
    pub fn open_file(&self, place: Place, id: &ImageId) -> Result<Option<(File, Facts)>> {
        let Some(file) = self.directory(place).open_file(id.as_file_name())? else { return Ok(None) };
        let facts = Facts::of(&file, &self.path(place, id))?;
        Ok(facts.is_regular.then_some((file, facts)))
    }

    /// Every image in a directory, in no order. One that comes or goes meanwhile may be among them or not; what is no
    /// image's file is passed over. Fails when the names cannot be listed; one image that cannot be examined is no reason to
    /// do without the others.
    pub fn images(&self, place: Place) -> Result<impl Iterator<Item = (ImageId, Result<Facts>)> + '_> {
        let names = self.directory(place).names()?.collect::<Result<Vec<_>>>()?;
        Ok(names.into_iter().filter_map(move |name| {
            let id = self.reserved.image_id_of(&name)?;
            let facts = self.examine(place, &id).map(Standing::image).transpose()?;
            Some((id, facts))
        }))
    }

    /// The ids that files in a directory have, in no order, whatever kind of file it is.
    pub fn ids(&self, place: Place) -> Result<impl Iterator<Item = Result<ImageId>> + '_> {
        let names = self.directory(place).names()?;
        Ok(names.filter_map(|name| name.map(|name| self.reserved.image_id_of(&name)).transpose()))
    }

    /// One of the index's files, by what SQLite appends to its name.
    pub fn index_file(&self, suffix: &str) -> Result<Option<Facts>> {
        let mut name = self.database.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.cached.examine(&name)
    }

    /// Whether the index's files can be written, and created where they are not there.
    pub fn may_write_index(&self) -> Result<bool> {
        let name = self.database.file_name().unwrap_or_default();
        Ok(self.cached.is_writable(OsStr::new("."))? && self.cached.is_writable(name)?)
    }

    /// Empties the index's files, which no handle has open. Not the shared memory: whoever maps it all the same would die of it.
    pub fn empty_index_files(&self) -> Result<()> {
        for suffix in DATABASE_SUFFIXES.into_iter().filter(|suffix| *suffix != "-shm") {
            let mut name = self.database.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            self.cached.truncate(&name)?;
        }
        Ok(())
    }

    /// Sets the modification time of the index's file, which nothing has open.
    pub fn set_index_modified(&self, time: Timestamp) -> Result<()> {
        self.cached.set_modified_of(self.database.file_name().unwrap_or_default(), time)
    }

    /// Creates the image's incomplete file; `None` when something stands in its place.
    pub fn create_incomplete(&self, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<Option<File>> {
        self.incomplete.create(id.as_file_name())
    }

    /// Moves a finished file under its final name, where nothing may stand; false when something does.
    pub fn publish(&self, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<bool> {
        self.incomplete.move_to_free(id.as_file_name(), &self.cached)
    }

    /// Moves an image's file to `invalid/`, in place of what an earlier failure left there.
    pub fn invalidate(&self, _gate: &HostLockGuard<'_>, from: Place, id: &ImageId) -> Result<()> {
        self.directory(from).move_to(id.as_file_name(), &self.invalid)
    }

    /// Removes an image's file; false when there is none.
    pub fn remove(&self, gate: &HostLockGuard<'_>, place: Place, id: &ImageId) -> Result<bool> {
        Ok(self.take_away(gate, place, id)?.is_some())
    }

    /// Removes an image's file, and hands out what keeps its bytes on the disk: the file system frees them, which takes long for
    /// many, when that is dropped, best after the gate. Those of a small file are freed at once, which is faster.
    pub fn take_away(&self, _gate: &HostLockGuard<'_>, place: Place, id: &ImageId) -> Result<Option<Removed>> {
        let Some(facts) = self.examine(place, id)?.image() else { return Ok(None) };
        let directory = self.directory(place);
        let kept = if facts.size > SMALL { directory.hold(id.as_file_name())? } else { None };
        Ok(directory.remove(id.as_file_name())?.then_some(Removed { size: facts.size, _kept: kept }))
    }

    /// Puts an image at the end of the queue; false when it is in the queue already.
    pub fn enqueue(&self, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<bool> {
        let Some(file) = self.queue.create(id.as_file_name())? else { return Ok(false) };
        // The kernel's own time stamp can be the same for files created within a few milliseconds.
        futimens(&file, &Timestamp::now().as_modification_time())
            .map_err(|errno| Error::system("set the time of", &self.path(Place::Queue, id), errno))?;
        Ok(true)
    }

    /// The error for a name that something other than an image's file has.
    pub fn occupied(&self, place: Place, id: &ImageId) -> Error {
        Error::system("create", &self.path(place, id), Errno::EXIST)
    }

    /// Makes durable what was published.
    pub fn sync_published(&self) -> Result<()> {
        self.cached.sync()?;
        self.incomplete.sync()
    }
}

/// A directory of files that has none of a cache's folders was named by mistake: as a cache it would be pruned.
fn check_is_a_caches(directory: &Directory, reserved: &ReservedNames) -> Result<()> {
    let has_folder =
        || FOLDERS.iter().try_fold(false, |has, name| Ok(has || directory.examine(name.as_ref())?.is_some()));
    if has_folder()? {
        return Ok(());
    }
    for name in directory.names()? {
        let name = name?;
        let would_be_an_image =
            reserved.image_id_of(&name).is_some() && directory.examine(&name)?.is_some_and(|facts| facts.is_regular);
        // Looked at once more: another process may have opened a new cache meanwhile, and cached an image.
        if would_be_an_image && !has_folder()? {
            return Err(Error::InvalidArgument(format!(
                "'{}' is no cache's directory: it has files, such as '{}', and none of the folders {}. \
                 Each file would be taken for an image, and pruned",
                directory.path().display(),
                name.display(),
                FOLDERS.join(", ")
            )));
        }
    }
    Ok(())
}
