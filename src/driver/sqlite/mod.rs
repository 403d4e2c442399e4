//! The SQLite driver: Glance's table, with an index on the order of use and totals kept by triggers, so that no
//! operation's cost grows with the number of images.
//!
//! All writes are made under the cache's gate. SQLite's own busy handler lets writers starve (waits of more than a second
//! were measured with four of them); behind one lock they take turns. A transaction that writes begins as such: one
//! that began by reading could not wait for its turn.

mod connection;
mod rebuild;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use rustix::io::Errno;

use crate::core::digest::is_well_formed;
use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::log::Log;
use crate::driver::{CachedImage, Candidate, Driver, DriverKind, EvictionOrder, Rebuilt, Record, Seal, Totals};
use crate::error::{Error, Result};
use crate::system::inherited::OpenMark;
use crate::system::lock::{HostLock, HostLockGuard};
use crate::system::size_limit::without_size_signal;
use crate::system::time::Timestamp;

/// For what everything depends on.
const PATIENT: Duration = Duration::from_secs(2);
/// For what can be put right later, at the price of a scan.
const BRIEF: Duration = Duration::from_millis(100);
/// For what can as well be written later.
const NOW: Duration = Duration::ZERO;

type SqlResult<T> = rusqlite::Result<T>;

/// The driver. A `Mutex` shares the connection between the threads of a handle.
pub(crate) struct SqliteDriver {
    layout: Arc<Layout>,
    log: Log,
    /// `None` once it was closed.
    connection: Mutex<Option<Connection>>,
    /// Uses and hits that are not in the index yet. They stay until they could be written.
    pending: Mutex<HashMap<ImageId, Use>>,
    /// The database was found to be damaged; the next rebuild checks it.
    is_suspect: AtomicBool,
    /// Dropped after the connection.
    _mark: OpenMark,
}

/// How an image was used.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    hits: u64,
    last_accessed: Option<Timestamp>,
}

impl SqliteDriver {
    pub fn open(layout: &Arc<Layout>, log: &Log, _gate: &HostLockGuard<'_>) -> Result<Self> {
        let directory = layout.directory(Place::Cached);
        let mark = OpenMark::new(directory.identity()?)
            .map_err(|owner| Error::OpenAcrossFork { path: directory.path().to_owned(), owner })?;
        let connection = connection::open(layout.database(), log).or_else(|error| {
            // On a full disk the files that SQLite needs cannot be created, and what is cached could not even be pruned.
            if !error.is_no_space() && directory.has_room()? {
                return Err(error);
            }
            log.warning(|| {
                format!("{error}; the disk is full: the index is made in memory, without the hits of before")
            });
            connection::open_in_memory(layout.database())
        })?;
        Ok(Self {
            layout: Arc::clone(layout),
            log: log.clone(),
            connection: Mutex::new(Some(connection)),
            pending: Mutex::default(),
            is_suspect: AtomicBool::new(false),
            _mark: mark,
        })
    }

    /// Runs `work` on the connection.
    fn read<T>(&self, operation: &'static str, work: impl FnOnce(&mut Connection) -> SqlResult<T>) -> Result<T> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection =
            slot.as_mut().ok_or_else(|| Error::Internal("the index was used after it was closed".to_owned()))?;
        work(connection).map_err(|error| {
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
            without_size_signal(|| {
                connection.busy_timeout(patience)?;
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
        })
    }

    /// Adds a use to those that are not in the index yet, and writes all of them; true when the index has the image.
    fn add_use(&self, gate: &HostLock, id: &ImageId, one: Use) -> Result<bool> {
        {
            let mut pending = self.pending();
            let sum = pending.entry(id.clone()).or_default();
            sum.hits += one.hits;
            sum.last_accessed = sum.last_accessed.max(one.last_accessed);
        }
        let known = self.write_uses(&gate.acquire()?)?;
        Ok(known.contains(id))
    }

    /// Writes the uses that are not in the index yet. The images among them that the index has.
    fn write_uses(&self, gate: &HostLockGuard<'_>) -> Result<Vec<ImageId>> {
        // Another thread may write what this one added: the lock is held until it is in the index.
        let mut pending = self.pending();
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.write("note the use of images in the index", NOW, gate, |transaction| {
            let now = Timestamp::now().as_seconds();
            let mut update = transaction.prepare_cached(
                // A time in the future, by a clock that was set back, must not stand for ever.
                "UPDATE cached_images SET hits = hits + ?2, last_accessed = CASE
                     WHEN ?3 IS NULL OR last_accessed BETWEEN ?3 AND ?4 THEN last_accessed ELSE ?3 END
                 WHERE image_id = ?1",
            )?;
            let mut known = Vec::new();
            for (id, sum) in pending.iter() {
                let accessed = sum.last_accessed.map(Timestamp::as_seconds);
                if update.execute(params![id.as_str(), to_sql(sum.hits), accessed, now])? > 0 {
                    known.push(id.clone());
                }
            }
            Ok(known)
        })?;
        pending.clear();
        Ok(known)
    }

    /// The same, where what could not be written is added to what the index says.
    fn try_write_uses(&self, gate: &HostLockGuard<'_>) {
        if let Err(error) = self.write_uses(gate) {
            self.log.warning(|| format!("{error}; it is done later"));
        }
    }

    /// What the index does not know of an image's use.
    fn pending_use(&self, id: &ImageId) -> Use {
        self.pending().get(id).copied().unwrap_or_default()
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<ImageId, Use>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next rows in the order of eviction, after the one at the cursor; `None` for one that names no image.
    fn candidates_after(&self, cursor: &mut Option<(Value, Value)>, count: usize) -> Result<Vec<Option<Candidate>>> {
        // Written so that SQLite searches the index for the first row.
        const AFTER: &str = "SELECT ifnull(last_accessed, 0), image_id, ifnull(size, 0) FROM cached_images
             WHERE ifnull(last_accessed, 0) >= ?1 AND (ifnull(last_accessed, 0) > ?1 OR image_id > ?2)
             ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3";
        const FIRST: &str = "SELECT ifnull(last_accessed, 0), image_id, ifnull(size, 0) FROM cached_images
             ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3 + 0 * ifnull(?1, ?2)";
        let statement = if cursor.is_some() { AFTER } else { FIRST };
        let (used, id) = cursor.clone().unwrap_or((Value::Integer(0), Value::Integer(0)));
        let rows = self.read("read the order of use in the index", |connection| {
            let mut select = connection.prepare_cached(statement)?;
            let rows = select.query_map(params![used, id, to_sql(count as u64)], |row| {
                Ok((row.get::<_, Value>(0)?, row.get::<_, Value>(1)?, number(row, 2)?))
            })?;
            rows.collect::<SqlResult<Vec<_>>>()
        })?;
        if let Some((used, id, _)) = rows.last() {
            *cursor = Some((used.clone(), id.clone()));
        }
        let candidate = |(_, id, size)| {
            let Value::Text(id) = id else { return None };
            Some(Candidate { id: self.known_id(&id)?, size })
        };
        Ok(rows.into_iter().map(candidate).collect())
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

    fn is_current(&self, _gate: &HostLockGuard<'_>, modified: Timestamp) -> Result<bool> {
        self.read("read the seal in the index", |connection| match stored_seal(connection) {
            Ok(seal) => Ok(seal == Some(modified) && !self.is_suspect.load(Ordering::Relaxed)),
            Err(error) if connection::is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        })
    }

    fn rebuild(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<Rebuilt> {
        self.read("check the index", |connection| connection::reset_if_damaged(connection, &self.log))?;
        let mut listing = Ok(());
        let rebuilt = self.write("enter what the directory has in the index", PATIENT, gate, |transaction| {
            let rebuilt = rebuild::rebuild(transaction, &self.layout).map_err(|error| match error {
                rebuild::Failure::Index(error) => error,
                rebuild::Failure::Directory(error) => {
                    listing = Err(error);
                    rusqlite::Error::InvalidQuery // ends the transaction; the failure itself is in `listing`
                }
            })?;
            set_seal(transaction, seal.after)?;
            Ok(rebuilt)
        });
        listing?;
        let rebuilt = rebuilt?;
        self.is_suspect.store(false, Ordering::Relaxed);
        Ok(rebuilt)
    }

    fn reseal(&self, gate: &HostLockGuard<'_>, seal: &Seal) -> Result<bool> {
        self.write("seal the index", PATIENT, gate, |transaction| follow(transaction, seal, || Ok(())))
    }

    fn close(&self, gate: &HostLockGuard<'_>) -> Result<()> {
        let written = self.write_uses(gate);
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err((_, error))) = without_size_signal(|| connection.map(Connection::close)) {
            return Err(index_error("close the index", self.layout.database(), &error));
        }
        written.map(drop)
    }

    fn prepare(&self, _file: &File, _path: &Path, _digest: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>, seal: &Seal) -> Result<bool> {
        self.write("enter an image in the index", BRIEF, gate, |transaction| {
            let committed = record.committed.as_seconds();
            let enter = || {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
                     VALUES (?1, ?2, ?2, ?3, 0, ?4)
                     ON CONFLICT (image_id) DO UPDATE SET last_accessed = excluded.last_accessed,
                         last_modified = excluded.last_modified, size = excluded.size, hits = 0, checksum = excluded.checksum",
                )?;
                insert.execute(params![id.as_str(), committed, to_sql(record.size), record.digest]).map(drop)
            };
            follow(transaction, seal, enter)
        })
    }

    fn forget(&self, gate: &HostLockGuard<'_>, ids: &[ImageId], seal: &Seal) -> Result<bool> {
        self.write("drop images from the index", BRIEF, gate, |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM cached_images WHERE image_id = ?1")?;
            follow(transaction, seal, || ids.iter().try_for_each(|id| delete.execute([id.as_str()]).map(drop)))
        })
    }

    fn note_use(&self, gate: &HostLock, id: &ImageId, at: Timestamp) -> Result<bool> {
        self.add_use(gate, id, Use { hits: 0, last_accessed: Some(at) })
    }

    fn note_hit(&self, gate: &HostLock, id: &ImageId, _file: &File) -> Result<()> {
        self.add_use(gate, id, Use { hits: 1, last_accessed: None }).map(drop)
    }

    fn hits(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64> {
        self.try_write_uses(gate);
        let hits: Option<u64> = self.read("read the hits in the index", |connection| {
            connection
                .prepare_cached("SELECT hits FROM cached_images WHERE image_id = ?1")?
                .query_row([id.as_str()], |row| number(row, 0))
                .optional()
        })?;
        Ok(hits.map_or(0, |hits| hits.saturating_add(self.pending_use(id).hits)))
    }

    fn totals(&self, _gate: &HostLockGuard<'_>) -> Result<Totals> {
        self.read("read the totals in the index", |connection| {
            connection
                .prepare_cached("SELECT images, bytes FROM image_cache_state")?
                .query_row([], |row| Ok(Totals { images: number(row, 0)?, bytes: number(row, 1)? }))
        })
    }

    fn list(&self, gate: &HostLockGuard<'_>) -> Result<Vec<CachedImage>> {
        self.try_write_uses(gate);
        let images = self.read("list the images in the index", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT image_id, size, hits, last_accessed, last_modified, checksum FROM cached_images
                 WHERE typeof(image_id) = 'text' ORDER BY image_id",
            )?;
            select.query_map([], cached_image)?.collect::<SqlResult<Vec<_>>>()
        })?;
        let known = images.into_iter().filter_map(|image| {
            let pending = self.pending_use(&self.known_id(&image.image_id)?);
            let accessed = pending.last_accessed.map_or(image.last_accessed, Timestamp::as_nanoseconds);
            Some(CachedImage { hits: image.hits.saturating_add(pending.hits), last_accessed: accessed, ..image })
        });
        Ok(known.collect())
    }

    fn eviction_order(&self, gate: &HostLockGuard<'_>) -> Result<Box<dyn EvictionOrder + '_>> {
        self.try_write_uses(gate);
        Ok(Box::new(ByUse { driver: self, cursor: None, later: BTreeMap::new() }))
    }
}

/// Pages through the index on the order of use.
struct ByUse<'a> {
    driver: &'a SqliteDriver,
    cursor: Option<(Value, Value)>,
    /// Images that were used since, which the index could not be told of.
    later: BTreeMap<(Timestamp, ImageId), Candidate>,
}

impl EvictionOrder for ByUse<'_> {
    fn next_batch(&mut self, count: usize) -> Result<Vec<Candidate>> {
        loop {
            let page = self.driver.candidates_after(&mut self.cursor, count)?;
            if page.is_empty() {
                return Ok(std::iter::from_fn(|| self.later.pop_first()).take(count).map(|(_, one)| one).collect());
            }
            let mut batch = Vec::with_capacity(page.len());
            for candidate in page.into_iter().flatten() {
                match self.driver.pending_use(&candidate.id).last_accessed {
                    Some(used) => drop(self.later.insert((used, candidate.id.clone()), candidate)),
                    None => batch.push(candidate),
                }
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }
}

fn stored_seal(connection: &Connection) -> SqlResult<Option<Timestamp>> {
    let mut select = connection.prepare_cached("SELECT seal FROM image_cache_state")?;
    let seal: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(seal.map(Timestamp::from_nanoseconds))
}

fn set_seal(transaction: &Transaction<'_>, seal: Timestamp) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE image_cache_state SET seal = ?1")?;
    update.execute([seal.as_nanoseconds()]).map(drop)
}

/// Makes a change in a transaction, and takes the seal's time if the index was right before it. (Triggers take the time away
/// at every change of rows, so that those of other programs show.)
fn follow(transaction: &Transaction<'_>, seal: &Seal, change: impl FnOnce() -> SqlResult<()>) -> SqlResult<bool> {
    let was_current = stored_seal(transaction)? == Some(seal.before);
    change()?;
    if was_current {
        set_seal(transaction, seal.after)?;
    }
    Ok(was_current)
}

fn cached_image(row: &Row<'_>) -> SqlResult<CachedImage> {
    Ok(CachedImage {
        // Bytes that are not UTF-8 are no image's id.
        image_id: row.get_ref(0)?.as_str().unwrap_or_default().to_owned(),
        size: number(row, 1)?,
        hits: number(row, 2)?,
        last_accessed: time(row, 3)?,
        last_modified: time(row, 4)?,
        digest: digest(row.get::<_, Value>(5)?),
    })
}

/// The digest in Glance's column: ours have the algorithm with them, a bare one of 32 digits is an MD5.
fn digest(checksum: Value) -> Option<String> {
    let Value::Text(text) = checksum else { return None };
    let text = if text.contains(':') { text } else { format!("md5:{text}") };
    is_well_formed(&text).then_some(text)
}

/// SQLite's integers are signed; no file is longer than that.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count. What another program wrote can be anything.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates, and NaN becomes 0")]
fn number(row: &Row<'_>, column: usize) -> SqlResult<u64> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => u64::try_from(number).unwrap_or(0),
        ValueRef::Real(number) => number as u64,
        _ => 0,
    })
}

/// A time, in nanoseconds. What another program wrote can be anything.
#[allow(clippy::cast_precision_loss, reason = "no time has so many seconds")]
fn time(row: &Row<'_>, column: usize) -> SqlResult<i64> {
    let seconds = match row.get_ref(column)? {
        ValueRef::Integer(seconds) => seconds as f64,
        ValueRef::Real(seconds) => seconds,
        _ => 0.0,
    };
    Ok(Timestamp::from_seconds(seconds).as_nanoseconds())
}

/// A full disk is told apart: the caller can do something about it.
fn index_error(operation: &'static str, path: &Path, error: &rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        return Error::system(operation, path, Errno::NOSPC);
    }
    Error::Index { operation, path: path.to_owned(), cause: error.to_string() }
}
