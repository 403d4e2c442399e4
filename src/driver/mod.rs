//! The metadata beside the files: hits, last use, totals, digests. A driver keeps it and knows nothing of an image's
//! states; it never creates, moves or removes an image's file.
//!
//! The directory is the truth. An index may therefore disagree with it for a moment, and always in a way that can be
//! found again, by this protocol around every change of a final name, all of it under the cache's gate:
//!
//! 1. [`Driver::intend_to_publish`] or [`Driver::intend_to_remove`] notes which names are about to change.
//! 2. The file is moved or removed.
//! 3. [`Driver::record`] or [`Driver::forget`] follows suit and takes the note back.
//!
//! A process that dies in between leaves the note. Since its holder had the gate, whoever holds the gate and sees a note
//! ([`Driver::unsettled`]) knows that nobody is at work on it, and settles it by looking at the directory:
//! [`Driver::adopt`] when the file is there, [`Driver::forget`] when it is not. Where the notes themselves can be lost (a
//! power cut) or do not tell of everything (another program's files), [`Driver::needs_rebuild`] says so at the next open.

mod attributes;
mod sqlite;
mod xattr;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::options::{DriverChoice, Options};
use crate::error::{Error, Result};
use crate::system::directory::{Directory, Facts};
use crate::system::lock::{HostLock, HostLockGuard};
use crate::system::time::Timestamp;

pub(crate) use self::sqlite::SqliteDriver;
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
    pub digest: Option<&'a str>,
}

/// How much is cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub images: u64,
    pub bytes: u64,
}

/// An image that may be evicted.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub id: ImageId,
    pub size: u64,
}

/// The cached images as they were, least recently accessed first, each at most once.
pub(crate) trait EvictionOrder {
    /// The next ones, at most `count`; none at the end.
    fn next_batch(&mut self, count: usize) -> Result<Vec<Candidate>>;
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

    /// Whether the index is damaged, or may have missed changes of the directory. Asked before anything else. The first
    /// handle to open a cache gives the directory's modification time as it was before the driver was opened; the
    /// others, `None`: those before them looked.
    fn needs_rebuild(&self, directory_modified: Option<Timestamp>) -> Result<bool>;

    /// Makes the index agree with the directory.
    fn rebuild(&self, gate: &HostLockGuard<'_>) -> Result<Rebuilt>;

    /// Ends the driver. `seal` is the modification time that the directory can be given, since this was the last handle
    /// and all is settled: as long as the directory keeps it, nothing was added, removed or renamed there. Returns
    /// whether the driver has use for it, and has kept it.
    fn close(&self, gate: &HostLockGuard<'_>, seal: Option<Timestamp>) -> Result<bool>;

    /// Puts on a finished file, before it is made durable and published, what the driver keeps there.
    fn prepare(&self, file: &File, path: &Path, digest: Option<&str>) -> Result<()>;

    /// Notes that a file is about to appear under a final name that is free.
    fn intend_to_publish(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>) -> Result<()>;

    /// Notes that the files of these images are about to go.
    fn intend_to_remove(&self, gate: &HostLockGuard<'_>, ids: &[ImageId]) -> Result<()>;

    /// Enters a new image, whose file was published.
    fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>) -> Result<()>;

    /// Enters an image whose file is there, keeping what is known of it.
    fn adopt(&self, gate: &HostLockGuard<'_>, id: &ImageId, facts: &Facts) -> Result<()>;

    /// Drops images whose file is gone.
    fn forget(&self, gate: &HostLockGuard<'_>, ids: &[ImageId]) -> Result<()>;

    /// The images whose entry may disagree with the directory.
    fn unsettled(&self, gate: &HostLockGuard<'_>) -> Result<Vec<ImageId>>;

    /// The image was opened, and its file has that access time now; false when the driver has no such image.
    fn note_use(&self, gate: &HostLock, id: &ImageId, at: Timestamp) -> Result<bool>;

    /// A reader of the image closed.
    fn note_hit(&self, gate: &HostLock, id: &ImageId, file: &File) -> Result<()>;

    /// The image's hits; 0 when the driver has no such image.
    fn hits(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64>;

    fn totals(&self, gate: &HostLockGuard<'_>) -> Result<Totals>;

    /// All images, by id.
    fn list(&self, gate: &HostLockGuard<'_>) -> Result<Vec<CachedImage>>;

    fn eviction_order(&self, gate: &HostLockGuard<'_>) -> Result<Box<dyn EvictionOrder + '_>>;
}

/// Opens the driver that the options choose. The gate is held, since this may create or reset an index.
pub(crate) fn open(layout: &Arc<Layout>, options: &Options, gate: &HostLockGuard<'_>) -> Result<Box<dyn Driver>> {
    let sqlite = || SqliteDriver::open(layout, &options.log, gate).map(|driver| Box::new(driver) as Box<dyn Driver>);
    let xattr = || XattrDriver::open(layout).map(|driver| Box::new(driver) as Box<dyn Driver>);
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

/// Marks a finished file as one whose bytes need not have reached the disk, and its directory as one that has such files;
/// false where the file system cannot. `boot` identifies the host's present start.
pub(crate) fn mark_unsynced(file: &File, directory: &Directory, boot: &str) -> bool {
    attributes::set(file, attributes::UNSYNCED, boot).is_ok()
        && attributes::with_descriptor(directory, |directory| attributes::set(directory, attributes::UNSYNCED, boot))
            .is_ok()
}

/// Takes the mark of [`mark_unsynced`] off a file whose bytes have reached the disk.
pub(crate) fn clear_unsynced(file: &File) -> bool {
    attributes::remove(file, attributes::UNSYNCED).is_ok()
}

/// Which start of the host an unsynced file, or a directory with some, was marked in.
pub(crate) fn unsynced_since(file: &File) -> Option<String> {
    attributes::get(file, attributes::UNSYNCED).ok().flatten()
}

/// The same of a cache's directory.
pub(crate) fn has_unsynced_since(layout: &Layout) -> Option<String> {
    attributes::with_descriptor(layout.directory(Place::Cached), |directory| {
        attributes::get(directory, attributes::UNSYNCED)
    })
    .ok()
    .flatten()
}

/// Takes the mark off a cache's directory.
pub(crate) fn clear_has_unsynced(layout: &Layout) {
    let directory = layout.directory(Place::Cached);
    // A mark that stays costs one more look at the next open.
    let _ = attributes::with_descriptor(directory, |directory| attributes::remove(directory, attributes::UNSYNCED));
}
