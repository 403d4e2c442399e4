//! The metadata beside the files: hits, last access, totals, digests. Knows the directory, and nothing of an image's states.
//!
//! [`Index`] is what the cache uses: a driver, and the accesses that wait to be written to it.

pub(crate) mod cached_image;
pub(crate) mod driver;
mod future;
pub(crate) mod listing;
pub(crate) mod pending;
mod record;
mod scan;
pub(crate) mod sqlite;
mod xattr;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::driver::{DriverChoice, DriverKind, DriverRequest, EvictionOrder, Totals, Unwritten};
use crate::index::listing::Listing;
use crate::index::pending::{MAX_BY_READER, PendingAccesses};
use crate::index::record::DriverRecord;
use crate::index::sqlite::driver::SqliteDriver;
use crate::index::sqlite::files;
use crate::index::xattr::XattrDriver;
use crate::log::Log;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::time::Timestamp;

/// Where the metadata of images is. Every call of a driver is made under the cache lock, except `prepare` and scans.
pub(crate) enum Driver {
    /// In an index beside the files, which agrees with the directory while both have the same stamp.
    Sqlite(Box<SqliteDriver>),
    /// On the files. A query over all images scans the directory, without the cache lock.
    Xattr(XattrDriver),
}

/// A driver, and the accesses that wait to be written to it.
pub(crate) struct Index {
    layout: Arc<Layout>,
    pub driver: Driver,
    pub pending: PendingAccesses,
}

impl Driver {
    pub fn kind(&self) -> DriverKind {
        match self {
            Self::Sqlite(_) => DriverKind::Sqlite,
            Self::Xattr(_) => DriverKind::Xattr,
        }
    }

    /// Whether this handle can write accesses at all.
    fn can_write_accesses(&self, layout: &Layout) -> bool {
        match self {
            Self::Sqlite(driver) => driver.can_write_accesses(),
            Self::Xattr(_) => layout.may_set_metadata(),
        }
    }
}

impl Index {
    /// The names of the files that drivers keep in the cache's directory, for an index named `database`.
    pub fn reserved_names(database: &OsStr) -> impl Iterator<Item = OsString> {
        files::names(database)
    }

    /// Opens the requested driver, if it is the directory's. This may create or reset an index. `is_only_handle`: no other handle is
    /// open.
    pub fn open(
        layout: &Arc<Layout>,
        request: DriverRequest,
        database: &OsStr,
        log: &Log,
        lock: &CacheLockGuard<'_>,
        is_only_handle: bool,
    ) -> Result<Self> {
        let recorded = match DriverRecord::of(layout) {
            // One bad file does not stop everything.
            Err(error) if !error.is_lack_of_resources() => {
                log.warning(|| error.to_string());
                None
            }
            recorded => recorded?,
        };
        let choice = DriverRecord::choose(recorded.as_ref(), request, database, layout)?;
        let sqlite =
            || SqliteDriver::open(layout, database, log, lock, is_only_handle).map(Box::new).map(Driver::Sqlite);
        let xattr = || XattrDriver::open(layout, log).map(Driver::Xattr);
        let driver = match choice {
            DriverChoice::Sqlite => sqlite(),
            DriverChoice::Xattr => xattr(),
            DriverChoice::XattrOrSqlite => xattr().or_else(|error| {
                if !matches!(error, Error::Unsupported(_)) {
                    return Err(error);
                }
                log.warning(|| format!("{error}; the SQLite driver is used"));
                sqlite()
            }),
        }?;
        if !layout.may_set_metadata() {
            let lost = match driver {
                Driver::Sqlite(_) => "access times are kept in the index only",
                Driver::Xattr(_) => "hits and accesses are not recorded",
            };
            let path = layout.directory(Area::Cached).path().display();
            log.warning(|| format!("'{path}' is on overlayfs, where setting a file's times copies the file: {lost}"));
        }
        DriverRecord::new(driver.kind(), database).store(layout, lock, recorded.as_ref(), log);
        // A lock that failed on a full disk, for example, can be taken later.
        let can_lock = lock.check_held().is_ok() || layout.may_lock();
        let pending = PendingAccesses::new(layout, driver.can_write_accesses(layout) && can_lock);
        Ok(Self { layout: Arc::clone(layout), driver, pending })
    }

    /// The index that must be reconciled with the directory; `None` for a driver that keeps everything on the files.
    pub fn reconciled(&self) -> Option<&SqliteDriver> {
        match &self.driver {
            Driver::Sqlite(index) => Some(index),
            Driver::Xattr(_) => None,
        }
    }

    /// Stores metadata on a finished file, before it is synced and published. False when the file system has no attributes.
    pub fn prepare(&self, file: &File, path: &Path, digest: Option<&str>, size: u64) -> Result<bool> {
        match &self.driver {
            Driver::Sqlite(_) => Ok(SqliteDriver::prepare(file, digest, size)),
            Driver::Xattr(_) => XattrDriver::prepare(file, path, digest, size).map(|()| true),
        }
    }

    /// Writes the pending accesses. Those that could not be written stay pending; so do those of an image that the index does
    /// not have, which is no failure.
    pub fn flush(&self, lock: &CacheLockGuard<'_>) -> Result<()> {
        self.flush_some(lock, usize::MAX)
    }

    /// Writes a part of the pending accesses, which takes less than a millisecond.
    pub fn flush_part(&self, lock: &CacheLockGuard<'_>) -> Result<()> {
        self.flush_some(lock, MAX_BY_READER)
    }

    fn flush_some(&self, lock: &CacheLockGuard<'_>, limit: usize) -> Result<()> {
        if self.pending.is_empty() || lock.check_held().is_err() {
            return Ok(());
        }
        let accesses = self.pending.take(lock, limit);
        let Unwritten { pending, outcome } = match &self.driver {
            Driver::Sqlite(driver) => driver.write_accesses(lock, accesses),
            Driver::Xattr(driver) => driver.write_accesses(lock, accesses),
        };
        self.pending.put_back(pending);
        outcome
    }

    /// The hits of an image; 0 when the driver has no such image.
    pub fn hits(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64> {
        let written = match &self.driver {
            Driver::Sqlite(driver) => driver.hits(lock, id),
            Driver::Xattr(driver) => driver.hits(lock, id),
        }?;
        if self.pending.is_empty() {
            return Ok(written);
        }
        let present = self.layout.stat(Area::Cached, id).ok().and_then(DirEntry::image);
        let pending = present.map_or(0, |stat| self.pending.of(id, &stat).hits);
        Ok(written.saturating_add(pending))
    }

    /// Sets the hits and the last access of an image. False when the driver has no such image. The file's atime is set already.
    pub fn set_access(&self, lock: &CacheLockGuard<'_>, id: &ImageId, hits: u64, at: Timestamp) -> Result<bool> {
        match &self.driver {
            Driver::Sqlite(driver) => driver.set_access(lock, id, hits, at),
            Driver::Xattr(driver) => driver.set_hits(lock, id, hits),
        }
    }

    /// The totals of the images in the directory.
    pub fn scanned_totals(&self, log: &Log) -> Result<Totals> {
        scan::totals(&self.layout, log)
    }

    /// Adds the accesses that could not be written to a listing.
    pub fn add_pending(&self, listing: &mut Listing) {
        let pending = self.pending.by_id();
        if pending.is_empty() {
            return;
        }
        for (id, image) in listing.iter_mut() {
            let Some(pending) = pending.get(id) else { continue };
            image.hits = image.hits.saturating_add(pending.hits);
            let accessed = pending.last_accessed.map_or(0, Timestamp::as_nanoseconds);
            image.last_accessed = image.last_accessed.max(accessed);
        }
    }

    /// The order of eviction by the files alone. Their atimes, which were set at each open, have the pending accesses.
    pub fn scanned_order<'a>(&'a self, log: &Log) -> Result<Box<dyn EvictionOrder + 'a>> {
        scan::eviction_order(&self.layout, log, self.pending.opened())
    }

    /// Flushes, and ends the driver, even if the flush fails. If both fail, the returned error is the driver's. `is_last`: no other
    /// handle is open.
    pub fn close(&self, lock: &CacheLockGuard<'_>, log: &Log, is_last: bool) -> Result<()> {
        let flushed = self.flush(lock);
        let closed = self.reconciled().map_or(Ok(()), |index| {
            if is_last {
                index.empty_journal(lock);
            }
            index.close(lock)
        });
        match (flushed, closed) {
            (flushed, Ok(())) => flushed,
            (flushed, closed) => {
                if let Err(error) = flushed {
                    log.error(|| error.to_string());
                }
                closed
            }
        }
    }
}
