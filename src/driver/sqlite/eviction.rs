//! The order of eviction: pages of the index on the order of use, put right by the access times of the files.
//!
//! Uses can reach the index late (see `driver::uses`), those of other processes in particular; the file's access time is set at
//! once. So each candidate's file is looked at: one that was used since what the index says takes its place among the later
//! ones, in the index as well, so that the next prune finds it there.
//!
//! Only times that a cache set count, and not what the kernel notes of itself when another program reads, a backup say, or when
//! a file is copied: a time of use has a mark (see `system::time`), and setting it changes the file's time of change as well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use rusqlite::params;
use rusqlite::types::{Value, ValueRef};

use crate::core::image_id::ImageId;
use crate::core::layout::Place;
use crate::driver::sqlite::rows::{number, timestamp, to_sql};
use crate::driver::sqlite::{NOW, SqlResult, SqliteDriver};
use crate::driver::{Candidate, EvictionOrder, Totals};
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

/// What the index stores of a time is exact to less than that.
const ROUNDING: Duration = Duration::from_micros(1);

/// How much later than the file's time of change a time that was set can be: the kernel takes the latter from a clock that goes
/// in steps.
const STEP: Duration = Duration::from_millis(20);

/// A row of the index that names an image.
struct Row {
    used: Timestamp,
    candidate: Candidate,
}

/// Pages through the index.
pub(super) struct ByUse<'a> {
    driver: &'a SqliteDriver,
    totals: Totals,
    cursor: Option<(Value, Value)>,
    /// What was read of the index, and is not handed out yet.
    rows: VecDeque<Row>,
    /// Images that were used later than the index says, each in its place.
    later: BTreeMap<(Timestamp, ImageId), Candidate>,
    /// Those of them that may be met again in the index.
    moved: BTreeSet<ImageId>,
    /// Those that were used again after that.
    used_again: BTreeSet<ImageId>,
}

impl<'a> ByUse<'a> {
    pub fn new(driver: &'a SqliteDriver, totals: Totals) -> Self {
        Self {
            driver,
            totals,
            cursor: None,
            rows: VecDeque::new(),
            later: BTreeMap::new(),
            moved: BTreeSet::new(),
            used_again: BTreeSet::new(),
        }
    }

    /// The next one of `later` that was not used after `bound`. One that was used again since it came there gets a later place,
    /// once: the cache is to come within its limit though its images are in use.
    fn due(&mut self, gate: &HostLockGuard<'_>, bound: Option<Timestamp>) -> Option<Candidate> {
        loop {
            let first = self.later.first_entry()?;
            if bound.is_some_and(|bound| first.key().0 > bound) {
                return None;
            }
            let ((used, _), candidate) = first.remove_entry();
            match self.driver.used_after(gate, &candidate.id, used) {
                Some(again) if self.used_again.insert(candidate.id.clone()) => {
                    self.later.insert((again, candidate.id.clone()), candidate);
                }
                _ => return Some(candidate),
            }
        }
    }
}

impl EvictionOrder for ByUse<'_> {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn missed(&self) -> Option<Error> {
        self.driver.missed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next_batch(&mut self, gate: &HostLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        let mut batch = Vec::with_capacity(count);
        let mut moved = Vec::new();
        while batch.len() < count {
            if self.rows.is_empty()
                && let Some(page) = self.driver.candidates_after(gate, &mut self.cursor, count)?
            {
                self.rows.extend(page);
                continue;
            }
            let next = self.rows.front().map(|row| row.used);
            if let Some(candidate) = self.due(gate, next) {
                batch.push(candidate);
                continue;
            }
            let Some(Row { used, candidate }) = self.rows.pop_front() else { break };
            if self.moved.contains(&candidate.id) {
                continue;
            }
            match self.driver.used_after(gate, &candidate.id, used) {
                Some(at) => {
                    moved.push((candidate.id.clone(), at));
                    self.moved.insert(candidate.id.clone());
                    self.later.insert((at, candidate.id.clone()), candidate);
                }
                None => batch.push(candidate),
            }
        }
        self.driver.correct_uses(gate, &moved);
        Ok(batch)
    }
}

impl SqliteDriver {
    /// When the image was used, if that was after `known`.
    fn used_after(&self, gate: &HostLockGuard<'_>, id: &ImageId, known: Timestamp) -> Option<Timestamp> {
        // One that cannot be examined has the place that it has.
        let Facts { accessed, changed, .. } = self.layout.examine(Place::Cached, id).ok()?.image()?;
        let was_set = accessed.may_be_of_a_use() && (accessed <= changed || accessed.distance(changed) <= STEP);
        // A time in the future, by a clock that was set back, says nothing.
        let accessed = (was_set && accessed <= Timestamp::now()).then_some(accessed);
        let used = accessed.max(self.uses.of(gate, id).last_accessed)?;
        (used > known && used.distance(known) > ROUNDING).then_some(used)
    }

    /// Enters later uses in the index, which can do without: it costs the next prune a look at these files.
    fn correct_uses(&self, gate: &HostLockGuard<'_>, uses: &[(ImageId, Timestamp)]) {
        if uses.is_empty() {
            return;
        }
        let corrected = self.write("correct the order of use in the index", NOW, gate, |transaction| {
            let mut update =
                transaction.prepare_cached("UPDATE cached_images SET last_accessed = ?2 WHERE image_id = ?1")?;
            uses.iter().try_for_each(|(id, at)| update.execute(params![id.as_str(), at.as_seconds()]).map(drop))
        });
        if let Err(error) = corrected {
            self.log.warning(|| error.to_string());
        }
    }

    /// The next rows in the order of eviction, after the one at the cursor; `None` at the end. Rows that name no image are passed
    /// over.
    fn candidates_after(
        &self,
        _gate: &HostLockGuard<'_>,
        cursor: &mut Option<(Value, Value)>,
        count: usize,
    ) -> Result<Option<Vec<Row>>> {
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
        let Some((used, id, _)) = rows.last() else { return Ok(None) };
        *cursor = Some((used.clone(), id.clone()));
        let row = |(used, id, size)| {
            let Value::Text(id) = id else { return None };
            Some(Row { used: timestamp(ValueRef::from(&used)), candidate: Candidate { id: self.known_id(&id)?, size } })
        };
        Ok(Some(rows.into_iter().filter_map(row).collect()))
    }
}
