//! The order of eviction: pages of the index on the order of access, corrected by the files' atimes.
//!
//! Accesses can reach the index late (see `index::pending`), those of other processes in particular; the atime is set at once. So
//! each candidate is stat'ed. One that was accessed later than the index says moves to its place among the later ones, in the
//! index as well, where the next prune finds it.
//!
//! Only atimes that a cache set count, not those that the kernel set when another program read the file (a backup). A cache's
//! atime has a tag (see `sys::time`). Where the file system stores coarser times, only accesses in the index count.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rusqlite::params;
use rusqlite::types::{Value, ValueRef};

use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder, Totals};
use crate::index::future;
use crate::index::pending::PendingAccesses;
use crate::index::sqlite::changes;
use crate::index::sqlite::database::Database;
use crate::index::sqlite::driver::SqliteDriver;
use crate::index::sqlite::rows::{number, timestamp, to_sql};
use crate::index::sqlite::sql::SqlResult;
use crate::log::Log;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
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
            layout: &self.layout,
            database: &self.database,
            log: &self.log,
            pending,
            totals: self.totals(lock)?,
            skipped: self.skipped(),
            cursor: None,
            rows: VecDeque::new(),
            later: BTreeMap::new(),
            moved: BTreeSet::new(),
            accessed_again: BTreeSet::new(),
        }))
    }
}

/// A row of the index that names an image.
struct Row {
    accessed: Timestamp,
    candidate: Candidate,
}

/// Pages through the index.
struct ByAccess<'a> {
    layout: &'a Layout,
    database: &'a Database,
    log: &'a Log,
    pending: &'a PendingAccesses,
    totals: Totals,
    skipped: Option<Error>,
    /// The last row that was read.
    cursor: Option<(Value, Value)>,
    /// Rows that were read, and not returned yet.
    rows: VecDeque<Row>,
    /// Images that were accessed later than the index says, each in its place.
    later: BTreeMap<(Timestamp, ImageId), Candidate>,
    /// Those of them that may be met again in the index.
    moved: BTreeSet<ImageId>,
    /// Those that were accessed again after that.
    accessed_again: BTreeSet<ImageId>,
}

impl ByAccess<'_> {
    /// The next one of `later` that was not accessed after `bound`. One that was accessed again meanwhile gets a later place, but
    /// only once: the cache must come within its limit though its images are in use.
    fn due(&mut self, bound: Option<Timestamp>) -> Option<Candidate> {
        loop {
            let first = self.later.first_entry()?;
            if bound.is_some_and(|bound| first.key().0 > bound) {
                return None;
            }
            let ((accessed, _), candidate) = first.remove_entry();
            match self.accessed_after(&candidate.id, accessed) {
                Some(again) if self.accessed_again.insert(candidate.id.clone()) => {
                    self.later.insert((again, candidate.id.clone()), candidate);
                }
                _ => return Some(candidate),
            }
        }
    }
}

impl EvictionOrder for ByAccess<'_> {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn skipped(&self) -> Option<Error> {
        self.skipped.clone()
    }

    fn next_batch(&mut self, lock: &CacheLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        let mut batch = Vec::with_capacity(count);
        let mut moved = Vec::new();
        while batch.len() < count {
            if self.rows.is_empty()
                && let Some(page) = self.next_page(lock, count)?
            {
                self.rows.extend(page);
                continue;
            }
            let next = self.rows.front().map(|row| row.accessed);
            if let Some(candidate) = self.due(next) {
                batch.push(candidate);
                continue;
            }
            let Some(Row { accessed, candidate }) = self.rows.pop_front() else { break };
            if self.moved.contains(&candidate.id) {
                continue;
            }
            match self.accessed_after(&candidate.id, accessed) {
                Some(at) => {
                    moved.push((candidate.id.clone(), at));
                    self.moved.insert(candidate.id.clone());
                    self.later.insert((at, candidate.id.clone()), candidate);
                }
                None => batch.push(candidate),
            }
        }
        self.correct(lock, &moved);
        Ok(batch)
    }
}

impl ByAccess<'_> {
    /// When the image was accessed, if that was after `known`.
    fn accessed_after(&self, id: &ImageId, known: Timestamp) -> Option<Timestamp> {
        // An image that cannot be stat'ed keeps its place.
        let stat = self.layout.stat(Area::Cached, id).ok()?.image()?;
        let set = Some(stat.accessed).filter(|accessed| accessed.is_access());
        // The clock was set back if a time lies in the future.
        let now = Timestamp::now();
        let times = [set, self.pending.of(id, &stat).last_accessed];
        let accessed = times.into_iter().flatten().filter(|time| *time <= now).max()?;
        (accessed > known && accessed.distance(known) > ROUNDING).then_some(accessed)
    }

    /// Writes later accesses to the index. If that fails, the next prune stats these files again.
    fn correct(&self, lock: &CacheLockGuard<'_>, accesses: &[(ImageId, Timestamp)]) {
        if accesses.is_empty() {
            return;
        }
        let corrected = self.database.write("correct the order of access in the index", lock, |transaction| {
            changes::set_accessed(transaction, accesses)
        });
        if let Err(error) = corrected {
            self.log.warning(|| error.to_string());
        }
    }

    /// The next rows in the order of eviction; `None` at the end. Rows that name no image are skipped.
    fn next_page(&mut self, _lock: &CacheLockGuard<'_>, count: usize) -> Result<Option<Vec<Row>>> {
        // Written so that SQLite searches its index for the first row.
        const AFTER: &str = "SELECT ifnull(last_accessed, 0), image_id, ifnull(size, 0) FROM cached_images
             WHERE ifnull(last_accessed, 0) >= ?1 AND (ifnull(last_accessed, 0) > ?1 OR image_id > ?2)
             ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3";
        const FIRST: &str = "SELECT ifnull(last_accessed, 0), image_id, ifnull(size, 0) FROM cached_images
             ORDER BY ifnull(last_accessed, 0), image_id LIMIT ?3 + 0 * ifnull(?1, ?2)";
        let statement = if self.cursor.is_some() { AFTER } else { FIRST };
        let (accessed, id) = self.cursor.clone().unwrap_or((Value::Integer(0), Value::Integer(0)));
        let rows = self.database.read("read the order of access in the index", |connection| {
            let mut select = connection.prepare_cached(statement)?;
            let rows = select.query_map(params![accessed, id, to_sql(count as u64)], |row| {
                Ok((row.get::<_, Value>(0)?, row.get::<_, Value>(1)?, number(row, 2)?))
            })?;
            rows.collect::<SqlResult<Vec<_>>>()
        })?;
        let Some((accessed, id, _)) = rows.last() else { return Ok(None) };
        self.cursor = Some((accessed.clone(), id.clone()));
        let row = |(accessed, id, size)| {
            let Value::Text(id) = id else { return None };
            let candidate = Candidate { id: self.layout.image_id(&id).ok()?, size };
            Some(Row { accessed: timestamp(ValueRef::from(&accessed)), candidate })
        };
        Ok(Some(rows.into_iter().filter_map(row).collect()))
    }
}
