//! The metadata beside the files: hits, last use, totals, digests. A driver keeps it and knows nothing of an image's
//! states; it never creates, moves or removes an image's file.
//!
//! # The seal
//!
//! The directory is the truth, and an index beside it can be wrong: its writer was killed between the file and the row, a
//! power cut took its last transactions, the disk was full, another program (or a handle with another driver) added and
//! removed files. One mark tells of all of these: the modification time of the directory, which the kernel sets to the
//! present whenever a name in it is added, removed or renamed. Whoever changes a final name does this, under the gate:
//!
//! 1. Take the directory's time ([`Seal::begin`]), and choose another, which no other change had or will have: after a power
//!    cut, the directory may be what it was some changes ago, or the index, and neither may then look like the other.
//! 2. Move or remove the file ([`Seal::step`]). The kernel sets the directory's time.
//! 3. Follow suit in the index ([`Driver::record`], [`Driver::forget`]): if the index has the time of step 1, then nothing but
//!    this change happened since it was right, and in the same transaction it takes the chosen time.
//! 4. Give the directory the chosen time, unless another program changed a name meanwhile ([`Seal::is_undisturbed`]).
//!
//! Other programs' changes of the index itself take its time away (see the triggers of the SQLite driver). So the index is right
//! when it has the directory's time ([`Driver::is_current`]). Died, failed or cut anywhere in
//! between, the times differ, and stay different until [`Driver::rebuild`] has made the index agree with the directory.
//!
//! The last handle to close gives the index's file the chosen time as well ([`Driver::close`]). At the first open after it, a
//! file with another time was written to meanwhile, past all triggers perhaps: then the index is not right either.
//!
//! Where nothing may be written the times stay as they are, and an index in memory takes the directory's.

mod attributes;
mod listing;
pub(crate) mod scan;
mod seal;
mod sqlite;
pub(crate) mod uses;
mod xattr;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::options::{DriverChoice, Options};
use crate::error::{Error, Result};
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

pub use self::listing::Listing;
pub(crate) use self::seal::Seal;
pub(crate) use self::sqlite::SqliteDriver;
use self::uses::WaitingUses;
pub(crate) use self::xattr::XattrDriver;

/// The driver in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// A SQLite database.
    Sqlite,
    /// Extended attributes.
    Xattr,
}

/// A cached image as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedImage {
    /// Its id.
    pub image_id: String,
    /// Its length in bytes.
    pub size: u64,
    /// How often it was opened, read and closed.
    pub hits: u64,
    /// When it was opened last (or committed, if it never was): nanoseconds since the Unix epoch.
    pub last_accessed: i64,
    /// When it was committed: nanoseconds since the Unix epoch.
    pub last_modified: i64,
    /// The digest that was verified at commit, as `algorithm:hex`; the strongest one, if there were several.
    pub digest: Option<String>,
}

/// What is known of an image at the moment of its commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub size: u64,
    pub committed: Timestamp,
    /// The file's time of modification, as exact as the file system has it.
    pub modified: Timestamp,
    pub digest: Option<&'a str>,
}

/// How much is cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub images: u64,
    /// More than 64 bits: a sparse file can claim to have 2^63 - 1 bytes.
    pub bytes: u128,
}

/// An image that may be evicted.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub id: ImageId,
    pub size: u64,
}

/// The cached images as they were, least recently accessed first, each at most once.
pub(crate) trait EvictionOrder {
    /// How much they are, all together.
    fn totals(&self) -> Totals;

    /// The next ones, at most `count`; none at the end.
    fn next_batch(&mut self, gate: &HostLockGuard<'_>, count: usize) -> Result<Vec<Candidate>>;

    /// Why there are images that are not among them, if there are: the first that could not be examined.
    fn missed(&self) -> Option<Error>;
}

/// What a rebuild found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    /// Files that the index did not know.
    pub adopted: u64,
    /// Entries whose file is gone.
    pub dropped: u64,
    /// Entries that had something wrong.
    pub corrected: u64,
}

/// Keeps the metadata. See the module for the protocol.
pub(crate) trait Driver: Send + Sync {
    fn kind(&self) -> DriverKind;

    /// Whether the index agrees with the directory, whose modification time is `modified`.
    fn is_current(&self, gate: &HostLockGuard<'_>, modified: Timestamp) -> Result<bool>;

    /// The directory's time that the index has, be it the present one or not; `None` when it has none.
    fn sealed(&self, gate: &HostLockGuard<'_>) -> Result<Option<Timestamp>>;

    /// Whether the directory is given times of the index's choice: not for an index that no other handle has.
    fn chooses_times(&self) -> bool {
        true
    }

    /// Makes the index agree with the directory. Returns what it found; the directory is then given the seal's time.
    fn rebuild(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<Rebuilt>;

    /// Takes note that nothing but files of the driver's own was added or removed. Whether the directory is now to be given
    /// the seal's time.
    fn reseal(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<bool>;

    /// Does beforehand what would take long when the last driver ends.
    fn settle(&self, _gate: &HostLockGuard<'_>) {}

    /// Ends the driver. Uses and hits that are not in the index yet are written. The last handle of all, whose index has the
    /// seal's time, gives that time to the index's file as well: should it have another one at the next open, then somebody
    /// wrote to it.
    fn close(&self, gate: &HostLockGuard<'_>, last: Option<&Seal>) -> Result<()>;

    /// Puts on a finished file, before it is made durable and published, what the driver keeps there.
    fn prepare(&self, file: &File, path: &Path, digest: Option<&str>) -> Result<()>;

    /// Enters a new image, whose file was published. Whether the directory is now to be given the seal's time.
    fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>, seal: &Seal) -> Result<bool>;

    /// Drops images whose files were removed. Whether the directory is now to be given the seal's time.
    fn forget(&self, gate: &HostLockGuard<'_>, ids: &[ImageId], seal: &Seal) -> Result<bool>;

    /// Where uses and hits wait until they are written.
    fn uses(&self) -> &WaitingUses;

    /// Writes the uses and hits that wait. Those that could not be written go on waiting, and so do those of an image that the
    /// index does not have, which is no failure. `patiently` where they would be lost otherwise.
    fn write_uses(&self, gate: &HostLockGuard<'_>, patiently: bool) -> Result<()>;

    /// The image's hits; 0 when the driver has no such image.
    fn hits(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64>;

    fn totals(&self, gate: &HostLockGuard<'_>) -> Result<Totals>;

    /// All images, by id.
    fn list(&self, gate: &HostLockGuard<'_>) -> Result<Listing>;

    fn eviction_order(&self, gate: &HostLockGuard<'_>) -> Result<Box<dyn EvictionOrder + '_>>;
}

/// Opens the driver that the options choose. The gate is held, since this may create or reset an index. `alone` when no other
/// handle lives.
pub(crate) fn open(
    layout: &Arc<Layout>,
    options: &Options,
    gate: &HostLockGuard<'_>,
    alone: bool,
) -> Result<Box<dyn Driver>> {
    let sqlite =
        || SqliteDriver::open(layout, &options.log, gate, alone).map(|driver| Box::new(driver) as Box<dyn Driver>);
    let xattr = || XattrDriver::open(layout, &options.log).map(|driver| Box::new(driver) as Box<dyn Driver>);
    match options.driver {
        DriverChoice::Sqlite => sqlite(),
        DriverChoice::Xattr => xattr(),
        DriverChoice::XattrOrSqlite => xattr().or_else(|error| {
            if !matches!(error, Error::Unsupported(_)) {
                return Err(error);
            }
            options.log.warning(|| format!("{error}; the SQLite driver is used"));
            sqlite()
        }),
    }
}

/// Notes on an invalid file why its fetch failed, as Glance does; false where the file system cannot.
pub(crate) fn note_failure(file: &File, reason: &str) -> bool {
    attributes::set(file, attributes::ERROR, reason).is_ok()
}

/// Marks a finished file as one whose bytes need not have reached the disk; false where the file system cannot. `mark`
/// identifies the host's present start and the mount. The directory has it first: [`mark_has_unsynced`].
pub(crate) fn mark_unsynced(file: &File, mark: &str) -> bool {
    attributes::set(file, attributes::UNSYNCED, mark).is_ok()
}

/// Takes the mark of [`mark_unsynced`] off a file whose bytes have reached the disk.
pub(crate) fn clear_unsynced(file: &File) -> bool {
    attributes::remove(file, attributes::UNSYNCED).is_ok()
}

/// Which start of the host an unsynced file, or a directory with some, was marked in. Fails when that cannot be told.
pub(crate) fn unsynced_since(file: &File) -> std::io::Result<Option<String>> {
    match attributes::get(file, attributes::UNSYNCED) {
        // Nothing can have been marked where there are no attributes.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => Ok(None),
        mark => mark,
    }
}

/// The same of a cache's directory.
pub(crate) fn has_unsynced_since(layout: &Layout) -> Result<Option<String>> {
    let directory = layout.directory(Place::Cached);
    attributes::with_descriptor(directory, unsynced_since)
        .map_err(|error| Error::from_io("read an extended attribute of", directory.path(), &error))
}

/// Marks a cache's directory as one that has files with the mark.
pub(crate) fn mark_has_unsynced(layout: &Layout, mark: &str) -> Result<()> {
    let directory = layout.directory(Place::Cached);
    attributes::with_descriptor(directory, |file| attributes::set(file, attributes::UNSYNCED, mark))
        .map_err(|error| Error::from_io("set an extended attribute of", directory.path(), &error))
}

/// Takes the mark off a cache's directory.
pub(crate) fn clear_has_unsynced(layout: &Layout) {
    let directory = layout.directory(Place::Cached);
    // A mark that stays costs one more look at the next open.
    let _ = attributes::with_descriptor(directory, |directory| attributes::remove(directory, attributes::UNSYNCED));
}
