//! The SQLite driver.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};

use crate::error::{Error, Result};
use crate::index::driver::{Comparison, Corrected, Currency, Page, Record, Totals, Unwritten};
use crate::index::pending::Accesses;
use crate::index::sqlite::changes::{self, MAX_IDS, Seal, follow, keeping_seal, set_seal, stored_seal};
use crate::index::sqlite::compare;
use crate::index::sqlite::connection;
use crate::index::sqlite::database::{Database, WriteFailure};
use crate::index::sqlite::files::IndexFiles;
use crate::index::sqlite::rows::number;
use crate::index::sqlite::sql::{SqlResult, in_sqlite, is_damage};
use crate::log::Log;
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::{Stamp, StampChange};
use crate::sys::boot::boot_id;
use crate::sys::open_registry::OpenRegistration;
use crate::sys::time::Timestamp;

/// Where the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
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
    home: Home,
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
            Ok(connection) => (Home::File, Some(connection)),
            Err(error @ Error::Unsupported(_)) => return Err(error),
            // SQLite has fallen back to reading, though this process has the permission: a failure of the moment.
            Err(error) if error.is_not_permitted() && files.may_write()? && !layout.is_read_only() => {
                log.warning(|| format!("{error}; it is opened at a later use"));
                (Home::File, None)
            }
            Err(error) if error.is_not_permitted() || !files.may_write()? => {
                log.warning(|| format!("{error}; hits and accesses are not recorded, and earlier hits are unknown"));
                (Home::Unwritable, Some(in_memory()?))
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

    /// Repairs an index whose schema another program changed, or that may be damaged. True when rows and totals may be wrong.
    fn check(&self, is_suspect: bool) -> Result<bool> {
        self.database.read("check the index", |connection| {
            if !is_suspect {
                return connection::repair(connection, &self.log);
            }
            connection::reset_if_damaged(connection, &self.log)?;
            // The statements use the table's indexes.
            connection.execute_batch("REINDEX cached_images").map(|()| true)
        })
    }

    /// The first error of an image that the last comparison could not stat.
    pub(super) fn skipped(&self) -> Option<Error> {
        self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the digest on a finished file, where the file system has attributes. A comparison uses it where the times of files
    /// are too coarse to distinguish two files of the same name.
    pub fn prepare(file: &File, digest: Option<&str>) {
        if let Some(digest) = digest {
            let _ = attributes::set(file, Attribute::Digest, digest);
        }
    }

    /// Nobody would see accesses in the memory of a handle that may not write.
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

    /// Begins a comparison with the directory, which had the stamp `present`, and has `stamp` now. Checks an index that may be
    /// damaged, and empties it if it is.
    pub fn begin_comparison(&self, lock: &CacheLockGuard<'_>, present: Stamp, stamp: Stamp) -> Result<Comparison> {
        let is_suspect = self.database.set_suspect(false);
        let began = self.check(is_suspect).and_then(|was_wrong| {
            self.database.write("compare the index with the directory", lock, |transaction| {
                // Another program may have removed the row.
                transaction
                    .execute("INSERT OR IGNORE INTO image_cache_state (id, images, bytes) VALUES (1, 0, 0)", [])?;
                let stored = stored_seal(transaction)?;
                compare::remove_ids_that_are_no_text(transaction)?;
                // A comparison that runs, and that no other program has disturbed, is joined: either one's end counts for both.
                let tag = match stored {
                    Some(seal) if seal.tag != 0 && seal.stamp == present => seal.tag,
                    _ => new_tag(),
                };
                set_seal(transaction, Some(Seal { stamp, tag }))?;
                // Unless rows and totals were right for some state of the directory, the totals may be wrong.
                let must_count = was_wrong || stored.is_none_or(|seal| seal.tag != 0);
                Ok(Comparison { tag, must_count })
            })
        });
        began.inspect_err(|_| {
            // The failure itself may have set it.
            if is_suspect {
                self.database.set_suspect(true);
            }
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
            keeping_seal(transaction, || compare::compare(transaction, &self.layout, page, corrected), Some)
        })
    }

    /// Ends a comparison. True when the index agrees with the directory: since the comparison began, only our own handles changed
    /// names. `skipped` is the first error of an image that could not be stat'ed.
    pub fn end_comparison(
        &self,
        lock: &CacheLockGuard<'_>,
        comparison: Comparison,
        stamp: Option<Stamp>,
        skipped: Option<Error>,
    ) -> Result<bool> {
        let is_current = self.database.write("compare the index with the directory", lock, |transaction| {
            let stored = stored_seal(transaction)?;
            if comparison.must_count {
                transaction.execute_batch(
                    "DELETE FROM image_cache_state;
                     INSERT INTO image_cache_state (id, images, bytes) SELECT 1, count(*),
                         CASE WHEN total(size) < 9e18 THEN (SELECT ifnull(sum(size), 0) FROM cached_images) ELSE -1 END
                     FROM cached_images;",
                )?;
            }
            let is_current = stored.is_some() && stored == stamp.map(|stamp| Seal { stamp, tag: comparison.tag });
            // Otherwise, other programs changed names meanwhile.
            let ended =
                stamp.and(stored).map(|seal| if seal.tag == comparison.tag { Seal { tag: 0, ..seal } } else { seal });
            set_seal(transaction, ended)?;
            Ok(is_current)
        })?;
        *self.skipped.lock().unwrap_or_else(PoisonError::into_inner) = skipped;
        Ok(is_current)
    }

    /// Whether a statement found the index damaged. A comparison then checks it.
    pub fn is_suspect(&self) -> bool {
        self.database.is_suspect()
    }

    /// Empties an index that a statement found damaged. False when none did.
    pub fn reset_if_damaged(&self, _lock: &CacheLockGuard<'_>) -> Result<bool> {
        if !self.database.set_suspect(false) {
            return Ok(false);
        }
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
        // Where one entry is wrong, others may be: the stamp goes.
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
/// sees, whatever the disk has. Afterwards, the file may be torn.
fn was_closed(files: &IndexFiles, lock: &CacheLockGuard<'_>) -> Result<bool> {
    Ok(fingerprint(files)?.is_some_and(|fingerprint| lock.note() == Some(fingerprint)))
}

/// Identifies the state of the database's file, the boot and the mount. Every change of the file gives it another ctime. `None` where
/// that is unknown. Another version of the standard library may compute other numbers. Then the index is compared once.
fn fingerprint(files: &IndexFiles) -> Result<Option<u64>> {
    let Some((boot, file)) = boot_id().zip(files.stat("")?) else { return Ok(None) };
    let mut hasher = DefaultHasher::new();
    (boot, files.directory().mount_id(), file.id, file.size, file.changed).hash(&mut hasher);
    Ok(Some(hasher.finish()))
}

/// Distinguishes a comparison from those of other handles. 0 is none.
fn new_tag() -> u16 {
    let [low, high, ..] = (Timestamp::now().as_nanoseconds() >> 8 ^ i64::from(std::process::id()) << 3).to_le_bytes();
    u16::from_le_bytes([low | 1, high])
}

fn add_up(connection: &Connection) -> SqlResult<Totals> {
    let mut select = connection.prepare_cached("SELECT size FROM cached_images")?;
    let sizes = select.query_map([], |row| number(row, 0))?;
    sizes.into_iter().try_fold(Totals::default(), |totals, size| {
        Ok(Totals { images: totals.images + 1, bytes: totals.bytes + u128::from(size?) })
    })
}
