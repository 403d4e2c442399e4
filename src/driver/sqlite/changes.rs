//! What the driver changes in the index, each in a transaction of its caller's.

use rusqlite::{Connection, Transaction, params, params_from_iter};

use crate::core::image_id::ImageId;
use crate::driver::Seal;
use crate::driver::sqlite::SqlResult;
use crate::driver::sqlite::rows::to_sql;
use crate::driver::uses::Uses;
use crate::system::time::Timestamp;

/// How many rows are deleted with one statement.
pub(super) const DROPPED_AT_ONCE: usize = 64;

pub(super) fn stored_seal(connection: &Connection) -> SqlResult<Option<Timestamp>> {
    let mut select = connection.prepare_cached("SELECT seal FROM image_cache_state WHERE id = 1")?;
    // What is no integer is none of ours.
    let seal = select.query_row([], |row| Ok(row.get_ref(0)?.as_i64().ok()))?;
    Ok(seal.map(Timestamp::from_nanoseconds))
}

pub(super) fn set_seal(transaction: &Transaction<'_>, seal: Option<Timestamp>) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE image_cache_state SET seal = ?1 WHERE id = 1")?;
    update.execute([seal.map(Timestamp::as_nanoseconds)]).map(drop)
}

/// Deletes rows: many with one statement, since most of what a statement costs is not its rows.
pub(super) fn delete(transaction: &Transaction<'_>, ids: &[ImageId]) -> SqlResult<()> {
    let count = if ids.len() == 1 { 1 } else { DROPPED_AT_ONCE };
    let placeholders = vec!["?"; count].join(",");
    let mut delete =
        transaction.prepare_cached(&format!("DELETE FROM cached_images WHERE image_id IN ({placeholders})"))?;
    // No row has no id: what is left over names none.
    let texts = ids.iter().map(|id| Some(id.as_str())).chain(std::iter::repeat(None)).take(count);
    delete.execute(params_from_iter(texts)).map(drop)
}

/// Makes a change in a transaction, and takes the seal's time if the index was right before it. If not, it keeps the time that
/// it has, which the directory will never have again. (Triggers take the time away at every change of rows, so that those of
/// other programs show.)
pub(super) fn follow(
    transaction: &Transaction<'_>,
    seal: &Seal,
    change: impl FnOnce() -> SqlResult<()>,
) -> SqlResult<bool> {
    let stored = stored_seal(transaction)?;
    let was_current = stored == Some(seal.before);
    change()?;
    if let Some(stored) = stored {
        set_seal(transaction, Some(if was_current { seal.after } else { stored }))?;
    }
    Ok(was_current)
}

/// Adds uses and hits to the rows; those of images that have none are returned.
pub(super) fn add_uses(transaction: &Transaction<'_>, uses: &Uses) -> SqlResult<Uses> {
    let now = Timestamp::now();
    let mut update = transaction.prepare_cached(
        // A time in the future, by a clock that was set back, must not stand for ever.
        "UPDATE cached_images SET hits = CASE WHEN typeof(hits) = 'integer'
             THEN min(hits, 9223372036854775807 - ?2) + ?2 ELSE hits END, last_accessed = CASE
             WHEN ?3 IS NULL OR last_accessed BETWEEN ?3 AND ?4 THEN last_accessed ELSE ?3 END
         WHERE image_id = ?1",
    )?;
    let mut unknown = Uses::new();
    for (used, sum) in uses {
        let accessed = sum.last_accessed.map(|at| at.min(now).as_seconds());
        if update.execute(params![used.id.as_str(), to_sql(sum.hits), accessed, now.as_seconds()])? == 0 {
            unknown.insert(used.clone(), *sum);
        }
    }
    Ok(unknown)
}
