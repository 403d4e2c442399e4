//! The types that drivers exchange with the layers above.
//!
//! A driver keeps metadata: hits, last access, totals, digests. It never creates, moves or removes an image's file.

use crate::error::{Error, Result};
use crate::index::pending::Accesses;
use crate::store::image_id::ImageId;
use crate::store::lock::CacheLockGuard;
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

/// The driver that the options request.
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

/// An image's metadata at its commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Bytes.
    pub size: u64,
    pub committed: Timestamp,
    /// The file's mtime, as exact as the file system stores it.
    pub modified: Timestamp,
    pub digest: Option<&'a str>,
}

/// The totals of the cached images.
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
    /// For messages.
    pub accessed: Timestamp,
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

/// The corrections that a comparison made in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Corrected {
    /// Files without an entry.
    pub adopted: u64,
    /// Entries without a file.
    pub dropped: u64,
    /// Entries with a wrong value.
    pub changed: u64,
    /// Differences that could not be checked again: a stat failed for the first time. The next query compares again.
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

/// Whether the index agrees with the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Currency {
    /// The index agrees with the directory.
    Current,
    /// Names in the directory changed, and the index may lack the change.
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

/// The result of reading a whole index without the cache lock. It is valid as long as the index has this version.
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

/// The accesses that a driver could not write. Those that this process has no permission to write are dropped.
#[derive(Debug)]
pub(crate) struct Unwritten {
    /// To be retried: writing failed, or the index has no such image yet.
    pub pending: Accesses,
    /// The first failure.
    pub outcome: Result<()>,
}
