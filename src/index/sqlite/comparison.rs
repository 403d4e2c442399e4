//! The beginning and the end of a comparison with the directory, and the checks of the index before it.

use crate::error::{Error, Result};
use crate::index::driver::{Comparison, Defect, Examined};
use crate::index::sqlite::changes::{self, Seal, set_seal, stored_seal};
use crate::index::sqlite::driver::{Home, SqliteDriver};
use crate::index::sqlite::sql::is_damage;
use crate::index::sqlite::{compare, connection, examination, schema};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::Stamp;
use crate::sys::time::Timestamp;

impl SqliteDriver {
    /// Reads the whole index, for [`Self::begin_comparison`]: counts its rows, and checks an index that may be damaged. Called without
    /// the cache lock. `None` when the index was written meanwhile, or cannot be read without the lock.
    pub fn examine(&self) -> Option<Examined> {
        match self.home {
            // If it fails, the index is checked under the lock, which reports the failure.
            Home::File => examination::examine(self.database.files(), self.database.is_suspect()).ok().flatten(),
            Home::Memory | Home::Unwritable => None,
        }
    }

    /// Begins a comparison with the directory, which had the stamp `present`, and has `stamp` now. Empties an index that is damaged.
    /// `None` when the index must be examined first, or again; with `is_last`, it is then examined under the lock.
    pub fn begin_comparison(
        &self,
        lock: &CacheLockGuard<'_>,
        present: Stamp,
        stamp: Stamp,
        examined: Option<&Examined>,
        is_last: bool,
    ) -> Result<Option<Comparison>> {
        // Damage that an earlier statement found does not count.
        self.database.take_damage();
        let must_be_examined = !is_last && self.home == Home::File;
        // First, since it fails while another program has the index locked.
        let version = self.version()?;
        let is_suspect = self.database.is_suspect();
        let is_valid = |examined: &&Examined| version == Some(examined.version) && (examined.is_checked || !is_suspect);
        let examined = examined.filter(is_valid);
        if must_be_examined && examined.is_none() && is_suspect {
            return Ok(None);
        }
        self.database.set_suspect(false);
        let began = self.check(is_suspect, examined).and_then(|was_wrong| {
            self.database.write("compare the index with the directory", lock, |transaction| {
                // Another program may have removed the row.
                transaction
                    .execute("INSERT OR IGNORE INTO image_cache_state (id, images, bytes) VALUES (1, 0, 0)", [])?;
                let stored = stored_seal(transaction)?;
                // Unless rows and totals were right for some state of the directory, the totals may be wrong.
                let is_doubtful = is_suspect || was_wrong || stored.is_none_or(|seal| seal.tag != 0);
                let counted = examined.and_then(|examined| examined.totals).filter(|_| !was_wrong);
                let must_count = is_doubtful && counted.is_none();
                if must_count && must_be_examined && !was_wrong && examined.is_none() {
                    return Ok(None);
                }
                if let Some(totals) = counted.filter(|_| is_doubtful) {
                    changes::set_totals(transaction, totals)?;
                }
                compare::remove_ids_that_are_no_text(transaction)?;
                // A running comparison that no other program has disturbed is joined: the end of either one ends both.
                let tag = match stored {
                    Some(seal) if seal.tag != 0 && seal.stamp == present => seal.tag,
                    _ => new_tag(),
                };
                set_seal(transaction, Some(Seal { stamp, tag }))?;
                Ok(Some(Comparison { tag, must_count }))
            })
        });
        began.inspect_err(|_| {
            // The failure itself may have set it.
            if is_suspect {
                self.database.set_suspect(true);
            }
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
        self.set_skipped(skipped);
        Ok(is_current)
    }

    /// Repairs an index whose schema another program changed, or that may be damaged. True when rows and totals may be wrong.
    fn check(&self, is_suspect: bool, examined: Option<&Examined>) -> Result<bool> {
        self.database.read("check the index", |connection| {
            let defect = match examined {
                Some(examined) => examined.defect.as_ref(),
                None if is_suspect => {
                    connection::reset_if_damaged(connection, &self.log)?;
                    None
                }
                None => None,
            };
            if let Some(Defect::Pages(defect)) = defect {
                self.log.warning(|| format!("the index is damaged ({defect}); it is rebuilt"));
                return connection::reset(connection, &self.log).map(|()| true);
            }
            let was_repaired = connection::repair(connection, &self.log)?;
            if let Some(Defect::TableIndexes(defect)) = defect {
                self.log.warning(|| format!("the index is damaged ({defect}); its table's indexes are rebuilt"));
            }
            // The statements use the table's indexes.
            if defect.is_some() || (is_suspect && examined.is_none()) {
                connection.execute_batch("REINDEX cached_images")?;
                return Ok(true);
            }
            Ok(was_repaired)
        })
    }

    /// Identifies what the index contains, after what a killed process left unfinished was rolled back.
    fn version(&self) -> Result<Option<u64>> {
        self.database.read("check the index", |connection| match schema::version(connection) {
            Err(error) if !is_damage(&error) => Err(error),
            _ => Ok(examination::version(self.database.files(), connection).ok().flatten()),
        })
    }
}

/// Distinguishes a comparison from those of other handles. 0 is none.
fn new_tag() -> u16 {
    let [low, high, ..] = (Timestamp::now().as_nanoseconds() >> 8 ^ i64::from(std::process::id()) << 3).to_le_bytes();
    u16::from_le_bytes([low | 1, high])
}
