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
use crate::index::driver::{
    Driver, DriverChoice, DriverKind, DriverRequest, EvictionOrder, Flush, Metadata, ReconciledIndex, Totals, Unwritten,
};
use crate::index::listing::Listing;
use crate::index::pending::{Access, MAX_IMAGES, PendingAccesses};
use crate::index::record::DriverRecord;
use crate::index::sqlite::driver::SqliteDriver;
use crate::index::sqlite::files;
use crate::index::xattr::XattrDriver;
use crate::log::Log;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, DirEntry, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// A driver, and the accesses that wait to be written to it.
pub(crate) struct Index {
    layout: Arc<Layout>,
    driver: Box<dyn Driver>,
    pending: PendingAccesses,
}

impl Index {
    /// The names of the files that drivers keep in the cache's directory, for an index named `database`.
    pub fn reserved_names(database: &OsStr) -> impl Iterator<Item = OsString> {
        files::names(database)
    }

    /// Opens the driver that is asked for, if the directory is used with that one. This may create or reset an index. `is_only_handle`: no other handle is open.
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
        let sqlite = || {
            SqliteDriver::open(layout, database, log, lock, is_only_handle)
                .map(|driver| Box::new(driver) as Box<dyn Driver>)
        };
        let xattr = || XattrDriver::open(layout, log).map(|driver| Box::new(driver) as Box<dyn Driver>);
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
            let lost = match driver.kind() {
                DriverKind::Sqlite => "access times are kept in the index only",
                DriverKind::Xattr => "hits and accesses are not recorded",
            };
            let path = layout.directory(Area::Cached).path().display();
            log.warning(|| format!("'{path}' is on overlayfs, where setting a file's times copies the file: {lost}"));
        }
        DriverRecord::new(driver.kind(), database).store(layout, lock, recorded.as_ref(), log);
        // A lock that could not be taken for a lack of room, for example, can be taken later.
        let can_lock = lock.check_held().is_ok() || layout.may_lock();
        let pending = PendingAccesses::new(layout, driver.can_write_accesses() && can_lock);
        Ok(Self { layout: Arc::clone(layout), driver, pending })
    }

    pub fn kind(&self) -> DriverKind {
        self.driver.kind()
    }

    /// The index that must be reconciled with the directory; `None` for a driver that keeps everything on the files.
    pub fn reconciled(&self) -> Option<&dyn ReconciledIndex> {
        match self.driver.metadata() {
            Metadata::Index(index) => Some(index),
            Metadata::Files(_) => None,
        }
    }

    /// Stores metadata on a finished file, before it is synced and published.
    pub fn prepare(&self, file: &File, path: &Path, digest: Option<&str>) -> Result<()> {
        self.driver.prepare(file, path, digest)
    }

    /// Adds an access of the image whose file has this status. True when a flush is due.
    pub fn add_access(&self, id: &ImageId, stat: &FileStat, access: Access) -> bool {
        self.pending.add(id, stat, access)
    }

    /// Whether accesses wait to be written.
    pub fn can_flush(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Postpones the next flush by a reader.
    pub fn postpone_flush(&self) {
        self.pending.postpone();
    }

    /// From now on a flush is due after each access.
    pub fn write_through(&self) {
        self.pending.write_through();
    }

    /// Writes the pending accesses. Those that could not be written stay pending; so do those of an image that the index does
    /// not have, which is no failure.
    pub fn flush(&self, lock: &CacheLockGuard<'_>, flush: Flush) -> Result<()> {
        if self.pending.is_empty() || lock.check_held().is_err() {
            return Ok(());
        }
        let limit = if flush == Flush::Reader { MAX_IMAGES } else { usize::MAX };
        let accesses = self.pending.take(lock, limit);
        let Unwritten { pending, outcome } = self.driver.write_accesses(lock, accesses, flush);
        self.pending.put_back(pending);
        outcome
    }

    /// The hits of an image; 0 when the driver has no such image.
    pub fn hits(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64> {
        let written = self.driver.hits(lock, id)?;
        if self.pending.is_empty() {
            return Ok(written);
        }
        let present = self.layout.stat(Area::Cached, id).ok().and_then(DirEntry::image);
        let pending = present.map_or(0, |stat| self.pending.of(id, &stat).hits);
        Ok(written.saturating_add(pending))
    }

    /// Where the metadata is, for queries over all images.
    pub fn metadata(&self) -> Metadata<'_> {
        self.driver.metadata()
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

    /// Replaces some of the accesses in the index that lie in the future. False when none is left.
    pub fn correct_future_accesses(&self, lock: &CacheLockGuard<'_>, index: &dyn ReconciledIndex) -> Result<bool> {
        index.correct_future_accesses(lock, &self.pending)
    }

    /// The order of eviction by the files alone. Their atimes, which were set at each open, have the pending accesses.
    pub fn scanned_order<'a>(&'a self, log: &Log) -> Result<Box<dyn EvictionOrder + 'a>> {
        scan::eviction_order(&self.layout, log, self.pending.opened())
    }

    /// A snapshot of the images in the order of eviction.
    pub fn eviction_order<'a>(
        &'a self,
        lock: &CacheLockGuard<'_>,
        index: &'a dyn ReconciledIndex,
    ) -> Result<Box<dyn EvictionOrder + 'a>> {
        index.eviction_order(lock, &self.pending)
    }

    /// Flushes, and ends the driver, even if the flush fails. If both fail, the returned error is the driver's.
    pub fn close(&self, lock: &CacheLockGuard<'_>, flush: Flush, log: &Log) -> Result<()> {
        let flushed = self.flush(lock, flush);
        let closed = self.driver.close(lock);
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
