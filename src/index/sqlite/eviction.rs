//! The order of eviction: pages of the index on the order of access, corrected by the files' atimes.
//!
//! Accesses can reach the index late (see `index::pending`), those of other processes in particular; the atime is set at once. So
//! each candidate is stat'ed. If it was accessed later than the index says, its row is corrected. It is met again at its new place.
//!
//! Only atimes that a cache set count, not those that the kernel set when another program read the file (a backup). A cache's
//! atime has a tag (see `sys::time`). Where the file system stores coarser times, only accesses in the index count.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use rusqlite::params;
use rusqlite::types::{Value, ValueRef};

use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder, Totals};
use crate::index::future;
use crate::index::pending::PendingAccesses;
use crate::index::sqlite::changes;
use crate::index::sqlite::driver::SqliteDriver;
use crate::index::sqlite::rows::{number, timestamp, to_sql};
use crate::index::sqlite::sql::SqlResult;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::lock::CacheLockGuard;
use crate::sys::time::Timestamp;

/// Times in the index are exact to less than this.
const ROUNDING: Duration = Duration::from_micros(1);

/// How many rows are corrected under one lock.
const BATCH: usize = 64;

impl SqliteDriver {
    /// Replaces up to [`BATCH`] last accesses that lie in the future (see `index::future`), or are no number. False when none is
    /// left.
    pub fn correct_future_accesses(&self, lock: &CacheLockGuard<'_>, pending: &PendingAccesses) -> Result<bool> {
        let bound = future::bound().as_seconds();
        let rows = self.database.read("read the order of access in the index", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT rowid, image_id FROM cached_images WHERE ifnull(last_accessed, 0) > ?1
                 ORDER BY ifnull(last_accessed, 0) LIMIT ?2",
            )?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Value>(1)?));
            select.query_map(params![bound, to_sql(BATCH as u64)], row)?.collect::<SqlResult<Vec<_>>>()
        })?;
        let mut corrected = Vec::with_capacity(rows.len());
        for (row, id) in rows {
            let id = if let Value::Text(id) = id { self.layout.image_id(&id).ok() } else { None };
            let stat = id.as_ref().and_then(|id| self.layout.stat(Area::Cached, id).ok()?.image());
            let accessed = future::estimate(stat.as_ref(), pending.opened());
            if let Some(id) = id {
                future::correct_file(&self.layout, &self.log, &id, accessed);
            }
            corrected.push((row, accessed));
        }
        if !corrected.is_empty() {
            self.database.write("correct the order of access in the index", lock, |transaction| {
                changes::set_row_accessed(transaction, &corrected)
            })?;
        }
        Ok(corrected.len() == BATCH)
    }

    /// The order of eviction. `pending` are accesses that could not be written.
    pub fn eviction_order<'a>(
        &'a self,
        lock: &CacheLockGuard<'_>,
        pending: &'a PendingAccesses,
    ) -> Result<Box<dyn EvictionOrder + 'a>> {
        Ok(Box::new(ByAccess {
            index: self,
            pending,
            totals: self.totals(lock)?,
            cursor: None,
            moved: HashMap::new(),
            uncorrected: VecDeque::new(),
        }))
    }
}

/// A row of the index.
struct Row {
    /// Its place in the order, as it is stored.
    place: (Value, Value),
    accessed: Timestamp,
    /// `None` if its id is no image's.
    candidate: Option<Candidate>,
}

/// How often an image gets a later place in one prune. Prune must reach the limit even if all images are in use.
const MAX_MOVES: u8 = 2;

/// Pages through the index.
struct ByAccess<'a> {
    index: &'a SqliteDriver,
    pending: &'a PendingAccesses,
    totals: Totals,
    /// The place of the last row that was examined.
    cursor: Option<(Value, Value)>,
    /// Images that got a later place, and how often.
    moved: HashMap<ImageId, u8>,
    /// Images that were to get a later place, but the index could not be written. They come last.
    uncorrected: VecDeque<Candidate>,
}

impl EvictionOrder for ByAccess<'_> {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn skipped(&self) -> Option<Error> {
        self.index.skipped()
    }

    fn next_batch(&mut self, lock: &CacheLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        let mut batch = Vec::new();
        while batch.is_empty() {
            let rows = self.next_rows(count)?;
            if rows.is_empty() {
                let count = count.min(self.uncorrected.len());
                return Ok(self.uncorrected.drain(..count).collect());
            }
            let mut later: Vec<(Candidate, Timestamp)> = Vec::new();
            for Row { place, accessed, candidate } in rows {
                // Behind the new place of one, or at it: read again, in its turn.
                if later.iter().any(|(_, at)| *at <= accessed.after(ROUNDING)) {
                    break;
                }
                self.cursor = Some(place);
                let Some(candidate) = candidate else { continue };
                match self.accessed_after(&candidate.id, accessed) {
                    Some(at) if self.may_move(&candidate.id) => later.push((candidate, at)),
                    _ => batch.push(candidate),
                }
            }
            self.correct(lock, later);
        }
        Ok(batch)
    }
}

impl ByAccess<'_> {
    /// When the image was accessed, if that was after `known`.
    fn accessed_after(&self, id: &ImageId, known: Timestamp) -> Option<Timestamp> {
        // An image that cannot be stat'ed keeps its place.
        let stat = self.index.layout.stat(Area::Cached, id).ok()?.image()?;
        let set = Some(stat.accessed).filter(|accessed| accessed.is_access());
        // The clock was set back if a time lies in the future.
        let now = Timestamp::now();
        let times = [set, self.pending.of(id, &stat).last_accessed];
        let accessed = times.into_iter().flatten().filter(|time| *time <= now).max()?;
        (accessed > known && accessed.distance(known) > ROUNDING).then_some(accessed)
    }

    fn may_move(&mut self, id: &ImageId) -> bool {
        let moves = self.moved.entry(id.clone()).or_default();
        *moves += 1;
        *moves <= MAX_MOVES
    }

    /// Writes later accesses to the index.
    fn correct(&mut self, lock: &CacheLockGuard<'_>, later: Vec<(Candidate, Timestamp)>) {
        if later.is_empty() {
            return;
        }
        let corrected = self.index.database.write("correct the order of access in the index", lock, |transaction| {
            changes::set_accessed(transaction, later.iter().map(|(candidate, at)| (&candidate.id, *at)))
        });
        if let Err(error) = corrected {
            self.index.log.warning(|| error.to_string());
            self.uncorrected.extend(later.into_iter().map(|(candidate, _)| candidate));
        }
    }

    /// The next rows in the order of eviction; none at the end.
    fn next_rows(&self, count: usize) -> Result<Vec<Row>> {
        // Written so that SQLite searches its index for the first row.
        const AFTER: &str = "SELECT ifnull(last_accessed, 0), image_id, ifnull(size, 0) FROM cached_images
             WHERE ifnull(last_accessed, 0) >= ?1 AND (ifnull(last_accessed, 0) > ?1 OR image_id > ?2)
             ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3";
        const FIRST: &str = "SELECT ifnull(last_accessed, 0), image_id, ifnull(size, 0) FROM cached_images
             ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3 + 0 * ifnull(?1, ?2)";
        let statement = if self.cursor.is_some() { AFTER } else { FIRST };
        let (accessed, id) = self.cursor.clone().unwrap_or((Value::Integer(0), Value::Integer(0)));
        self.index.database.read("read the order of access in the index", |connection| {
            let mut select = connection.prepare_cached(statement)?;
            let rows = select.query_map(params![accessed, id, to_sql(count as u64)], |row| {
                let place: (Value, Value) = (row.get(0)?, row.get(1)?);
                let id = if let Value::Text(id) = &place.1 { self.index.layout.image_id(id).ok() } else { None };
                let size = number(row, 2)?;
                let accessed = timestamp(ValueRef::from(&place.0));
                let candidate = id.map(|id| Candidate { id, size, accessed });
                Ok(Row { place, accessed, candidate })
            })?;
            rows.collect()
        })
    }
}
