//! What a driver does, and the types that it exchanges with the layers above.
//!
//! A driver keeps metadata: hits, last access, totals, digests. It never creates, moves or removes an image's file.
//!
//! Both drivers implement [`Driver`]. The SQLite driver also implements [`ReconciledIndex`], since its metadata can disagree with the
//! directory. The xattr driver keeps everything on the files, and implements [`ScannedFiles`].

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};
use crate::index::listing::Listing;
use crate::index::pending::{Accesses, PendingAccesses};
use crate::store::image_id::ImageId;
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::{Stamp, StampChange};
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// Where hits, last access and digests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// In a SQLite database in the cache's directory.
    #[default]
    Sqlite,
    /// In extended attributes of the image files. Opening fails where the file system has none.
    Xattr,
    /// In extended attributes, or in SQLite where the file system has none. The fallback is logged.
    XattrOrSqlite,
}

/// The driver that a handle asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DriverRequest {
    pub choice: DriverChoice,
    /// Whether it replaces another one that the directory was used with.
    pub may_change: bool,
}

/// The driver in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// A SQLite database.
    Sqlite,
    /// Extended attributes.
    Xattr,
}

/// What is known of an image at its commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Bytes.
    pub size: u64,
    pub committed: Timestamp,
    /// The file's mtime, as exact as the file system stores it.
    pub modified: Timestamp,
    pub digest: Option<&'a str>,
}

/// How much is cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub images: u64,
    /// More than 64 bits: one sparse file can have 2^63 - 1 bytes.
    pub bytes: u128,
}

/// An image that may be evicted.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub id: ImageId,
    /// Bytes.
    pub size: u64,
}

/// A snapshot of the cached images, least recently accessed first, each at most once.
pub(crate) trait EvictionOrder {
    /// The totals of the snapshot.
    fn totals(&self) -> Totals;

    /// The next candidates, at most `count`; none at the end.
    fn next_batch(&mut self, lock: &CacheLockGuard<'_>, count: usize) -> Result<Vec<Candidate>>;

    /// The first error of an image that could not be stat'ed, and that is therefore no candidate.
    fn skipped(&self) -> Option<Error>;
}

/// What a comparison with the directory corrected in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Corrected {
    /// Files without an entry.
    pub adopted: u64,
    /// Entries without a file.
    pub dropped: u64,
    /// Entries with a wrong value.
    pub changed: u64,
    /// Entries whose names were not listed, and could not be stat'ed. The next query compares again.
    pub unsure: u64,
}

impl Corrected {
    pub fn add(&mut self, other: Self) {
        self.adopted += other.adopted;
        self.dropped += other.dropped;
        self.changed += other.changed;
        self.unsure += other.unsure;
    }

    /// How many entries were corrected.
    pub fn count(&self) -> u64 {
        self.adopted + self.dropped + self.changed
    }
}

/// How the index and the directory stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Currency {
    /// The index agrees with the directory.
    Current,
    /// Names in the directory changed, and the index does not know whether it followed.
    DirectoryChanged,
    /// The index itself is in doubt: another program wrote to it, a contradiction was met, or it is damaged.
    InDoubt,
}

/// A comparison of the index with the directory that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    /// Distinguishes it from others.
    pub tag: u16,
    /// Whether the totals must be computed again.
    pub must_count: bool,
}

/// What was found by reading a whole index, without the cache lock. It is valid as long as the index has this version.
#[derive(Debug, Clone)]
pub(crate) struct Examined {
    pub version: u64,
    /// Whether it was checked for damage.
    pub is_checked: bool,
    pub defect: Option<Defect>,
    /// `None` when the rows cannot be counted.
    pub totals: Option<Totals>,
}

/// A damage of an index.
#[derive(Debug, Clone)]
pub(crate) enum Defect {
    /// Rows may be lost.
    Pages(String),
    /// Rows are whole, but a table's index does not fit them.
    TableIndexes(String),
}

/// A part of the directory, in the order of ids: everything after `after`, up to `until`.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    /// `None`: from the beginning.
    pub after: Option<&'a str>,
    /// `None`: to the end.
    pub until: Option<&'a str>,
    /// The images that were found there.
    pub found: &'a [Found],
}

/// An image that was found in the directory.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub id: ImageId,
    /// `None` when it could not be stat'ed. Its entry, if there is one, is then left alone.
    pub stat: Option<FileStat>,
}

/// How hard a flush of pending accesses tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// By a reader: writes a part, which takes milliseconds at most. Does not wait for other programs.
    Reader,
    /// Does not wait for other programs. What cannot be written stays pending.
    Quick,
    /// Waits up to 2 s for other programs: what stays pending is lost.
    Final,
}

/// What is left of accesses that a driver was given to write. Those that this process has no permission to write are dropped.
#[derive(Debug)]
pub(crate) struct Unwritten {
    /// To be retried: writing failed, or the index has no such image yet.
    pub pending: Accesses,
    /// The first failure.
    pub outcome: Result<()>,
}

/// Where a driver keeps the metadata of images, for queries over all of them.
pub(crate) enum Metadata<'a> {
    Index(&'a dyn ReconciledIndex),
    Files(&'a dyn ScannedFiles),
}

/// Keeps the metadata of images. Every call is made under the cache lock, except [`Self::prepare`].
pub(crate) trait Driver: Send + Sync {
    fn kind(&self) -> DriverKind;

    fn metadata(&self) -> Metadata<'_>;

    /// Stores metadata on a finished file, before it is synced and published.
    fn prepare(&self, file: &File, path: &Path, digest: Option<&str>) -> Result<()>;

    /// Whether this handle can write accesses at all.
    fn can_write_accesses(&self) -> bool {
        true
    }

    /// Writes accesses, and returns those that could not be written. The only way in which accesses reach a driver. An index that
    /// has no entry for an image, or one of another length, is in doubt afterwards.
    fn write_accesses(&self, lock: &CacheLockGuard<'_>, accesses: Accesses, flush: Flush) -> Unwritten;

    /// The hits of an image; 0 when the driver has no such image.
    fn hits(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64>;

    /// Ends the driver.
    fn close(&self, _lock: &CacheLockGuard<'_>) -> Result<()> {
        Ok(())
    }
}

/// Metadata on the files. A query over all images scans the directory, without the cache lock: images that come or go meanwhile
/// may or may not be included.
pub(crate) trait ScannedFiles {
    /// All images, by id.
    fn list(&self) -> Result<Listing>;
}

/// An index beside the files, which agrees with the directory while both have the same stamp.
pub(crate) trait ReconciledIndex {
    fn totals(&self, lock: &CacheLockGuard<'_>) -> Result<Totals>;

    /// Appends a part of the images to a listing, in the order of ids: those after the id `after`. Returns the last id, unless that
    /// was the end.
    fn list_part(
        &self,
        lock: &CacheLockGuard<'_>,
        after: Option<&[u8]>,
        listing: &mut Listing,
    ) -> Result<Option<Vec<u8>>>;

    /// Replaces some of the accesses that lie in the future (see `index::future`). False when none is left.
    fn correct_future_accesses(&self, lock: &CacheLockGuard<'_>, pending: &PendingAccesses) -> Result<bool>;

    /// The order of eviction. `pending` are accesses that could not be written.
    fn eviction_order<'a>(
        &'a self,
        lock: &CacheLockGuard<'_>,
        pending: &'a PendingAccesses,
    ) -> Result<Box<dyn EvictionOrder + 'a>>;

    /// How the index stands to the directory, whose stamp is `stamp`.
    fn currency(&self, lock: &CacheLockGuard<'_>, stamp: Stamp) -> Result<Currency>;

    /// Reads the whole index, for [`Self::begin_comparison`]: counts its rows, and checks an index that may be damaged. Called without
    /// the cache lock. `None` when the index was written meanwhile, or cannot be read without the lock.
    fn examine(&self) -> Option<Examined>;

    /// Begins a comparison with the directory, which had the stamp `present`, and has `stamp` now. Empties an index that is damaged.
    /// `None` when the index must be examined first, or again; with `is_last`, it is then examined under the lock.
    fn begin_comparison(
        &self,
        lock: &CacheLockGuard<'_>,
        present: Stamp,
        stamp: Stamp,
        examined: Option<&Examined>,
        is_last: bool,
    ) -> Result<Option<Comparison>>;

    /// Compares a part of the directory with the index, and corrects the index. Each difference is checked again under the lock.
    /// Returns the id up to which it has come, if that is not the page's end.
    fn compare_page(
        &self,
        lock: &CacheLockGuard<'_>,
        page: &Page<'_>,
        corrected: &mut Corrected,
    ) -> Result<Option<String>>;

    /// Ends a comparison. True when the index agrees with the directory: since the comparison began, only our own handles changed
    /// names. `skipped` is the first error of an image that could not be stat'ed.
    fn end_comparison(
        &self,
        lock: &CacheLockGuard<'_>,
        comparison: Comparison,
        stamp: Option<Stamp>,
        skipped: Option<Error>,
    ) -> Result<bool>;

    /// Whether a statement found the index damaged. A comparison then checks it.
    fn is_suspect(&self) -> bool;

    /// Empties an index that a statement found damaged. False when none did.
    fn reset_if_damaged(&self, lock: &CacheLockGuard<'_>) -> Result<bool>;

    /// Removes the entry of an image without a file, and puts the index in doubt. False when there is no entry.
    fn forget(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool>;

    /// Enters a published image.
    fn insert(&self, lock: &CacheLockGuard<'_>, id: &ImageId, record: &Record<'_>, change: StampChange) -> Result<()>;

    /// Removes images.
    fn remove(&self, lock: &CacheLockGuard<'_>, ids: &[ImageId], change: StampChange) -> Result<()>;

    /// Marks the closed index of the last handle. If the mark does not fit at the next open, then the index was not closed, or
    /// another program wrote to it.
    fn mark_closed(&self, lock: &CacheLockGuard<'_>);
}
