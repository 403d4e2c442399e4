//! The SQLite driver.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Error, Result};
use crate::index::driver::{Corrected, Currency, Page, Record, Totals, Unwritten};
use crate::index::pending::Accesses;
use crate::index::sqlite::changes::{self, MAX_IDS, Seal, follow, set_seal, stored_seal};
use crate::index::sqlite::compare;
use crate::index::sqlite::connection;
use crate::index::sqlite::database::{Database, WriteFailure, opened_for_reading};
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::rows::number;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, is_damage};
use crate::index::sqlite::version;
use crate::log::Log;
use crate::store::committed;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::{Stamp, StampChange};
use crate::sys::boot::boot_id;
use crate::sys::mount::{has_room, unique_mount_of};
use crate::sys::open_registry::OpenRegistration;
use crate::sys::time::Timestamp;

/// Where the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    File,
    /// In memory, without what the file has: the disk is full.
    Memory,
    /// In memory, since the file may not be written.
    Unwritable,
}

/// The driver.
pub(crate) struct SqliteDriver {
    pub(super) layout: Arc<Layout>,
    pub(super) log: Log,
    pub(super) home: Home,
    pub(super) database: Database,
    /// The first error of an image that the last comparison could not stat.
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
        lock: &CacheLockGuard<'_>,
        is_only_handle: bool,
    ) -> Result<Self> {
        version::check()?;
        let directory = layout.directory(Area::Cached);
        let files = IndexFiles::new(layout, database);
        let id = directory.id()?;
        let registration = in_sqlite("open the index", files.path(), || {
            OpenRegistration::new(id)
                .map_err(|owner| Error::OpenAcrossFork { path: directory.path().to_owned(), owner })
        })?;
        files.check_are_regular()?;
        // Else the rows may have any content, though they are well-formed for SQLite. A new file has no stamp, so it is compared
        // anyhow.
        let is_present = files.stat("")?.is_some_and(|file| file.size > 0);
        let is_suspect = is_only_handle && is_present && !was_closed(&files, lock)?;
        files.create();
        let opened = in_sqlite("open the index", files.path(), || connection::open(&files, log, is_only_handle));
        let in_memory =
            || in_sqlite("open, in memory, the index", files.path(), || connection::open_in_memory(files.path(), log));
        let (home, connection) = match opened {
            Ok(connection) => (Home::File, Ok(connection)),
            Err(error @ Error::Unsupported(_)) => return Err(error),
            // A transient failure. The index is opened at a later use.
            Err(error) if error.is_not_permitted() && files.may_write()? && !layout.is_read_only() => {
                (Home::File, Err(opened_for_reading(files.path())))
            }
            Err(error) if error.is_not_permitted() || !files.may_write()? => {
                log.warning(|| format!("{error}; hits and accesses are not recorded, and earlier hits are unknown"));
                (Home::Unwritable, Ok(in_memory()?))
            }
            Err(error) if error.is_index_locked() => (Home::File, Err(error)),
            // SQLite cannot create its files on a full disk. Without an index, what is cached could not even be pruned.
            Err(error) if error.is_no_space() || !has_room(directory)? => {
                log.warning(|| format!("{error}; the disk is full: the index is in memory, without earlier hits"));
                (Home::Memory, Ok(in_memory()?))
            }
            Err(error) => return Err(error),
        };
        // With another name, only a database that was opened certainly is one.
        if home == Home::File && (connection.is_ok() || files.is_default()) {
            files.make_private(log);
        }
        if is_suspect {
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
            database: Database::new(files, log.clone(), connection, is_suspect),
            skipped: Mutex::default(),
            _registration: registration,
        })
    }

    /// The first error of an image that the last comparison could not stat.
    pub(super) fn skipped(&self) -> Option<Error> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_skipped(&self, skipped: Option<Error>) {
        *self.skipped.lock().unwrap_or_else(PoisonError::into_inner) = skipped;
    }

    /// Stores digest and size on a finished file, where the file system has attributes; false elsewhere. A comparison uses the digest
    /// where the times of files are too coarse to distinguish two files of the same name.
    pub fn prepare(file: &File, digest: Option<&str>, size: u64) -> bool {
        committed::store(file, digest, size).is_ok()
    }

    /// False where the index is a private one in memory: nobody else would see them.
    pub fn can_write_accesses(&self) -> bool {
        self.home != Home::Unwritable
    }

    /// Adds accesses to the rows. An index that has no row for an image, or one of another length, is in doubt afterwards.
    pub fn write_accesses(&self, lock: &CacheLockGuard<'_>, accesses: Accesses) -> Unwritten {
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

    /// The hits of an image; 0 when it has no row.
    pub fn hits(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64> {
        let hits = self.database.read("read the hits in the index", |connection| {
            connection
                .prepare_cached("SELECT hits FROM cached_images WHERE image_id = ?1")?
                .query_row([id.as_str()], |row| number(row, 0))
                .optional()
        })?;
        Ok(hits.unwrap_or(0))
    }

    /// Sets the hits and the last access of an image. False when there is no row.
    pub fn set_access(&self, lock: &CacheLockGuard<'_>, id: &ImageId, hits: u64, at: Timestamp) -> Result<bool> {
        self.database
            .write("set an access in the index", lock, |transaction| changes::set_access(transaction, id, hits, at))
    }

    /// Leaves nothing beside the database that Glance takes for an image's bytes. If this fails, the next last handle does it.
    pub fn empty_journal(&self, _lock: &CacheLockGuard<'_>) {
        if self.home == Home::File {
            let files = self.database.files();
            let _ = self.database.read("empty the index's journal", |open| connection::empty_journal(open, files));
        }
    }

    /// Closes the database.
    pub fn close(&self, _lock: &CacheLockGuard<'_>) -> Result<()> {
        self.database.close()
    }

    /// How much is cached.
    pub fn totals(&self, _lock: &CacheLockGuard<'_>) -> Result<Totals> {
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

    /// How the index stands to the directory, whose stamp is `stamp`.
    pub fn currency(&self, _lock: &CacheLockGuard<'_>, stamp: Stamp) -> Result<Currency> {
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

    /// Compares a part of the directory with the index, and corrects the index. Each difference is checked again under the lock.
    /// Returns the id up to which it has come, if that is not the page's end.
    pub fn compare_page(
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

    /// Whether a statement found the index damaged. A comparison then checks it.
    pub fn is_suspect(&self) -> bool {
        self.database.is_suspect()
    }

    /// Empties an index that a statement found damaged. False when none did.
    pub fn reset_if_damaged(&self, _lock: &CacheLockGuard<'_>) -> Result<bool> {
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

    /// Removes the row of an image without a file, and puts the index in doubt. False when there is no row.
    pub fn forget(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool> {
        let has_row = self.database.read("read the index", |connection| {
            connection.prepare_cached("SELECT 1 FROM cached_images WHERE image_id = ?1")?.exists([id.as_str()])
        })?;
        if !has_row {
            return Ok(false);
        }
        // Where one entry is wrong, others may be: the stamp is cleared.
        self.database
            .write("remove an image from the index", lock, |transaction| {
                changes::delete(transaction, std::slice::from_ref(id))?;
                set_seal(transaction, None)
            })
            .map(|()| true)
    }

    /// Enters a published image.
    pub fn insert(
        &self,
        lock: &CacheLockGuard<'_>,
        id: &ImageId,
        record: &Record<'_>,
        change: StampChange,
    ) -> Result<()> {
        self.database.write("enter an image in the index", lock, |transaction| {
            follow(transaction, change, || changes::insert(transaction, id, record))
        })
    }

    /// Removes images.
    pub fn remove(&self, lock: &CacheLockGuard<'_>, ids: &[ImageId], change: StampChange) -> Result<()> {
        self.database.write("remove images from the index", lock, |transaction| {
            follow(transaction, change, || ids.chunks(MAX_IDS).try_for_each(|ids| changes::delete(transaction, ids)))
        })
    }

    /// Notes that the last handle has closed the index.
    pub fn note_closed(&self, lock: &CacheLockGuard<'_>) {
        if self.home == Home::File
            && let Ok(Some(fingerprint)) = fingerprint(self.database.files())
        {
            // If this fails, the next open compares the whole directory.
            let _ = lock.set_note(fingerprint);
        }
    }
}

/// Whether the last handle has closed the database, on this mount since the host's start, and nobody has written to it since.
///
/// Transactions are not synced. As long as the host runs and the file system is mounted, the kernel's pages are what every process
/// sees; the disk does not matter. Afterwards, the file may be torn.
fn was_closed(files: &IndexFiles, lock: &CacheLockGuard<'_>) -> Result<bool> {
    Ok(fingerprint(files)?.is_some_and(|fingerprint| lock.note() == Some(fingerprint)))
}

/// Identifies the state of the database's file, the boot and the mount. Every change of the file gives it another ctime. `None` where
/// that is unknown. Another version of the standard library may compute other numbers. Then the index is compared once.
fn fingerprint(files: &IndexFiles) -> Result<Option<u64>> {
    let Some((boot, file)) = boot_id().zip(files.stat("")?) else { return Ok(None) };
    let mut hasher = DefaultHasher::new();
    (boot, unique_mount_of(files.directory()), file.id, file.size, file.changed).hash(&mut hasher);
    Ok(Some(hasher.finish()))
}

fn add_up(connection: &Connection) -> SqlResult<Totals> {
    let mut select = connection.prepare_cached("SELECT size FROM cached_images")?;
    let sizes = select.query_map([], |row| number(row, 0))?;
    sizes.into_iter().try_fold(Totals::default(), |totals, size| {
        Ok(Totals { images: totals.images + 1, bytes: totals.bytes + u128::from(size?) })
    })
}
