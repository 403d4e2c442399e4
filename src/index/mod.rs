//! The metadata beside the files: hits, last access, totals, digests. Knows the directory, and nothing of an image's states.
//!
//! [`Index`] is what the cache uses: a driver, and the accesses that wait to be written to it.

pub(crate) mod cached_image;
pub(crate) mod driver;
pub(crate) mod listing;
pub(crate) mod pending;
mod record;
pub(crate) mod scan;
pub(crate) mod sqlite;
mod xattr;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::driver::{
    Driver, DriverChoice, DriverKind, DriverRequest, EvictionOrder, Flush, ReconciledIndex, Totals, Unwritten,
};
use crate::index::listing::Listing;
use crate::index::pending::{Access, PendingAccesses};
use crate::index::record::DriverRecord;
use crate::index::sqlite::driver::SqliteDriver;
use crate::index::sqlite::files;
use crate::index::xattr::XattrDriver;
use crate::log::Log;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
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
        let pending = PendingAccesses::new(layout, driver.can_write_accesses());
        Ok(Self { layout: Arc::clone(layout), driver, pending })
    }

    pub fn kind(&self) -> DriverKind {
        self.driver.kind()
    }

    /// The index that must be reconciled with the directory; `None` for a driver that keeps everything on the files.
    pub fn reconciled(&self) -> Option<&dyn ReconciledIndex> {
        self.driver.reconciled()
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
        self.pending.can_flush()
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
        if flush == Flush::Final {
            // A file system that was read-only for a while, for example.
            self.pending.retry_unwritable();
        }
        if !self.pending.can_flush() {
            return Ok(());
        }
        let accesses = self.pending.take(lock);
        let Unwritten { pending, unwritable, outcome } = self.driver.write_accesses(lock, accesses, flush);
        self.pending.keep_unwritable(unwritable);
        self.pending.put_back(pending);
        outcome
    }

    /// The hits of an image; 0 when the driver has no such image.
    pub fn hits(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64> {
        Ok(self.driver.hits(lock, id)?.saturating_add(self.pending.of(lock, id).hits))
    }

    pub fn totals(&self, lock: &CacheLockGuard<'_>) -> Result<Totals> {
        self.driver.totals(lock)
    }

    /// All images, by id. Accesses that could not be written are included.
    pub fn list(&self, lock: &CacheLockGuard<'_>) -> Result<Listing> {
        let mut images = self.driver.list(lock)?;
        if !self.pending.is_empty() {
            for (id, image) in images.iter_mut() {
                let Ok(id) = self.layout.image_id(id) else { continue };
                let pending = self.pending.of(lock, &id);
                image.hits = image.hits.saturating_add(pending.hits);
                let accessed = pending.last_accessed.map_or(0, Timestamp::as_nanoseconds);
                image.last_accessed = image.last_accessed.max(accessed);
            }
        }
        Ok(images)
    }

    /// A snapshot of the images in the order of eviction.
    pub fn eviction_order<'a>(&'a self, lock: &CacheLockGuard<'_>) -> Result<Box<dyn EvictionOrder + 'a>> {
        self.driver.eviction_order(lock, &self.pending)
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
