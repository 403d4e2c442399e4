//! What the driver changes in the index, each within a transaction of its caller.

use rusqlite::{Connection, Transaction, params, params_from_iter};

use crate::index::driver::Record;
use crate::index::pending::Accesses;
use crate::index::sqlite::rows::to_sql;
use crate::index::sqlite::sql::SqlResult;
use crate::store::image_id::ImageId;
use crate::store::stamp::DirectoryStamp;
use crate::sys::time::Timestamp;

/// How many rows one statement deletes at most.
pub(super) const MAX_IDS: usize = 64;

pub(super) fn stored_stamp(connection: &Connection) -> SqlResult<Option<Timestamp>> {
    let mut select = connection.prepare_cached("SELECT seal FROM image_cache_state WHERE id = 1")?;
    // A value that is no integer was written by another program.
    let stamp = select.query_row([], |row| Ok(row.get_ref(0)?.as_i64().ok()))?;
    Ok(stamp.map(Timestamp::from_nanoseconds))
}

pub(super) fn set_stamp(transaction: &Transaction<'_>, stamp: Option<Timestamp>) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE image_cache_state SET seal = ?1 WHERE id = 1")?;
    update.execute([stamp.map(Timestamp::as_nanoseconds)]).map(drop)
}

/// Makes a change. If the index was current before it, stores the new stamp, and returns true. If not, the index keeps its
/// stamp, which the directory will never have again. (A trigger clears the stamp at every change of rows, so that changes by other
/// programs are noticed.)
pub(super) fn follow(
    transaction: &Transaction<'_>,
    stamp: &DirectoryStamp,
    change: impl FnOnce() -> SqlResult<()>,
) -> SqlResult<bool> {
    let stored = stored_stamp(transaction)?;
    let was_current = stored == Some(stamp.before);
    change()?;
    if let Some(stored) = stored {
        set_stamp(transaction, Some(if was_current { stamp.after } else { stored }))?;
    }
    Ok(was_current)
}

/// Inserts the row of an image, or replaces a stale one.
pub(super) fn insert(transaction: &Transaction<'_>, id: &ImageId, record: &Record<'_>) -> SqlResult<()> {
    let (committed, modified) = (record.committed.as_seconds(), record.modified.as_seconds());
    let mut insert = transaction.prepare_cached(
        "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
         VALUES (?1, ?2, ?5, ?3, 0, ?4)
         ON CONFLICT (image_id) DO UPDATE SET last_accessed = excluded.last_accessed,
             last_modified = excluded.last_modified, size = excluded.size, hits = 0, checksum = excluded.checksum",
    )?;
    insert.execute(params![id.as_str(), committed, to_sql(record.size), record.digest, modified]).map(drop)
}

/// Deletes up to [`MAX_IDS`] rows with one statement: most of a statement's cost does not depend on its rows.
pub(super) fn delete(transaction: &Transaction<'_>, ids: &[ImageId]) -> SqlResult<()> {
    let count = if ids.len() == 1 { 1 } else { MAX_IDS };
    let placeholders = vec!["?"; count].join(",");
    let mut delete =
        transaction.prepare_cached(&format!("DELETE FROM cached_images WHERE image_id IN ({placeholders})"))?;
    // The remaining placeholders are NULL, which no id equals.
    let texts = ids.iter().map(|id| Some(id.as_str())).chain(std::iter::repeat(None)).take(count);
    delete.execute(params_from_iter(texts)).map(drop)
}

/// Adds accesses to the rows. Returns those of images without a row.
pub(super) fn add_accesses(transaction: &Transaction<'_>, accesses: &Accesses) -> SqlResult<Accesses> {
    let now = Timestamp::now();
    let mut update = transaction.prepare_cached(
        // A time in the future, from before the clock was set back, is replaced.
        "UPDATE cached_images SET hits = CASE WHEN typeof(hits) = 'integer'
             THEN min(hits, 9223372036854775807 - ?2) + ?2 ELSE hits END, last_accessed = CASE
             WHEN ?3 IS NULL OR last_accessed BETWEEN ?3 AND ?4 THEN last_accessed ELSE ?3 END
         WHERE image_id = ?1",
    )?;
    let mut unknown = Accesses::new();
    for (file, access) in accesses {
        let last = access.last_accessed.map(|at| at.min(now).as_seconds());
        if update.execute(params![file.id.as_str(), to_sql(access.hits), last, now.as_seconds()])? == 0 {
            unknown.insert(file.clone(), *access);
        }
    }
    Ok(unknown)
}

/// Sets the last access of images.
pub(super) fn set_accessed(transaction: &Transaction<'_>, accesses: &[(ImageId, Timestamp)]) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE cached_images SET last_accessed = ?2 WHERE image_id = ?1")?;
    accesses.iter().try_for_each(|(id, at)| update.execute(params![id.as_str(), at.as_seconds()]).map(drop))
}

/// Sets the last access of rows.
pub(super) fn set_row_accessed(transaction: &Transaction<'_>, accesses: &[(i64, Timestamp)]) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE cached_images SET last_accessed = ?2 WHERE rowid = ?1")?;
    accesses.iter().try_for_each(|(row, at)| update.execute(params![row, at.as_seconds()]).map(drop))
}
