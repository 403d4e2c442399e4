//! The SQLite driver: Glance's table, with an index on the order of use and totals kept by triggers, so that no
//! operation's cost grows with the number of images.
//!
//! The database is read and written under the cache's gate only. So none of our own processes ever finds it busy, even when
//! another one was killed in the midst of a transaction, and the next one has to recover the log. SQLite's own busy handler
//! lets writers starve (waits of more than a second were measured with four of them); behind one lock they take turns. A
//! transaction that writes begins as such: one that began by reading could not wait for its turn.

mod changes;
mod connection;
mod eviction;
mod rebuild;
mod rows;
mod schema;
mod snapshot;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};
use rustix::io::Errno;

use crate::core::image_id::{DATABASE_SUFFIXES, ImageId};
use crate::core::layout::{Layout, Place};
use crate::core::log::Log;
use crate::driver::attributes::{self, DIGEST};
use crate::driver::sqlite::changes::{DROPPED_AT_ONCE, delete, follow, set_seal, stored_seal};
use crate::driver::sqlite::eviction::ByUse;
use crate::driver::sqlite::rows::{cached_image, number, to_sql};
use crate::driver::sqlite::snapshot::Snapshot;
use crate::driver::uses::WaitingUses;
use crate::driver::{CachedImage, Driver, DriverKind, EvictionOrder, Listing, Rebuilt, Record, Seal, Totals};
use crate::error::{Error, Result};
use crate::system::inherited::OpenMark;
use crate::system::lock::HostLockGuard;
use crate::system::size_limit::without_size_signal;
use crate::system::time::Timestamp;

/// For what everything depends on.
const PATIENT: Duration = Duration::from_secs(2);
/// For what can be put right later, at the price of a scan.
const BRIEF: Duration = Duration::from_millis(100);
/// For what a reader does, who has no time.
const NOW: Duration = Duration::ZERO;

type SqlResult<T> = rusqlite::Result<T>;

/// Where the index is.
enum Home {
    File,
    /// The disk is full.
    Memory,
    /// The file may not be written: what it says is in memory.
    Copy(Snapshot),
}

/// The driver. A `Mutex` shares the connection between the threads of a handle.
pub(crate) struct SqliteDriver {
    layout: Arc<Layout>,
    log: Log,
    home: Home,
    /// `None` once it was closed.
    connection: Mutex<Option<Connection>>,
    /// Uses and hits that are not in the index yet.
    uses: WaitingUses,
    /// The database was found to be damaged, or another program wrote to it; the next rebuild checks it.
    is_suspect: AtomicBool,
    /// The images that the last rebuild could not examine, if any: the first failure.
    missed: Mutex<Option<Error>>,
    /// Dropped after the connection.
    _mark: OpenMark,
}

impl SqliteDriver {
    /// Opens the index; `alone` when no other handle lives.
    pub fn open(layout: &Arc<Layout>, log: &Log, _gate: &HostLockGuard<'_>, alone: bool) -> Result<Self> {
        let directory = layout.directory(Place::Cached);
        let mark = OpenMark::new(directory.identity()?)
            .map_err(|owner| Error::OpenAcrossFork { path: directory.path().to_owned(), owner })?;
        refuse_odd_files(layout)?;
        // Whoever closed the cache last gave both of them the same time: another program wrote to the database since, or that
        // handle was killed. Its rows, which SQLite finds well-formed, may say anything.
        let modified = directory.modified()?;
        let is_suspect = alone && layout.index_file("")?.is_some_and(|file| file.modified != modified);
        if is_suspect {
            let path = layout.database().display();
            log.info(|| {
                format!(
                    "'{path}' was not closed by its last user, or written to since: it is compared with the directory"
                )
            });
        }
        layout.create_database();
        let (home, connection) = match without_size_signal(|| connection::open(layout, log, alone)) {
            Ok(connection) => (Home::File, connection),
            Err(error @ Error::Unsupported(_)) => return Err(error),
            Err(error) if error.is_not_permitted() || !layout.may_write_index()? => {
                log.warning(|| format!("{error}; hits and uses are not noted"));
                let snapshot = Snapshot::new(layout, log)?;
                (Home::Copy(snapshot), connection::open_in_memory(layout.database(), log)?)
            }
            // On a full disk the files that SQLite needs cannot be created, and what is cached could not even be pruned.
            Err(error) if error.is_no_space() || !directory.has_room()? => {
                log.warning(|| {
                    format!("{error}; the disk is full: the index is made in memory, without the hits of before")
                });
                (Home::Memory, connection::open_in_memory(layout.database(), log)?)
            }
            Err(error) => return Err(error),
        };
        // A copy's would be told to nobody.
        let uses = WaitingUses::new(layout, !matches!(home, Home::Copy(_)));
        Ok(Self {
            layout: Arc::clone(layout),
            log: log.clone(),
            home,
            connection: Mutex::new(Some(connection)),
            uses,
            is_suspect: AtomicBool::new(is_suspect),
            missed: Mutex::default(),
            _mark: mark,
        })
    }

    /// The index agrees with the directory, as far as that can be examined.
    fn try_rebuild(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<Rebuilt> {
        let mut listing = Ok(());
        let rebuilt = self.write("enter what the directory has in the index", PATIENT, gate, |transaction| {
            if let Home::Copy(snapshot) = &self.home {
                snapshot.copy_to(transaction)?;
            }
            let rebuilt = rebuild::rebuild(transaction, &self.layout, &self.log).map_err(|error| match error {
                rebuild::Failure::Index(error) => error,
                rebuild::Failure::Directory(error) => {
                    listing = Err(error);
                    rusqlite::Error::InvalidQuery // ends the transaction; the failure itself is in `listing`
                }
            })?;
            // Without the seal, the next one who asks looks again.
            set_seal(transaction, rebuilt.1.is_none().then_some(seal.after))?;
            Ok(rebuilt)
        });
        listing?;
        let (rebuilt, missed) = rebuilt?;
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = missed;
        Ok(rebuilt)
    }

    /// Runs `work` on the connection.
    fn read<T>(&self, operation: &'static str, work: impl FnOnce(&mut Connection) -> SqlResult<T>) -> Result<T> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection =
            slot.as_mut().ok_or_else(|| Error::Internal("the index was used after it was closed".to_owned()))?;
        // Reading, too, can make SQLite extend its shared memory's file.
        without_size_signal(|| work(connection)).map_err(|error| {
            if connection::is_damage(&error) {
                self.is_suspect.store(true, Ordering::Relaxed);
            }
            index_error(operation, self.layout.database(), &error)
        })
    }

    /// Runs `work` in a transaction that is all or nothing. Another program's is waited for as long as `patience`, and all of
    /// our own processes wait as well, at the gate.
    fn write<T>(
        &self,
        operation: &'static str,
        patience: Duration,
        _gate: &HostLockGuard<'_>,
        work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
    ) -> Result<T> {
        self.read(operation, |connection| {
            connection.busy_timeout(patience)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// The id in a row. Another program may write rows: an id that cannot name an image is passed over.
    fn known_id(&self, text: &str) -> Option<ImageId> {
        self.layout.image_id(text).ok()
    }
}

impl Driver for SqliteDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sqlite
    }

    fn chooses_times(&self) -> bool {
        matches!(self.home, Home::File)
    }

    fn is_current(&self, gate: &HostLockGuard<'_>, modified: Timestamp) -> Result<bool> {
        let is_current = self.sealed(gate)? == Some(modified) && !self.is_suspect.load(Ordering::Relaxed);
        if is_current {
            // An index from which something is missing has no seal: another handle has seen all of it since.
            *self.missed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(is_current)
    }

    fn sealed(&self, _gate: &HostLockGuard<'_>) -> Result<Option<Timestamp>> {
        self.read("read the seal in the index", |connection| match stored_seal(connection) {
            Err(error) if connection::is_damage(&error) => Ok(None),
            outcome => outcome,
        })
    }

    fn rebuild(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<Rebuilt> {
        self.is_suspect.store(false, Ordering::Relaxed);
        let checked = self.read("check the index", |connection| connection::reset_if_damaged(connection, &self.log));
        let rebuilt = checked.and_then(|()| self.try_rebuild(gate, seal)).or_else(|error| {
            // What a check does not find can keep a statement from being executed all the same.
            if !self.is_suspect.swap(false, Ordering::Relaxed) {
                return Err(error);
            }
            self.log.warning(|| format!("{error}: the index is damaged; it is rebuilt"));
            self.read("empty the index", |connection| connection::reset(connection, &self.log))?;
            self.try_rebuild(gate, seal)
        });
        rebuilt.inspect_err(|_| self.is_suspect.store(true, Ordering::Relaxed))
    }

    fn reseal(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<bool> {
        self.write("write to the index", PATIENT, gate, |transaction| follow(transaction, seal, || Ok(())))
    }

    fn settle(&self, gate: &HostLockGuard<'_>) {
        // What fails here is tried again when the connection is closed.
        let _ = self.write_uses(gate, false);
        let _ = self.read("merge the log of the index", |connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
    }

    fn close(&self, gate: &HostLockGuard<'_>, last: Option<&Seal>) -> Result<()> {
        // The last handle has waited for other programs already, when it sealed the index.
        let written = self.write_uses(gate, last.is_none());
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err((_, error))) = without_size_signal(|| connection.map(Connection::close)) {
            if let Err(unwritten) = written {
                self.log.error(|| unwritten.to_string());
            }
            return Err(index_error("close the index", self.layout.database(), &error));
        }
        if let (Some(seal), Home::File) = (last, &self.home) {
            // Should that fail, the next open looks at the whole directory.
            let _ = self.layout.set_index_modified(seal.after);
        }
        written
    }

    /// The digest, where the file system has a place for it: a rebuild believes it, should the times of files be too coarse to
    /// tell one file from another of the same name.
    fn prepare(&self, file: &File, _path: &Path, digest: Option<&str>) -> Result<()> {
        if let Some(digest) = digest {
            let _ = attributes::set(file, DIGEST, digest);
        }
        Ok(())
    }

    fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>, seal: &Seal) -> Result<bool> {
        self.write("enter an image in the index", BRIEF, gate, |transaction| {
            let (committed, modified) = (record.committed.as_seconds(), record.modified.as_seconds());
            let enter = || {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
                     VALUES (?1, ?2, ?5, ?3, 0, ?4)
                     ON CONFLICT (image_id) DO UPDATE SET last_accessed = excluded.last_accessed,
                         last_modified = excluded.last_modified, size = excluded.size, hits = 0, checksum = excluded.checksum",
                )?;
                insert.execute(params![id.as_str(), committed, to_sql(record.size), record.digest, modified]).map(drop)
            };
            follow(transaction, seal, enter)
        })
    }

    fn forget(&self, gate: &HostLockGuard<'_>, ids: &[ImageId], seal: &Seal) -> Result<bool> {
        self.write("drop images from the index", BRIEF, gate, |transaction| {
            follow(transaction, seal, || ids.chunks(DROPPED_AT_ONCE).try_for_each(|ids| delete(transaction, ids)))
        })
    }

    fn uses(&self) -> &WaitingUses {
        &self.uses
    }

    fn write_uses(&self, gate: &HostLockGuard<'_>, patiently: bool) -> Result<()> {
        if !self.uses.are_waiting() {
            return Ok(());
        }
        let uses = self.uses.take(gate);
        let patience = if patiently { PATIENT } else { NOW };
        let written = self.write("note the use of images in the index", patience, gate, |transaction| {
            changes::add_uses(transaction, &uses)
        });
        match written {
            Ok(unknown) => {
                self.uses.put_back(unknown);
                Ok(())
            }
            Err(error) => {
                self.uses.put_back(uses);
                Err(error)
            }
        }
    }

    fn hits(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64> {
        let hits: Option<u64> = self.read("read the hits in the index", |connection| {
            connection
                .prepare_cached("SELECT hits FROM cached_images WHERE image_id = ?1")?
                .query_row([id.as_str()], |row| number(row, 0))
                .optional()
        })?;
        Ok(hits.unwrap_or(0).saturating_add(self.uses.of(gate, id).hits))
    }

    fn totals(&self, _gate: &HostLockGuard<'_>) -> Result<Totals> {
        self.read("read the totals in the index", |connection| {
            connection.prepare_cached("SELECT images, bytes FROM image_cache_state WHERE id = 1")?.query_row(
                [],
                |row| match row.get::<_, i64>(1)? {
                    0.. => Ok(Totals { images: number(row, 0)?, bytes: number(row, 1)?.into() }),
                    // More than an integer of SQLite's can say.
                    _ => add_up(connection),
                },
            )
        })
    }

    fn list(&self, gate: &HostLockGuard<'_>) -> Result<Listing> {
        let images = self.read("list the images in the index", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT image_id, size, hits, last_accessed, last_modified, checksum FROM cached_images
                 WHERE typeof(image_id) = 'text' ORDER BY image_id",
            )?;
            let images = select.query_map([], cached_image)?;
            let is_known = |image: &CachedImage| self.known_id(&image.image_id).is_some();
            images.filter(|image| image.as_ref().map_or(true, is_known)).collect::<SqlResult<Listing>>()
        })?;
        if self.uses.is_empty() {
            return Ok(images);
        }
        let known = images.filter_map(|image| {
            let pending = self.uses.of(gate, &self.known_id(&image.image_id)?);
            let accessed = pending.last_accessed.map_or(0, Timestamp::as_nanoseconds).max(image.last_accessed);
            Some(CachedImage { hits: image.hits.saturating_add(pending.hits), last_accessed: accessed, ..image })
        });
        Ok(known.collect())
    }

    fn eviction_order(&self, gate: &HostLockGuard<'_>) -> Result<Box<dyn EvictionOrder + '_>> {
        Ok(Box::new(ByUse::new(self, self.totals(gate)?)))
    }
}

/// SQLite would open whatever has its files' names: of a fifo, it would wait for the other end.
fn refuse_odd_files(layout: &Layout) -> Result<()> {
    for suffix in DATABASE_SUFFIXES {
        if layout.index_file(suffix)?.is_some_and(|facts| !facts.is_regular) {
            let cause = format!("what has its name and '{suffix}' is no regular file");
            return Err(Error::Index { operation: "open the index", path: layout.database().to_owned(), cause });
        }
    }
    Ok(())
}

fn add_up(connection: &Connection) -> SqlResult<Totals> {
    let mut select = connection.prepare_cached("SELECT size FROM cached_images")?;
    let sizes = select.query_map([], |row| number(row, 0))?;
    sizes.into_iter().try_fold(Totals::default(), |totals, size| {
        Ok(Totals { images: totals.images + 1, bytes: totals.bytes + u128::from(size?) })
    })
}

/// A full disk is told apart: the caller can do something about it.
fn index_error(operation: &'static str, path: &Path, error: &rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return Error::system(operation, path, Errno::NOSPC);
    }
    Error::Index { operation, path: path.to_owned(), cause: error.to_string() }
}
