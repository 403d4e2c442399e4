//! The lock file `.image_cache/lock`, as one handle has it open.
//!
//! A shared lock of a user who may only read would block every exclusive lock. So the file never has a mode that gives reading
//! without writing: 0600, or 0660 where the cache's directory is the group's to write, too, and the umask leaves that. The sticky
//! bit, which has no meaning for files, shows whether the file system keeps modes (see `writers`).
//!
//! Locks belong to open file descriptions, of which there are two. One has the locks that are held for a moment. The other has
//! those that are held for long, and which this handle, too, must be able to find.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::recognise::{LOCK_FILE, LOCK_PATH, OWN_SUBDIRECTORY};
use crate::sys::dir::Directory;
use crate::sys::file;
use crate::sys::lock::{LockKind, is_locked, try_lock, unlock};
use crate::sys::signals::without_size_signal;
use crate::sys::stat::{FileId, FileStat, STICKY};
use crate::sys::time::Timestamp;

/// How often the name is tried while others create and remove it.
const ATTEMPTS: usize = 8;

/// Where the lock file has a number for the index, in bytes. The entries of writers begin after it.
const NOTE: u64 = 16;

/// An open lock file.
#[derive(Debug)]
pub(super) struct LockFile {
    momentary: File,
    lasting: File,
    id: FileId,
    path: PathBuf,
    /// When the file was created, if the file system knows.
    pub born: Option<Timestamp>,
    /// Whether this handle created the file.
    pub is_new: bool,
    /// Whether the file system keeps the modes of files.
    pub keeps_modes: bool,
}

impl LockFile {
    /// Opens the lock file of a cache's directory, and creates it if it is missing.
    pub fn of(directory: &Directory) -> Result<Self> {
        let path = Self::path_in(directory);
        for _ in 0..ATTEMPTS {
            let (own, _) = directory.open_or_create(OWN_SUBDIRECTORY)?;
            let Some((momentary, is_new)) = open_or_create(&own, directory.is_shared())? else { continue };
            let Some(lasting) = own.open_to_write(OsStr::new(LOCK_FILE))? else { continue };
            let stat = FileStat::of(&momentary, || path.clone())?;
            if !stat.is_regular {
                let why = "it is no regular file; remove it".to_owned();
                return Err(Error::Damaged { operation: "open the lock file", path, why });
            }
            if is_readable_only(&stat) {
                // Another program replaced it. Only the owner may set the mode.
                let _ = file::set_mode(&momentary, || path.clone(), STICKY | 0o600);
            }
            if FileStat::of(&lasting, || path.clone())?.id == stat.id {
                let keeps_modes = stat.is_sticky();
                let born = file::birth(&momentary);
                return Ok(Self { momentary, lasting, id: stat.id, path, born, is_new, keeps_modes });
            }
        }
        Err(Error::would_block("open the lock file", &path))
    }

    pub fn path_in(directory: &Directory) -> PathBuf {
        directory.path_of(OsStr::new(LOCK_PATH))
    }

    /// For messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the name still is this file's.
    pub fn has_its_name(&self, directory: &Directory) -> Result<bool> {
        match directory.stat(OsStr::new(LOCK_PATH)) {
            Ok(stat) => Ok(stat.is_some_and(|stat| stat.id == self.id)),
            // Something else has the subdirectory's name. Opening it reports that.
            Err(error) if error.is_not_a_directory() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tries to take a lock that is held for a moment.
    pub fn try_lock(&self, byte: u64, kind: LockKind) -> Result<bool> {
        try_lock(&self.momentary, byte, kind).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    pub fn unlock(&self, byte: u64) {
        unlock(&self.momentary, byte);
    }

    /// Tries to take a lock that is held for long, or changes its kind.
    pub fn try_hold(&self, byte: u64, kind: LockKind) -> Result<bool> {
        try_lock(&self.lasting, byte, kind).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    pub fn release(&self, byte: u64) {
        unlock(&self.lasting, byte);
    }

    /// Whether a handle, this one or another, holds an exclusive lasting lock on the byte.
    pub fn is_locked(&self, byte: u64) -> Result<bool> {
        is_locked(&self.momentary, byte).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    /// The content, up to a length in bytes.
    pub fn content(&self, length: usize) -> Result<Vec<u8>> {
        // Most caches have few writers at a time.
        const STEP: usize = 512;
        let mut content = Vec::new();
        while content.len() < length {
            let filled = content.len();
            content.resize((filled + STEP).min(length), 0);
            let count = file::read_at(&self.momentary, || self.path.clone(), filled as u64, &mut content[filled..])?;
            content.truncate(filled + count);
            if count == 0 {
                break;
            }
        }
        Ok(content)
    }

    /// The number at the offset of [`NOTE`]; `None` when there is none.
    pub fn note(&self) -> Option<u64> {
        let mut bytes = [0; 8];
        let length = file::read_at(&self.momentary, PathBuf::new, NOTE, &mut bytes).ok()?;
        (length == bytes.len()).then(|| u64::from_le_bytes(bytes))
    }

    /// Writes that number.
    pub fn set_note(&self, note: u64) -> Result<()> {
        self.write(NOTE, &note.to_le_bytes())
    }

    /// Writes content.
    pub fn write(&self, offset: u64, content: &[u8]) -> Result<()> {
        without_size_signal(|| file::write_at(&self.momentary, || self.path.clone(), offset, content))
    }
}

/// Whether users who may not write the file may read it.
fn is_readable_only(stat: &FileStat) -> bool {
    let (readable, writable) = (stat.permissions & 0o044, stat.permissions & 0o022);
    readable & !(writable << 1) != 0
}

/// The file, and whether it is new. `None` when the name changed meanwhile.
fn open_or_create(own: &Directory, is_shared: bool) -> Result<Option<(File, bool)>> {
    let name = OsStr::new(LOCK_FILE);
    if let Some(file) = own.open_to_write(name)? {
        return Ok(Some((file, false)));
    }
    Ok(own.create_private(name, true, is_shared)?.map(|file| (file, true)))
}
