//! The SQLite driver.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Error, Result};
use crate::index::cached_image::CachedImage;
use crate::index::driver::{
    Driver, DriverKind, EvictionOrder, Flush, Rebuilt, ReconciledIndex, Record, Totals, Unwritten,
};
use crate::index::listing::Listing;
use crate::index::pending::{Accesses, PendingAccesses};
use crate::index::sqlite::changes::{self, MAX_IDS, follow, set_stamp, stored_stamp};
use crate::index::sqlite::connection;
use crate::index::sqlite::database::{Database, WriteFailure};
use crate::index::sqlite::eviction::ByAccess;
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::rebuild;
use crate::index::sqlite::rows::{cached_image, number};
use crate::index::sqlite::snapshot::Snapshot;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, is_damage};
use crate::log::Log;
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::DirectoryStamp;
use crate::sys::open_registry::OpenRegistration;
use crate::sys::time::Timestamp;

/// Where the index is.
enum Home {
    File,
    /// In memory, without what the file has: the disk is full.
    Memory,
    /// A copy in memory: the file may not be written.
    Copy(Snapshot),
}

/// The driver.
pub(crate) struct SqliteDriver {
    layout: Arc<Layout>,
    log: Log,
    home: Home,
    database: Database,
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
        let is_suspect = is_only_handle && files.stat("")?.is_some_and(|file| file.modified != modified);
        if is_suspect {
            let path = files.path().display();
            log.info(|| {
                format!("'{path}' was not closed, or another program wrote to it: it is compared with the directory")
            });
        }
        files.create();
        let opened = in_sqlite("open the index", files.path(), || connection::open(&files, log, is_only_handle));
        let in_memory =
            || in_sqlite("open, in memory, the index", files.path(), || connection::open_in_memory(files.path(), log));
        let (home, connection) = match opened {
            Ok(connection) => (Home::File, Some(connection)),
            Err(error @ Error::Unsupported(_)) => return Err(error),
            Err(error) if error.is_not_permitted() || !files.may_write()? => {
                log.warning(|| format!("{error}; hits and accesses are not recorded"));
                let snapshot = Snapshot::new(layout, database, log)?;
                (Home::Copy(snapshot), Some(in_memory()?))
            }
            // It is opened at a later use.
            Err(error) if error.is_index_locked() => (Home::File, None),
            // SQLite cannot create its files on a full disk. Without an index, what is cached could not even be pruned.
            Err(error) if error.is_no_space() || !directory.has_room()? => {
                log.warning(|| format!("{error}; the disk is full: the index is in memory, without earlier hits"));
                (Home::Memory, Some(in_memory()?))
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            layout: Arc::clone(layout),
            log: log.clone(),
            home,
            database: Database::new(files, log.clone(), connection, is_suspect),
            skipped: Mutex::default(),
            _registration: registration,
        })
    }

    /// Makes the index agree with the directory, except for images that cannot be stat'ed.
    fn try_rebuild(&self, lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp) -> Result<Rebuilt> {
        let mut listed = Ok(());
        let rebuilt = self.database.write("enter the directory in the index", lock, |transaction| {
            if let Home::Copy(snapshot) = &self.home {
                snapshot.copy_to(transaction)?;
            }
            let rebuilt = rebuild::rebuild(transaction, &self.layout, &self.log).map_err(|error| match error {
                rebuild::Failure::Index(error) => error,
                rebuild::Failure::Directory(error) => {
                    listed = Err(error);
                    rusqlite::Error::InvalidQuery // rolls back; the failure itself is in `listed`
                }
            })?;
            // Without a stamp, the next query rebuilds again.
            set_stamp(transaction, rebuilt.1.is_none().then_some(stamp.after))?;
            Ok(rebuilt)
        });
        listed?;
        let (rebuilt, skipped) = rebuilt?;
        self.set_skipped(skipped);
        Ok(rebuilt)
    }

    fn set_skipped(&self, skipped: Option<Error>) {
        *self.skipped.lock().unwrap_or_else(PoisonError::into_inner) = skipped;
    }
}

impl Driver for SqliteDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sqlite
    }

    fn reconciled(&self) -> Option<&dyn ReconciledIndex> {
        Some(self)
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
            changes::add_accesses(transaction, &accesses)
        });
        let (pending, outcome) = match written {
            Ok(unknown) => (unknown, Ok(())),
            // A hit that is lost with an error is better than one that is counted twice.
            Err(WriteFailure { error, may_be_committed: true }) => (Accesses::new(), Err(error)),
            Err(WriteFailure { error, .. }) => (accesses, Err(error)),
        };
        Unwritten { pending, unwritable: Accesses::new(), outcome }
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

    fn list(&self, _lock: &CacheLockGuard<'_>) -> Result<Listing> {
        self.database.read("list the images in the index", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT image_id, size, hits, last_accessed, last_modified, checksum FROM cached_images
                 WHERE typeof(image_id) = 'text' ORDER BY image_id",
            )?;
            let images = select.query_map([], cached_image)?;
            // Another program may have written rows with ids that are not valid.
            let is_valid = |image: &CachedImage| self.layout.image_id(&image.image_id).is_ok();
            images.filter(|image| image.as_ref().map_or(true, is_valid)).collect::<SqlResult<Listing>>()
        })
    }

    fn eviction_order<'a>(
        &'a self,
        lock: &CacheLockGuard<'_>,
        pending: &'a PendingAccesses,
    ) -> Result<Box<dyn EvictionOrder + 'a>> {
        let skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Box::new(ByAccess::new(&self.layout, &self.database, &self.log, pending, self.totals(lock)?, skipped)))
    }

    fn close(&self, _lock: &CacheLockGuard<'_>) -> Result<()> {
        self.database.close()
    }
}

impl ReconciledIndex for SqliteDriver {
    fn is_current(&self, lock: &CacheLockGuard<'_>, modified: Timestamp) -> Result<bool> {
        let is_current = self.stored_stamp(lock)? == Some(modified) && !self.database.is_suspect();
        if is_current {
            // An incomplete index has no stamp: another handle completed it since.
            self.set_skipped(None);
        }
        Ok(is_current)
    }

    fn stored_stamp(&self, _lock: &CacheLockGuard<'_>) -> Result<Option<Timestamp>> {
        self.database.read("read the stamp in the index", |connection| match stored_stamp(connection) {
            Err(error) if is_damage(&error) => Ok(None),
            outcome => outcome,
        })
    }

    fn stamps_directory(&self) -> bool {
        matches!(self.home, Home::File)
    }

    fn rebuild(&self, lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp) -> Result<Rebuilt> {
        self.database.set_suspect(false);
        let checked =
            self.database.read("check the index", |connection| connection::reset_if_damaged(connection, &self.log));
        // A transient read error looks like damage.
        let rebuilt = checked
            .and_then(|()| self.try_rebuild(lock, stamp))
            .or_else(|error| if self.database.set_suspect(false) { self.try_rebuild(lock, stamp) } else { Err(error) });
        let rebuilt = rebuilt.or_else(|error| {
            // The check does not find every damage that makes a statement fail.
            if !self.database.set_suspect(false) {
                return Err(error);
            }
            self.log.warning(|| format!("{error}: the index is damaged; it is rebuilt"));
            self.database.read("empty the index", |connection| connection::reset(connection, &self.log))?;
            self.try_rebuild(lock, stamp)
        });
        rebuilt.inspect_err(|_| {
            self.database.set_suspect(true);
        })
    }

    fn insert(
        &self,
        lock: &CacheLockGuard<'_>,
        id: &ImageId,
        record: &Record<'_>,
        stamp: &DirectoryStamp,
    ) -> Result<bool> {
        self.database.write("enter an image in the index", lock, |transaction| {
            follow(transaction, stamp, || changes::insert(transaction, id, record))
        })
    }

    fn remove(&self, lock: &CacheLockGuard<'_>, ids: &[ImageId], stamp: &DirectoryStamp) -> Result<bool> {
        self.database.write("remove images from the index", lock, |transaction| {
            follow(transaction, stamp, || ids.chunks(MAX_IDS).try_for_each(|ids| changes::delete(transaction, ids)))
        })
    }

    fn restamp(&self, lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp) -> Result<bool> {
        self.database.write("write to the index", lock, |transaction| follow(transaction, stamp, || Ok(())))
    }

    fn prepare_close(&self, _lock: &CacheLockGuard<'_>) {}

    fn mark_closed(&self, _lock: &CacheLockGuard<'_>, stamp: &DirectoryStamp) {
        if let Home::File = &self.home {
            // If this fails, the next open compares the whole directory.
            let _ = self.database.files().set_modified(stamp.after);
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
