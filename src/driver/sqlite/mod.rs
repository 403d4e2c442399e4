//! The SQLite driver: Glance's table, with an index on the order of use and totals kept by triggers, so that no
//! operation's cost grows with the number of images.
//!
//! All writes are made under the cache's gate. SQLite's own busy handler lets writers starve (waits of more than a second
//! were measured with four of them); behind one lock they take turns. A transaction that writes begins as such: one
//! that began by reading could not wait for its turn.

mod connection;
mod rebuild;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use crate::core::digest::is_well_formed;
use crate::core::image_id::ImageId;
use crate::core::layout::Layout;
use crate::core::log::Log;
use crate::driver::{CachedImage, Candidate, Driver, DriverKind, EvictionOrder, Rebuilt, Record, Totals};
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::lock::{HostLock, HostLockGuard};
use crate::system::time::Timestamp;

type SqlResult<T> = rusqlite::Result<T>;

/// The driver. A `Mutex` shares the connection between the threads of a handle.
pub(crate) struct SqliteDriver {
    layout: Arc<Layout>,
    log: Log,
    /// `None` once it was closed.
    connection: Mutex<Option<Connection>>,
    /// Uses and hits that are not in the index yet. They stay until they could be written.
    pending: Mutex<HashMap<ImageId, Use>>,
}

/// How an image was used.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    hits: u64,
    last_accessed: Option<Timestamp>,
}

impl SqliteDriver {
    pub fn open(layout: &Arc<Layout>, log: &Log, _gate: &HostLockGuard<'_>) -> Result<Self> {
        let connection = connection::open(layout.database(), log)?;
        Ok(Self {
            layout: Arc::clone(layout),
            log: log.clone(),
            connection: Mutex::new(Some(connection)),
            pending: Mutex::default(),
        })
    }

    /// Runs `work` on the connection.
    fn read<T>(&self, operation: &'static str, work: impl FnOnce(&mut Connection) -> SqlResult<T>) -> Result<T> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection =
            slot.as_mut().ok_or_else(|| Error::Internal("the index was used after it was closed".to_owned()))?;
        work(connection).map_err(|error| index_error(operation, self.layout.database(), &error))
    }

    /// Runs `work` in a transaction that is all or nothing.
    fn write<T>(
        &self,
        operation: &'static str,
        _gate: &HostLockGuard<'_>,
        work: impl FnOnce(&Transaction<'_>) -> SqlResult<T>,
    ) -> Result<T> {
        self.read(operation, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
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
        let known = self.write("note the use of images", gate, |transaction| {
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

    fn pending(&self) -> MutexGuard<'_, HashMap<ImageId, Use>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next images in the order of eviction, after the one at the cursor.
    fn candidates_after(&self, cursor: &mut Option<(Value, String)>, count: usize) -> Result<Vec<Candidate>> {
        let (used, id) = cursor.clone().unwrap_or((Value::Null, String::new()));
        let rows = self.read("order the images by their use", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT ifnull(last_accessed, 0), image_id, max(0, CAST(ifnull(size, 0) AS INTEGER)) FROM cached_images
                 WHERE ?1 IS NULL OR (ifnull(last_accessed, 0), image_id) > (?1, ?2)
                 ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3",
            )?;
            let rows = select.query_map(params![used, id, to_sql(count as u64)], |row| {
                Ok((row.get::<_, Value>(0)?, row.get::<_, String>(1)?, from_sql(row.get(2)?)))
            })?;
            rows.collect::<SqlResult<Vec<_>>>()
        })?;
        if let Some((used, id, _)) = rows.last() {
            *cursor = Some((used.clone(), id.clone()));
        }
        Ok(rows.into_iter().filter_map(|(_, id, size)| Some(Candidate { id: self.known_id(&id)?, size })).collect())
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

    fn needs_rebuild(&self, directory_modified: Option<Timestamp>) -> Result<bool> {
        self.read("read the state", |connection| {
            match connection.query_row("SELECT seal FROM image_cache_state", [], |row| row.get::<_, Option<i64>>(0)) {
                Ok(seal) => Ok(directory_modified.is_some_and(|modified| seal != Some(modified.as_nanoseconds()))),
                Err(error) if connection::is_damage(&error) => Ok(true),
                Err(error) => Err(error),
            }
        })
    }

    fn rebuild(&self, gate: &HostLockGuard<'_>) -> Result<Rebuilt> {
        self.read("check the whole", |connection| connection::reset_if_damaged(connection, &self.log))?;
        let mut listing = Ok(());
        let rebuilt = self.write("enter what the directory has", gate, |transaction| {
            rebuild::rebuild(transaction, &self.layout).map_err(|error| match error {
                rebuild::Failure::Index(error) => error,
                rebuild::Failure::Directory(error) => {
                    listing = Err(error);
                    rusqlite::Error::QueryReturnedNoRows // ends the transaction; the failure itself is in `listing`
                }
            })
        });
        listing?;
        rebuilt
    }

    fn close(&self, gate: &HostLockGuard<'_>, seal: Option<Timestamp>) -> Result<bool> {
        let written = self.write_uses(gate);
        let sealed = written.is_ok() && seal.is_some();
        if let Some(seal) = seal.filter(|_| sealed) {
            self.write("seal the state", gate, |transaction| {
                transaction.execute("UPDATE image_cache_state SET seal = ?1", [seal.as_nanoseconds()])
            })?;
        }
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err((_, error))) = connection.map(Connection::close) {
            return Err(index_error("close the connection", self.layout.database(), &error));
        }
        written.map(|_| sealed)
    }

    fn prepare(&self, _file: &File, _path: &Path, _digest: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn intend_to_publish(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>) -> Result<()> {
        self.write("note what is about to be published", gate, |transaction| {
            // The final name is free: a row that says otherwise is stale, and must not be taken for the new image's.
            transaction.prepare_cached("DELETE FROM cached_images WHERE image_id = ?1")?.execute([id.as_str()])?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO image_cache_intents (image_id, checksum) VALUES (?1, ?2)")?
                .execute(params![id.as_str(), record.digest])?;
            Ok(())
        })
    }

    fn intend_to_remove(&self, gate: &HostLockGuard<'_>, ids: &[ImageId]) -> Result<()> {
        self.write("note what is about to be removed", gate, |transaction| {
            let mut insert =
                transaction.prepare_cached("INSERT OR REPLACE INTO image_cache_intents (image_id) VALUES (?1)")?;
            ids.iter().try_for_each(|id| insert.execute([id.as_str()]).map(drop))
        })
    }

    fn record(&self, gate: &HostLockGuard<'_>, id: &ImageId, record: &Record<'_>) -> Result<()> {
        self.write("enter an image", gate, |transaction| {
            let committed = record.committed.as_seconds();
            transaction
                .prepare_cached(
                    "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
                     VALUES (?1, ?2, ?2, ?3, 0, ?4)
                     ON CONFLICT (image_id) DO UPDATE SET last_accessed = excluded.last_accessed,
                         last_modified = excluded.last_modified, size = excluded.size, hits = 0, checksum = excluded.checksum",
                )?
                .execute(params![id.as_str(), committed, to_sql(record.size), record.digest])?;
            drop_intent(transaction, id)
        })
    }

    fn adopt(&self, gate: &HostLockGuard<'_>, id: &ImageId, facts: &Facts) -> Result<()> {
        self.write("adopt an image", gate, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
                     VALUES (?1, ?2, ?3, ?4, 0, (SELECT checksum FROM image_cache_intents WHERE image_id = ?1))
                     ON CONFLICT (image_id) DO UPDATE SET size = excluded.size",
                )?
                .execute(params![
                    id.as_str(),
                    facts.accessed.as_seconds(),
                    facts.modified.as_seconds(),
                    to_sql(facts.size)
                ])?;
            drop_intent(transaction, id)
        })
    }

    fn forget(&self, gate: &HostLockGuard<'_>, ids: &[ImageId]) -> Result<()> {
        self.write("drop images", gate, |transaction| {
            let mut delete = transaction.prepare_cached("DELETE FROM cached_images WHERE image_id = ?1")?;
            for id in ids {
                delete.execute([id.as_str()])?;
                drop_intent(transaction, id)?;
            }
            Ok(())
        })
    }

    fn unsettled(&self, _gate: &HostLockGuard<'_>) -> Result<Vec<ImageId>> {
        let texts = self.read("read what is unsettled", |connection| {
            let mut select = connection.prepare_cached("SELECT image_id FROM image_cache_intents")?;
            select.query_map([], |row| row.get::<_, String>(0))?.collect::<SqlResult<Vec<_>>>()
        })?;
        Ok(texts.iter().filter_map(|text| self.known_id(text)).collect())
    }

    fn note_use(&self, gate: &HostLock, id: &ImageId, at: Timestamp) -> Result<bool> {
        self.add_use(gate, id, Use { hits: 0, last_accessed: Some(at) })
    }

    fn note_hit(&self, gate: &HostLock, id: &ImageId, _file: &File) -> Result<()> {
        self.add_use(gate, id, Use { hits: 1, last_accessed: None }).map(drop)
    }

    fn hits(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64> {
        self.write_uses(gate)?;
        let hits = self.read("read the hits", |connection| {
            connection
                .prepare_cached(
                    "SELECT max(0, CAST(ifnull(hits, 0) AS INTEGER)) FROM cached_images WHERE image_id = ?1",
                )?
                .query_row([id.as_str()], |row| row.get(0))
                .optional()
        })?;
        Ok(hits.map_or(0, from_sql))
    }

    fn totals(&self, _gate: &HostLockGuard<'_>) -> Result<Totals> {
        self.read("read the totals", |connection| {
            connection
                .prepare_cached("SELECT images, bytes FROM image_cache_state")?
                .query_row([], |row| Ok(Totals { images: from_sql(row.get(0)?), bytes: from_sql(row.get(1)?) }))
        })
    }

    fn list(&self, gate: &HostLockGuard<'_>) -> Result<Vec<CachedImage>> {
        self.write_uses(gate)?;
        let images = self.read("list the images", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT image_id, max(0, CAST(ifnull(size, 0) AS INTEGER)), max(0, CAST(ifnull(hits, 0) AS INTEGER)),
                     CAST(ifnull(last_accessed, 0) AS REAL), CAST(ifnull(last_modified, 0) AS REAL), checksum
                 FROM cached_images ORDER BY image_id",
            )?;
            select.query_map([], cached_image)?.collect::<SqlResult<Vec<_>>>()
        })?;
        Ok(images.into_iter().filter(|image| self.known_id(&image.image_id).is_some()).collect())
    }

    fn eviction_order(&self, gate: &HostLockGuard<'_>) -> Result<Box<dyn EvictionOrder + '_>> {
        self.write_uses(gate)?;
        Ok(Box::new(ByUse { driver: self, cursor: None }))
    }
}

/// Pages through the index on the order of use.
struct ByUse<'a> {
    driver: &'a SqliteDriver,
    cursor: Option<(Value, String)>,
}

impl EvictionOrder for ByUse<'_> {
    fn next_batch(&mut self, count: usize) -> Result<Vec<Candidate>> {
        self.driver.candidates_after(&mut self.cursor, count)
    }
}

fn drop_intent(transaction: &Transaction<'_>, id: &ImageId) -> SqlResult<()> {
    transaction.prepare_cached("DELETE FROM image_cache_intents WHERE image_id = ?1")?.execute([id.as_str()]).map(drop)
}

fn cached_image(row: &Row<'_>) -> SqlResult<CachedImage> {
    Ok(CachedImage {
        image_id: row.get(0)?,
        size: from_sql(row.get(1)?),
        hits: from_sql(row.get(2)?),
        last_accessed: Timestamp::from_seconds(row.get(3)?).as_nanoseconds(),
        last_modified: Timestamp::from_seconds(row.get(4)?).as_nanoseconds(),
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

/// What another program wrote can be negative.
fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn index_error(operation: &'static str, path: &Path, error: &rusqlite::Error) -> Error {
    Error::Index { operation, path: path.to_owned(), cause: error.to_string() }
}
