//! Conversions of a row's values. Another program may have written values of any type.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

use crate::digest::algorithm::is_well_formed;
use crate::index::cached_image::CachedImage;
use crate::index::sqlite::sql::SqlResult;
use crate::sys::time::Timestamp;

/// A row of a listing: id, size, hits, last access, last modification, checksum. The rest is not in the index.
pub(super) fn cached_image(row: &Row<'_>) -> SqlResult<CachedImage> {
    Ok(CachedImage {
        // An id that is not UTF-8 becomes empty, which is no image's.
        image_id: row.get_ref(0)?.as_str().unwrap_or_default().to_owned(),
        size: number(row, 1)?,
        hits: number(row, 2)?,
        last_accessed: time(row, 3)?,
        last_modified: time(row, 4)?,
        digest: digest(row.get_ref(5)?),
        pinned_until: 0,
        allocated: 0,
    })
}

/// The digest in Glance's column. Ours begin with the algorithm; a bare one of 32 digits is an MD5.
fn digest(checksum: ValueRef<'_>) -> Option<String> {
    let text = checksum.as_str().ok()?;
    let text = if text.contains(':') { text.to_owned() } else { format!("md5:{text}") };
    is_well_formed(&text).then_some(text)
}

/// SQLite's integers are signed. No file is larger.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count; 0 for a value that is no number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates, and NaN becomes 0")]
pub(super) fn number(row: &Row<'_>, column: usize) -> SqlResult<u64> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => u64::try_from(number).unwrap_or(0),
        ValueRef::Real(number) => number as u64,
        _ => 0,
    })
}

fn time(row: &Row<'_>, column: usize) -> SqlResult<i64> {
    Ok(timestamp(row.get_ref(column)?).as_nanoseconds())
}

/// A time; the epoch for a value that is no number.
#[allow(clippy::cast_precision_loss, reason = "no time has so many seconds")]
pub(super) fn timestamp(seconds: ValueRef<'_>) -> Timestamp {
    Timestamp::from_seconds(match seconds {
        ValueRef::Integer(seconds) => seconds as f64,
        ValueRef::Real(seconds) => seconds,
        _ => 0.0,
    })
}

/// The rows of Glance's table, to be copied.
pub(super) type Rows = Vec<[Value; 6]>;

/// Enters rows.
pub(super) fn insert(connection: &Connection, rows: Rows) -> SqlResult<()> {
    let mut insert = connection.prepare(
        "INSERT OR REPLACE INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    rows.into_iter().try_for_each(|row| insert.execute(params_from_iter(row)).map(drop))
}

/// All rows of a database.
pub(super) fn select(connection: &Connection) -> SqlResult<Rows> {
    let mut select = connection.prepare(
        "SELECT image_id, last_accessed, last_modified, size, hits, checksum FROM cached_images
         WHERE typeof(image_id) = 'text'",
    )?;
    let rows = select.query_map([], |row| {
        // Text that is not UTF-8 becomes NULL.
        let value = |column| row.get::<_, Value>(column).unwrap_or(Value::Null);
        Ok(std::array::from_fn(value))
    })?;
    rows.collect()
}
