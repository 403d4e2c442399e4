//! Changes of the index, each within a transaction of its caller.

use rusqlite::{Connection, Transaction, params, params_from_iter};

use crate::index::driver::{Record, Totals};
use crate::index::pending::Accesses;
use crate::index::sqlite::rows::to_sql;
use crate::index::sqlite::sql::SqlResult;
use crate::store::image_id::ImageId;
use crate::store::stamp::{Stamp, StampChange};
use crate::sys::time::Timestamp;

/// How many rows one statement deletes at most.
pub(super) const MAX_IDS: usize = 64;

/// The stamp as the index stores it: with the tag of a comparison that is not finished, or 0.
///
/// It is one number in the column `seal`, where the first version of this library had the directory's mtime. Neither version takes
/// the other's number for a current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    pub stamp: Stamp,
    pub tag: u16,
}

impl Seal {
    fn from_number(number: i64) -> Self {
        let number = number.cast_unsigned();
        let [low, high, ..] = number.to_le_bytes();
        Self { stamp: Stamp::from_number(number >> TAG_BITS), tag: u16::from_le_bytes([low, high]) }
    }

    fn as_number(self) -> i64 {
        (self.stamp.as_number() << TAG_BITS | u64::from(self.tag)).cast_signed()
    }
}

const TAG_BITS: u32 = u64::BITS - Stamp::BITS;

/// `None` when another program changed rows (triggers clear it), or when a contradiction was met.
pub(super) fn stored_seal(connection: &Connection) -> SqlResult<Option<Seal>> {
    let mut select = connection.prepare_cached("SELECT seal FROM image_cache_state WHERE id = 1")?;
    // A value that is no integer was written by another program.
    let number = select.query_row([], |row| Ok(row.get_ref(0)?.as_i64().ok()))?;
    Ok(number.map(Seal::from_number))
}

pub(super) fn set_seal(transaction: &Transaction<'_>, seal: Option<Seal>) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE image_cache_state SET seal = ?1 WHERE id = 1")?;
    update.execute([seal.map(Seal::as_number)]).map(drop)
}

/// Makes a change of rows that belongs to a change of names. If the index had the stamp before it, it gets the one after it. If
/// not, another program changed names meanwhile: the index keeps its stamp, which the directory will never have again.
pub(super) fn follow(
    transaction: &Transaction<'_>,
    change: StampChange,
    work: impl FnOnce() -> SqlResult<()>,
) -> SqlResult<()> {
    let stored = stored_seal(transaction)?;
    work()?;
    let Some(seal) = stored else { return Ok(()) };
    // The triggers have cleared it.
    let next = if seal.stamp == change.before { change.after.map(|stamp| Seal { stamp, ..seal }) } else { Some(seal) };
    set_seal(transaction, next)
}

/// Sets the totals.
pub(super) fn set_totals(transaction: &Transaction<'_>, totals: Totals) -> SqlResult<()> {
    let bytes = i64::try_from(totals.bytes).unwrap_or(-1);
    let mut update = transaction.prepare_cached("UPDATE image_cache_state SET images = ?1, bytes = ?2 WHERE id = 1")?;
    update.execute(params![to_sql(totals.images), bytes]).map(drop)
}

/// Inserts the row of an image, without hits, or replaces a stale one.
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

/// Adds accesses to the rows. Returns those of images without a row, or with one of another length.
pub(super) fn add_accesses(transaction: &Transaction<'_>, accesses: &Accesses) -> SqlResult<Accesses> {
    let now = Timestamp::now();
    let mut update = transaction.prepare_cached(
        // A time in the future, from before the clock was set back, is replaced.
        "UPDATE cached_images SET hits = CASE WHEN typeof(hits) = 'integer'
             THEN min(hits, 9223372036854775807 - ?2) + ?2 ELSE hits END, last_accessed = CASE
             WHEN ?3 IS NULL OR last_accessed BETWEEN ?3 AND ?4 THEN last_accessed ELSE ?3 END
         WHERE image_id = ?1 AND size = ?5",
    )?;
    let mut unknown = Accesses::new();
    for (file, access) in accesses {
        let last = access.last_accessed.map(|at| at.min(now).as_seconds());
        let size = to_sql(file.size);
        if update.execute(params![file.id.as_str(), to_sql(access.hits), last, now.as_seconds(), size])? == 0 {
            unknown.insert(file.clone(), *access);
        }
    }
    Ok(unknown)
}

/// Sets the hits and the last access of an image. False when it has no row.
pub(super) fn set_access(transaction: &Transaction<'_>, id: &ImageId, hits: u64, at: Timestamp) -> SqlResult<bool> {
    let mut update =
        transaction.prepare_cached("UPDATE cached_images SET hits = ?2, last_accessed = ?3 WHERE image_id = ?1")?;
    Ok(update.execute(params![id.as_str(), to_sql(hits), at.as_seconds()])? > 0)
}

/// Sets the last access of images.
pub(super) fn set_accessed<'a>(
    transaction: &Transaction<'_>,
    accesses: impl IntoIterator<Item = (&'a ImageId, Timestamp)>,
) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE cached_images SET last_accessed = ?2 WHERE image_id = ?1")?;
    accesses.into_iter().try_for_each(|(id, at)| update.execute(params![id.as_str(), at.as_seconds()]).map(drop))
}

/// Sets the last access of rows.
pub(super) fn set_row_accessed(transaction: &Transaction<'_>, accesses: &[(i64, Timestamp)]) -> SqlResult<()> {
    let mut update = transaction.prepare_cached("UPDATE cached_images SET last_accessed = ?2 WHERE rowid = ?1")?;
    accesses.iter().try_for_each(|(row, at)| update.execute(params![row, at.as_seconds()]).map(drop))
}
