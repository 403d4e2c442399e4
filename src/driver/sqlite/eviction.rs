//! The order of eviction: pages of the index on the order of use.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use rusqlite::params;
use rusqlite::types::Value;

use crate::core::image_id::ImageId;
use crate::driver::sqlite::rows::{number, to_sql};
use crate::driver::sqlite::{SqlResult, SqliteDriver};
use crate::driver::{Candidate, EvictionOrder, Totals};
use crate::error::{Error, Result};
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

/// Pages through the index.
pub(super) struct ByUse<'a> {
    driver: &'a SqliteDriver,
    totals: Totals,
    cursor: Option<(Value, Value)>,
    /// Images that were used since, which the index could not be told of.
    later: BTreeMap<(Timestamp, ImageId), Candidate>,
}

impl<'a> ByUse<'a> {
    pub fn new(driver: &'a SqliteDriver, totals: Totals) -> Self {
        Self { driver, totals, cursor: None, later: BTreeMap::new() }
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
        loop {
            let page = self.driver.candidates_after(gate, &mut self.cursor, count)?;
            if page.is_empty() {
                return Ok(std::iter::from_fn(|| self.later.pop_first()).take(count).map(|(_, one)| one).collect());
            }
            let mut batch = Vec::with_capacity(page.len());
            for candidate in page.into_iter().flatten() {
                match self.driver.pending_use(gate, &candidate.id).last_accessed {
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

impl SqliteDriver {
    /// The next rows in the order of eviction, after the one at the cursor; `None` for one that names no image.
    fn candidates_after(
        &self,
        _gate: &HostLockGuard<'_>,
        cursor: &mut Option<(Value, Value)>,
        count: usize,
    ) -> Result<Vec<Option<Candidate>>> {
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
}
