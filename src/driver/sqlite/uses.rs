//! Uses and hits on their way into the index. What cannot be written now stays in memory, and is added to what the index says.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::params;

use crate::core::image_id::ImageId;
use crate::core::layout::Place;
use crate::driver::sqlite::rows::to_sql;
use crate::driver::sqlite::{Home, SqliteDriver};
use crate::error::Result;
use crate::system::directory::{Facts, Identity};
use crate::system::lock::{HostLock, HostLockGuard};
use crate::system::time::Timestamp;

/// How long to wait for another program's transaction: a reader has no time for it.
const NOW: Duration = Duration::ZERO;

/// How an image was used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    pub hits: u64,
    pub last_accessed: Option<Timestamp>,
}

/// Which file was used: of an image that is deleted and cached anew, each has uses of its own. An inode's number can be used
/// again, but not with the same time of modification, which is that of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Used {
    id: ImageId,
    identity: Identity,
    modified: Timestamp,
}

impl Used {
    pub fn new(id: &ImageId, facts: &Facts) -> Self {
        Self { id: id.clone(), identity: facts.identity, modified: facts.modified }
    }
}

impl SqliteDriver {
    /// Adds a use to those that are not in the index yet, and writes all of them; true when the index has the image.
    pub(super) fn add_use(&self, gate: &HostLock, used: &Used, one: Use) -> Result<bool> {
        {
            let mut pending = self.pending();
            let sum = pending.entry(used.clone()).or_default();
            sum.hits += one.hits;
            sum.last_accessed = sum.last_accessed.max(one.last_accessed);
        }
        if matches!(self.home, Home::Copy(_)) {
            return Ok(true);
        }
        let known = self.write_uses(&gate.acquire()?)?;
        Ok(known.contains(&used.id))
    }

    /// Writes the uses that are not in the index yet. The images among them that the index has.
    pub(super) fn write_uses(&self, gate: &HostLockGuard<'_>) -> Result<Vec<ImageId>> {
        // Another thread may write what this one added: the lock is held until it is in the index.
        let mut pending = self.pending();
        // What is told of nobody ends with the handle.
        if pending.is_empty() || matches!(self.home, Home::Copy(_)) {
            return Ok(Vec::new());
        }
        // Uses of an image that is gone, and perhaps cached anew, are nobody's. Under the gate this stays true.
        pending.retain(|used, _| self.present(gate, &used.id).map_or(true, |present| present.as_ref() == Some(used)));
        let known = self.write("note the use of images in the index", NOW, gate, |transaction| {
            let now = Timestamp::now().as_seconds();
            let mut update = transaction.prepare_cached(
                // A time in the future, by a clock that was set back, must not stand for ever.
                "UPDATE cached_images SET hits = CASE WHEN hits > 9223372036854775807 - ?2 THEN hits ELSE hits + ?2 END, last_accessed = CASE
                     WHEN ?3 IS NULL OR last_accessed BETWEEN ?3 AND ?4 THEN last_accessed ELSE ?3 END
                 WHERE image_id = ?1",
            )?;
            let mut known = Vec::new();
            for (Used { id, .. }, sum) in pending.iter() {
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
    pub(super) fn try_write_uses(&self, gate: &HostLockGuard<'_>) {
        if let Err(error) = self.write_uses(gate) {
            self.log.warning(|| format!("{error}; it is done later"));
        }
    }

    /// What the index does not know of an image's use.
    pub(super) fn pending_use(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Use {
        let pending = self.pending();
        if pending.is_empty() {
            return Use::default();
        }
        let present = self.present(gate, id).ok().flatten();
        present.and_then(|used| pending.get(&used).copied()).unwrap_or_default()
    }

    /// The file that has the image's name now.
    fn present(&self, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<Option<Used>> {
        let standing = self.layout.examine(Place::Cached, id)?;
        Ok(standing.image().map(|facts| Used::new(id, &facts)))
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<Used, Use>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
