//! The SQLite driver.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Error, Result};
use crate::index::driver::{
    Comparison, Corrected, Currency, Driver, DriverKind, EvictionOrder, Examined, Flush, Metadata, Page,
    ReconciledIndex, Record, Totals, Unwritten,
};
use crate::index::listing::Listing;
use crate::index::pending::{Accesses, PendingAccesses};
use crate::index::sqlite::changes::{self, MAX_IDS, Seal, follow, set_seal, stored_seal};
use crate::index::sqlite::compare;
use crate::index::sqlite::connection;
use crate::index::sqlite::database::{Database, WriteFailure, opened_for_reading};
use crate::index::sqlite::epoch::Epoch;
use crate::index::sqlite::eviction::{ByAccess, correct_future_accesses};
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::list::list_part;
use crate::index::sqlite::rows::number;
use crate::index::sqlite::snapshot::Snapshot;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, is_damage};
use crate::log::Log;
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::{Stamp, StampChange};
use crate::sys::open_registry::OpenRegistration;

/// Where the index is.
pub(super) enum Home {
    File,
    /// In memory, without what the file has: the disk is full.
    Memory,
    /// A copy in memory: the file may not be written.
    Copy(Snapshot),
}

/// The driver.
pub(crate) struct SqliteDriver {
    layout: Arc<Layout>,
    pub(super) log: Log,
    pub(super) home: Home,
    pub(super) epoch: Epoch,
    pub(super) database: Database,
    /// The first error of an image that the last rebuild could not stat.
    skipped: Mutex<Option<Error>>,
    /// Dropped after the connection.
    _registration: OpenRegistration,
}

impl SqliteDriver {
    /// Opens the index. `is_only_handle`: no other handle is open.
    pub fn open(
        layout: &Arc<Layout>,
        database: &OsStr,
        log: &Log,
        _lock: &CacheLockGuard<'_>,
        is_only_handle: bool,
    ) -> Result<Self> {
        let directory = layout.directory(Area::Cached);
        let registration = OpenRegistration::new(directory.id()?)
            .map_err(|owner| Error::OpenAcrossFork { path: directory.path().to_owned(), owner })?;
        let files = IndexFiles::new(layout, database);
        files.check_are_regular()?;
        // The last handle gave the directory and the file the same mtime. If they differ, another program wrote to the file, or that
        // handle was killed. Its rows may then have any content, though they are well-formed for SQLite.
        let modified = directory.modified()?;
        // A new file has no stamp, so it is compared anyhow.
        let present = files.stat("")?.filter(|file| is_only_handle && file.size > 0);
        let was_open = present.is_some_and(|file| file.modified != modified);
        files.create();
        let opened = in_sqlite("open the index", files.path(), || connection::open(&files, log, is_only_handle));
        let in_memory =
            || in_sqlite("open, in memory, the index", files.path(), || connection::open_in_memory(files.path(), log));
        let (home, connection) = match opened {
            Ok(connection) => (Home::File, Ok(connection)),
            Err(error @ Error::Unsupported(_)) => return Err(error),
            // A failure of the moment. The index is opened at a later use.
            Err(error) if error.is_not_permitted() && files.may_write()? && !layout.is_read_only() => {
                (Home::File, Err(opened_for_reading(files.path())))
            }
            Err(error) if error.is_not_permitted() || !files.may_write()? => {
                log.warning(|| format!("{error}; hits and accesses are not recorded"));
                let snapshot = Snapshot::new(layout, database, log)?;
                (Home::Copy(snapshot), Ok(in_memory()?))
            }
            Err(error) if error.is_index_locked() => (Home::File, Err(error)),
            // SQLite cannot create its files on a full disk. Without an index, what is cached could not even be pruned.
            Err(error) if error.is_no_space() || !directory.has_room()? => {
                log.warning(|| format!("{error}; the disk is full: the index is in memory, without earlier hits"));
                (Home::Memory, Ok(in_memory()?))
            }
            Err(error) => return Err(error),
        };
        // With another name, only a database that was opened certainly is one.
        if matches!(home, Home::File) && (connection.is_ok() || files.is_default()) {
            files.make_private(log);
        }
        // Nothing is synced, so a power cut, or a disk that was cut off, may have left any part of the file.
        let epoch = Epoch::present(directory);
        let is_of_other_epoch =
            |connection: &Connection| in_sqlite("read", files.path(), || Ok(!epoch.is_in(connection)));
        let may_be_torn = present.is_some()
            && matches!(home, Home::File)
            && connection.as_ref().map_or_else(|_| Ok(true), is_of_other_epoch)?;
        // What was not opened is not known.
        if was_open || (may_be_torn && connection.is_ok()) {
            let path = files.path().display();
            log.info(|| {
                format!(
                    "'{path}' was not closed, another program wrote to it, or the host restarted: it is compared with the directory"
                )
            });
        }
        Ok(Self {
            layout: Arc::clone(layout),
            log: log.clone(),
            home,
            epoch,
            database: Database::new(files, log.clone(), connection, was_open || may_be_torn),
            skipped: Mutex::default(),
            _registration: registration,
        })
    }

    fn set_skipped(&self, skipped: Option<Error>) {
        *self.skipped.lock().unwrap_or_else(PoisonError::into_inner) = skipped;
    }
}

impl Driver for SqliteDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sqlite
    }

    fn metadata(&self) -> Metadata<'_> {
        Metadata::Index(self)
    }

    /// Stores the digest where the file system has attributes. A rebuild uses it where the times of files are too coarse to
    /// distinguish two files of the same name.
    fn prepare(&self, file: &File, _path: &Path, digest: Option<&str>) -> Result<()> {
        if let Some(digest) = digest {
            let _ = attributes::set(file, Attribute::Digest, digest);
        }
        Ok(())
    }

    /// Nobody would see accesses that are written to a copy.
    fn can_write_accesses(&self) -> bool {
        !matches!(self.home, Home::Copy(_))
    }

    fn write_accesses(&self, lock: &CacheLockGuard<'_>, accesses: Accesses, _flush: Flush) -> Unwritten {
        let written = self.database.try_write("record accesses in the index", lock, |transaction| {
            let unknown = changes::add_accesses(transaction, &accesses)?;
            if !unknown.is_empty() {
                set_seal(transaction, None)?;
            }
            Ok(unknown)
        });
        let (pending, outcome) = match written {
            Ok(unknown) => (unknown, Ok(())),
            // A hit that is lost with an error is better than one that is counted twice.
            Err(WriteFailure { error, may_be_committed: true }) => (Accesses::new(), Err(error)),
            Err(WriteFailure { error, .. }) => (accesses, Err(error)),
        };
        Unwritten { pending, outcome }
    }

    fn hits(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64> {
        let hits = self.database.read("read the hits in the index", |connection| {
            connection
                .prepare_cached("SELECT hits FROM cached_images WHERE image_id = ?1")?
                .query_row([id.as_str()], |row| number(row, 0))
                .optional()
        })?;
        Ok(hits.unwrap_or(0))
    }

    fn close(&self, _lock: &CacheLockGuard<'_>) -> Result<()> {
        self.database.close()
    }
}

impl ReconciledIndex for SqliteDriver {
    fn totals(&self, _lock: &CacheLockGuard<'_>) -> Result<Totals> {
        self.database.read("read the totals in the index", |connection| {
            connection.prepare_cached("SELECT images, bytes FROM image_cache_state WHERE id = 1")?.query_row(
                [],
                |row| match row.get::<_, i64>(1)? {
                    0.. => Ok(Totals { images: number(row, 0)?, bytes: number(row, 1)?.into() }),
                    // The sum exceeds an integer of SQLite.
                    _ => add_up(connection),
                },
            )
        })
    }

    fn list_part(
        &self,
        _lock: &CacheLockGuard<'_>,
        after: Option<&[u8]>,
        listing: &mut Listing,
    ) -> Result<Option<Vec<u8>>> {
        list_part(&self.database, &self.layout, after, listing)
    }

    fn correct_future_accesses(&self, lock: &CacheLockGuard<'_>, pending: &PendingAccesses) -> Result<bool> {
        correct_future_accesses(&self.layout, &self.database, &self.log, lock, pending.opened())
    }

    fn eviction_order<'a>(
        &'a self,
        lock: &CacheLockGuard<'_>,
        pending: &'a PendingAccesses,
    ) -> Result<Box<dyn EvictionOrder + 'a>> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Box::new(ByAccess::new(&self.layout, &self.database, &self.log, pending, self.totals(lock)?, skipped)))
    }

    fn currency(&self, _lock: &CacheLockGuard<'_>, stamp: Stamp) -> Result<Currency> {
        if self.database.is_suspect() {
            return Ok(Currency::InDoubt);
        }
        let stored = self.database.read("read the stamp in the index", |connection| match stored_seal(connection) {
            Err(error) if is_damage(&error) => Ok(None),
            stored => stored,
        })?;
        Ok(match stored {
            Some(Seal { stamp: stored, tag: 0 }) if stored == stamp => Currency::Current,
            Some(Seal { tag: 0, .. }) => Currency::DirectoryChanged,
            // Another handle compares it now, or died in a comparison.
            Some(_) | None => Currency::InDoubt,
        })
    }

    fn examine(&self) -> Option<Examined> {
        Self::examine(self)
    }

    fn begin_comparison(
        &self,
        lock: &CacheLockGuard<'_>,
        present: Stamp,
        stamp: Stamp,
        examined: Option<&Examined>,
        is_last: bool,
    ) -> Result<Option<Comparison>> {
        Self::begin_comparison(self, lock, [present, stamp], examined, is_last)
    }

    fn compare_page(
        &self,
        lock: &CacheLockGuard<'_>,
        page: &Page<'_>,
        corrected: &mut Corrected,
    ) -> Result<Option<String>> {
        self.database.write("compare the index with the directory", lock, |transaction| {
            let (stored, former) = (stored_seal(transaction)?, *corrected);
            let reached = compare::compare(transaction, &self.layout, page, corrected)?;
            // Without a write, the file keeps its version: what others found by an examination stays valid.
            if stored.is_some() && *corrected != former {
                set_seal(transaction, stored)?;
            }
            Ok(reached)
        })
    }

    fn end_comparison(
        &self,
        lock: &CacheLockGuard<'_>,
        comparison: Comparison,
        stamp: Option<Stamp>,
        skipped: Option<Error>,
    ) -> Result<bool> {
        let is_current = Self::end_comparison(self, lock, comparison, stamp)?;
        self.set_skipped(skipped);
        Ok(is_current)
    }

    fn is_suspect(&self) -> bool {
        self.database.is_suspect()
    }

    fn reset_if_damaged(&self, _lock: &CacheLockGuard<'_>) -> Result<bool> {
        if !self.database.take_damage() {
            return Ok(false);
        }
        self.database.set_suspect(false);
        self.log.warning(|| "the index is damaged; it is emptied, and compared with the directory".to_owned());
        let emptied = self.database.read("empty the index", |connection| connection::reset(connection, &self.log));
        emptied
            .inspect_err(|_| {
                self.database.set_suspect(true);
            })
            .map(|()| true)
    }

    fn forget(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool> {
        let has_row = self.database.read("read the index", |connection| {
            connection.prepare_cached("SELECT 1 FROM cached_images WHERE image_id = ?1")?.exists([id.as_str()])
        })?;
        if !has_row {
            return Ok(false);
        }
        // Where one entry is wrong, others may be: the stamp goes.
        self.database
            .write("remove an image from the index", lock, |transaction| {
                changes::delete(transaction, std::slice::from_ref(id))?;
                set_seal(transaction, None)
            })
            .map(|()| true)
    }

    fn insert(&self, lock: &CacheLockGuard<'_>, id: &ImageId, record: &Record<'_>, change: StampChange) -> Result<()> {
        self.database.write("enter an image in the index", lock, |transaction| {
            follow(transaction, change, || changes::insert(transaction, id, record))
        })
    }

    fn remove(&self, lock: &CacheLockGuard<'_>, ids: &[ImageId], change: StampChange) -> Result<()> {
        self.database.write("remove images from the index", lock, |transaction| {
            follow(transaction, change, || ids.chunks(MAX_IDS).try_for_each(|ids| changes::delete(transaction, ids)))
        })
    }

    fn mark_closed(&self, _lock: &CacheLockGuard<'_>) {
        if let Home::File = &self.home
            && let Ok(modified) = self.layout.directory(Area::Cached).modified()
        {
            // If this fails, the next open compares the whole directory.
            let _ = self.database.files().set_modified(modified);
        }
    }
}

fn add_up(connection: &Connection) -> SqlResult<Totals> {
    let mut select = connection.prepare_cached("SELECT size FROM cached_images")?;
    let sizes = select.query_map([], |row| number(row, 0))?;
    sizes.into_iter().try_fold(Totals::default(), |totals, size| {
        Ok(Totals { images: totals.images + 1, bytes: totals.bytes + u128::from(size?) })
    })
}
