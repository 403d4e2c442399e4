//! The ledger of a cache with a hard limit: how many bytes the cached images take up on the disk, without a stat of each.
//!
//! `.image_cache/ledger` has the sum, and the stamp of the directory with which it agrees (see `stamp`). Each change of names brings it
//! from one stamp to the next, under the cache lock. A change by somebody else, a kill in between, or a power cut leaves another
//! stamp; then the images are counted again. So the ledger needs no sync, and no journal.
//!
//! What a published file takes up changes by some blocks: the file system splits and joins its extents, and moves attributes in and out
//! of the inode. So a removal does not always take away what the commit added, and the sum drifts. After changes of half of the
//! images, they are counted again, which costs each change two stats.
//!
//! A handle keeps the file open. If another program removes it, two handles may have different ones. The stamp shows which is
//! current.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::own_files;
use crate::store::recognise::OWN_SUBDIRECTORY;
use crate::store::stamp::{Stamp, StampChange};
use crate::sys::file;
use crate::sys::signals::without_size_signal;

const NAME: &str = "ledger";
const MAGIC: u64 = u64::from_le_bytes(*b"ledger02");
const LENGTH: usize = 40;

/// So many changes are followed in a cache of few images.
const FEWEST_CHANGES: u64 = 32;

/// Of so many images, one may change before they are counted again.
const IMAGES_PER_CHANGE: u64 = 2;

/// The cached images, as they were counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub images: u64,
    /// What they take up on the disk, in bytes.
    pub allocated: u64,
}

/// What a change of names adds and takes away.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Difference {
    /// How many images.
    pub images: u64,
    /// Bytes on the disk.
    pub added: u64,
    pub removed: u64,
}

/// What the file has.
#[derive(Debug, Clone, Copy)]
struct Entry {
    stamp: u64,
    allocated: u64,
    /// How many images may still change before they are counted again.
    changes: u64,
}

/// The ledger, as one handle has it open.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Option<Arc<File>>>);

impl Ledger {
    /// Opens the present ledger, and creates it if it is missing. From now on, this handle keeps it.
    pub fn open(&self, layout: &Layout, lock: &CacheLockGuard<'_>) -> Result<()> {
        lock.check_held()?;
        let (own, _) = layout.directory(Area::Cached).open_or_create(OWN_SUBDIRECTORY)?;
        let name = OsStr::new(NAME);
        let file = match own.open_to_write(name)? {
            Some(file) => Some(file),
            None => own.create_private(name, false, layout.shared_directory().is_shared())?,
        };
        *self.slot() = file.map(Arc::new);
        Ok(())
    }

    /// Fails where the file system cannot reserve room for a file.
    pub fn check_reservation(&self, layout: &Layout) -> Result<()> {
        let Some(file) = self.file() else { return Ok(()) };
        let path = || own_files::path(layout, NAME);
        file::reserve(&file, path, 0..LENGTH as u64).map_err(|error| match error {
            Error::System { .. } if error.is_unsupported() => Error::Unsupported(format!(
                "a hard limit needs a file system that can reserve room (fallocate), which this one cannot: '{}'",
                layout.directory(Area::Cached).path().display()
            )),
            error => error,
        })
    }

    /// Whether this handle keeps the ledger.
    pub fn is_kept(&self) -> bool {
        self.slot().is_some()
    }

    /// What the cached images take up on the disk, in bytes, if the ledger agrees with the directory that has this stamp.
    pub fn allocated(&self, lock: &CacheLockGuard<'_>, stamp: Stamp) -> Option<u64> {
        self.entry(lock, stamp).map(|entry| entry.allocated)
    }

    /// Stores what was counted while the directory had this stamp.
    pub fn set(&self, lock: &CacheLockGuard<'_>, stamp: Stamp, counted: Counted) -> Result<()> {
        let changes = FEWEST_CHANGES.max(counted.images / IMAGES_PER_CHANGE);
        self.store(lock, Entry { stamp: stamp.as_number(), allocated: counted.allocated, changes })
    }

    /// From now on, it agrees with no directory.
    pub fn forget(&self, lock: &CacheLockGuard<'_>) -> Result<()> {
        self.write(lock, &[0; LENGTH])
    }

    /// Follows a change of names, if the ledger agreed with the directory before it, and has not followed too many.
    pub fn follow(&self, lock: &CacheLockGuard<'_>, change: &StampChange, difference: Difference) -> Result<()> {
        let (Some(after), Some(entry)) = (change.after, self.entry(lock, change.before)) else { return Ok(()) };
        let Some(changes) = entry.changes.checked_sub(difference.images) else { return Ok(()) };
        let allocated = entry.allocated.saturating_add(difference.added).saturating_sub(difference.removed);
        self.store(lock, Entry { stamp: after.as_number(), allocated, changes })
    }

    fn entry(&self, _lock: &CacheLockGuard<'_>, present: Stamp) -> Option<Entry> {
        let file = self.file()?;
        let mut bytes = [0; LENGTH];
        let length = file::read_at(&file, PathBuf::new, 0, &mut bytes).ok()?;
        let mut numbers = [0; LENGTH / 8];
        for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        let [magic, stamp, allocated, changes, check] = numbers;
        let entry = Entry { stamp, allocated, changes };
        let is_whole = length == LENGTH && magic == MAGIC && check == entry.check();
        (is_whole && stamp == present.as_number()).then_some(entry)
    }

    fn store(&self, lock: &CacheLockGuard<'_>, entry: Entry) -> Result<()> {
        let mut bytes = [0; LENGTH];
        let Entry { stamp, allocated, changes } = entry;
        for (place, number) in bytes.chunks_exact_mut(8).zip([MAGIC, stamp, allocated, changes, entry.check()]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.write(lock, &bytes)
    }

    fn write(&self, lock: &CacheLockGuard<'_>, bytes: &[u8]) -> Result<()> {
        lock.check_held()?;
        let Some(file) = self.file() else { return Ok(()) };
        without_size_signal(|| file::write_at(&file, || PathBuf::from(NAME), 0, bytes))
    }

    fn file(&self) -> Option<Arc<File>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<File>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Another version of the standard library may compute other numbers. Then the images are counted once.
    fn check(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (MAGIC, self.stamp, self.allocated, self.changes).hash(&mut hasher);
        hasher.finish()
    }
}
