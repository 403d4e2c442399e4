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
use crate::store::stamp::DirectoryStamp;
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

/// What a rebuild changed in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    /// Files without an entry.
    pub adopted: u64,
    /// Entries without a file.
    pub dropped: u64,
    /// Entries with a wrong value.
    pub corrected: u64,
}

/// How hard a flush of pending accesses tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
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

    /// Writes accesses, and returns those that could not be written. The only way in which accesses reach a driver.
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

    /// All images, by id.
    fn list(&self, lock: &CacheLockGuard<'_>) -> Result<Listing>;

    /// Replaces some of the accesses that lie in the future (see `index::future`). False when none is left.
    fn correct_future_accesses(&self, lock: &CacheLockGuard<'_>, pending: &PendingAccesses) -> Result<bool>;

    /// The order of eviction. `pending` are accesses that could not be written.
    fn eviction_order<'a>(
        &'a self,
        lock: &CacheLockGuard<'_>,
        pending: &'a PendingAccesses,
    ) -> Result<Box<dyn EvictionOrder + 'a>>;

    /// Whether the index agrees with the directory, whose mtime is `modified`.
    fn is_current(&self, lock: &CacheLockGuard<'_>, modified: Timestamp) -> Result<bool>;

    /// The stamp in the index, equal to the directory's or not; `None` when it has none.
    fn stored_stamp(&self, lock: &CacheLockGuard<'_>) -> Result<Option<Timestamp>>;

    /// Whether the directory's mtime is set to the index's stamp. Not for an index that no other handle shares.
    fn stamps_directory(&self) -> bool;

    /// Makes the index agree with the directory, and stores the stamp.
    fn rebuild(&self, lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp) -> Result<Rebuilt>;

    /// Enters a published image. True when the index was current before, and has the new stamp.
    fn insert(
        &self,
        lock: &CacheLockGuard<'_>,
        id: &ImageId,
        record: &Record<'_>,
        stamp: &DirectoryStamp,
    ) -> Result<bool>;

    /// Removes images. True when the index was current before, and has the new stamp.
    fn remove(&self, lock: &CacheLockGuard<'_>, ids: &[ImageId], stamp: &DirectoryStamp) -> Result<bool>;

    /// Stores the stamp after a change of the driver's own files. True when the index was current before.
    fn restamp(&self, lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp) -> Result<bool>;

    /// Does the slow part of a close beforehand.
    fn prepare_close(&self, lock: &CacheLockGuard<'_>);

    /// Sets the mtime of the closed index's file to the stamp of the last handle. If it differs at the next open, then another
    /// program wrote to the file meanwhile.
    fn mark_closed(&self, lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp);
}
