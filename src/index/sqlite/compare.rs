//! Compares rows with a part of the directory, and corrects them.

use std::cmp::Ordering;
use std::collections::VecDeque;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Row, Statement, Transaction, params};

use crate::index::driver::{Corrected, Found, Page, Record};
use crate::index::sqlite::changes;
use crate::index::sqlite::rows::to_sql;
use crate::index::sqlite::sql::SqlResult;
use crate::store::committed;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::sys::stat::FileStat;

/// How many rows are read under one lock at most.
const MAX_ROWS: usize = 256;

/// Times in the index are exact to less than this, in seconds.
const ROUNDING: f64 = 0.000_001;

const COLUMNS: &str = "SELECT rowid, image_id, size, hits, last_accessed, last_modified, checksum FROM cached_images";

/// A row, as far as it is compared.
struct Indexed {
    row: i64,
    /// The text's bytes, which another program may have written.
    id: Vec<u8>,
    size: Value,
    hits: Value,
    accessed: Value,
    modified: Value,
    checksum: Option<String>,
}

impl Indexed {
    fn new(row: &Row<'_>) -> SqlResult<Self> {
        let value = |column| row.get_ref(column).map(to_value);
        Ok(Self {
            row: row.get(0)?,
            id: match row.get_ref(1)? {
                ValueRef::Text(text) => text.to_vec(),
                _ => Vec::new(),
            },
            size: value(2)?,
            hits: value(3)?,
            accessed: value(4)?,
            modified: value(5)?,
            checksum: row.get_ref(6)?.as_str().ok().map(str::to_owned),
        })
    }
}

/// Only numbers matter. Long texts and blobs are not copied.
fn to_value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        _ => Value::Null,
    }
}

fn seconds(value: &Value) -> Option<f64> {
    match value {
        #[allow(clippy::cast_precision_loss, reason = "no time has so many seconds")]
        Value::Integer(number) => Some(*number as f64),
        Value::Real(number) => Some(*number),
        _ => None,
    }
}

/// Removes rows whose id is no text. They are not met in the order of ids.
pub(super) fn remove_ids_that_are_no_text(transaction: &Transaction<'_>) -> SqlResult<u64> {
    let removed = transaction.execute("DELETE FROM cached_images WHERE image_id IS NULL", [])?
        + transaction.execute("DELETE FROM cached_images WHERE image_id >= x'' OR image_id < ''", [])?;
    Ok(removed as u64)
}

/// Corrects the rows of a page. Returns the id up to which it has come, if that is not the page's end.
pub(super) fn compare(
    transaction: &Transaction<'_>,
    layout: &Layout,
    page: &Page<'_>,
    corrected: &mut Corrected,
) -> SqlResult<Option<String>> {
    let mut rows = rows(transaction, page)?;
    let reached = (rows.len() == MAX_ROWS).then(|| rows.back().map(|row| row.id.clone())).flatten();
    let is_here = |found: &&Found| {
        let id = found.id.as_str();
        page.after.is_none_or(|after| id > after)
            && reached.as_ref().is_none_or(|reached| id.as_bytes() <= reached.as_slice())
    };
    let mut found: VecDeque<&Found> = page.found.iter().filter(is_here).collect();
    let comparer = Comparer { transaction, layout };
    loop {
        let order = match (rows.front(), found.front()) {
            (Some(row), Some(found)) => row.id[..].cmp(found.id.as_str().as_bytes()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let row = if order == Ordering::Greater { None } else { rows.pop_front() };
        let found = if order == Ordering::Less { None } else { found.pop_front() };
        corrected.add(comparer.correct(row, found)?);
    }
    // A row whose id is no UTF-8 was removed. What is valid of it is an earlier place to go on from.
    Ok(reached.map(|id| {
        let valid = std::str::from_utf8(&id).map_or_else(|error| error.valid_up_to(), str::len);
        String::from_utf8_lossy(&id[..valid]).into_owned()
    }))
}

/// The first rows of the page.
fn rows(transaction: &Transaction<'_>, page: &Page<'_>) -> SqlResult<VecDeque<Indexed>> {
    const ORDER: &str = "ORDER BY image_id LIMIT ?3";
    let text = |end: Option<&str>| end.unwrap_or_default().to_owned();
    let (after, until) = (text(page.after), text(page.until));
    let begin = if page.after.is_some() { "image_id > ?1" } else { "image_id >= ?1" };
    // Every text is before every blob.
    let end = if page.until.is_some() { "image_id <= ?2" } else { "image_id < x'' AND ?2 IS NOT NULL" };
    let mut select: Statement<'_> = transaction.prepare(&format!("{COLUMNS} WHERE {begin} AND {end} {ORDER}"))?;
    let rows = select.query_map(params![after, until, to_sql(MAX_ROWS as u64)], Indexed::new)?;
    rows.collect()
}

struct Comparer<'a> {
    transaction: &'a Transaction<'a>,
    layout: &'a Layout,
}

impl Comparer<'_> {
    /// Corrects one image's row.
    fn correct(&self, row: Option<Indexed>, found: Option<&Found>) -> SqlResult<Corrected> {
        let nothing = Corrected::default();
        match (row, found) {
            (None, None) => Ok(nothing),
            (Some(row), found) => {
                let id = match found {
                    Some(found) => Some(found.id.clone()),
                    None => std::str::from_utf8(&row.id).ok().and_then(|id| self.layout.image_id(id).ok()),
                };
                let stat = found.and_then(|found| found.stat);
                let Some(id) = id else { return self.drop_row(&row) };
                if stat.is_some_and(|stat| self.differs(&row, &id, &stat).is_none()) {
                    return Ok(nothing);
                }
                // It may have changed since it was stat'ed.
                match self.layout.stat(Area::Cached, &id) {
                    Ok(DirEntry::Image(stat)) => self.correct_row(&row, &id, &stat),
                    Ok(DirEntry::Missing | DirEntry::Foreign) => self.drop_row(&row),
                    // One that could not be stat'ed before is left alone.
                    Err(_) => Ok(Corrected { unsure: u64::from(found.is_none() || stat.is_some()), ..nothing }),
                }
            }
            (None, Some(found)) => match self.layout.stat(Area::Cached, &found.id) {
                Ok(DirEntry::Image(stat)) => {
                    self.enter(&found.id, &stat)?;
                    Ok(Corrected { adopted: 1, ..nothing })
                }
                Ok(DirEntry::Missing | DirEntry::Foreign) => Ok(nothing),
                Err(_) => Ok(Corrected { unsure: u64::from(found.stat.is_some()), ..nothing }),
            },
        }
    }

    /// What differs between a row and the file.
    fn differs(&self, row: &Indexed, id: &ImageId, stat: &FileStat) -> Option<Difference> {
        // A row of ours has the file's mtime. A file with another mtime is another file: only what is stored on it is known.
        if let Some(checksum) = row.checksum.as_ref().filter(|checksum| checksum.contains(':')) {
            let modified = stat.modified.as_seconds();
            let is_other = seconds(&row.modified).is_none_or(|known| (known - modified).abs() > ROUNDING);
            // With times of whole seconds, another file can have the same one. The digest on the file decides.
            let is_other_digest =
                || stat.modified.is_whole_second() && self.digest_on_file(id).is_none_or(|digest| digest != *checksum);
            if is_other || is_other_digest() {
                let is_touched = self.digest_on_file(id).is_some_and(|digest| digest == *checksum);
                return Some(if is_touched { Difference::Touched } else { Difference::OtherFile });
            }
        }
        let has_size = row.size == Value::Integer(to_sql(stat.size));
        let has_hits = matches!(row.hits, Value::Integer(0..));
        let has_times = seconds(&row.accessed).is_some() && seconds(&row.modified).is_some();
        (!has_size || !has_hits || !has_times).then_some(Difference::Values)
    }

    fn correct_row(&self, row: &Indexed, id: &ImageId, stat: &FileStat) -> SqlResult<Corrected> {
        let Some(difference) = self.differs(row, id, stat) else { return Ok(Corrected::default()) };
        let (accessed, modified) = (stat.accessed.as_seconds(), stat.modified.as_seconds());
        let size = to_sql(stat.size);
        match difference {
            Difference::OtherFile => self.enter(id, stat)?,
            // The digest may not be that of bytes that were changed in place.
            Difference::Touched => {
                self.transaction.execute(
                    "UPDATE cached_images SET checksum = CASE WHEN size = ?2 THEN checksum END, size = ?2,
                         hits = CASE WHEN typeof(hits) = 'integer' AND hits >= 0 THEN hits ELSE 0 END,
                         last_accessed = CASE WHEN typeof(last_accessed) IN ('real', 'integer') THEN last_accessed ELSE ?3 END,
                         last_modified = ?4
                     WHERE rowid = ?1",
                    params![row.row, size, accessed, modified],
                )?;
            }
            Difference::Values => {
                self.transaction.execute(
                    "UPDATE cached_images SET size = ?2, hits = CASE WHEN typeof(hits) = 'integer' AND hits >= 0 THEN hits ELSE 0 END,
                         last_accessed = CASE WHEN typeof(last_accessed) IN ('real', 'integer') THEN last_accessed ELSE ?3 END,
                         last_modified = CASE WHEN typeof(last_modified) IN ('real', 'integer') THEN last_modified ELSE ?4 END
                     WHERE rowid = ?1",
                    params![row.row, size, accessed, modified],
                )?;
            }
        }
        Ok(Corrected { changed: 1, ..Corrected::default() })
    }

    /// Enters what is known of a file, in its row or a new one.
    fn enter(&self, id: &ImageId, stat: &FileStat) -> SqlResult<()> {
        let digest = self.digest_on_file(id);
        let FileStat { size, accessed: committed, modified, .. } = *stat;
        changes::insert(self.transaction, id, &Record { size, committed, modified, digest: digest.as_deref() })
    }

    fn drop_row(&self, row: &Indexed) -> SqlResult<Corrected> {
        self.transaction.prepare_cached("DELETE FROM cached_images WHERE rowid = ?1")?.execute([row.row])?;
        Ok(Corrected { dropped: 1, ..Corrected::default() })
    }

    /// The digest that a commit stored on the file, if there is one.
    fn digest_on_file(&self, id: &ImageId) -> Option<String> {
        let (file, _) = self.layout.open_file(Area::Cached, id).ok()??;
        committed::digest(&file).ok()?
    }
}

/// How a row differs from its file.
#[derive(Debug, Clone, Copy)]
enum Difference {
    /// The file is another one.
    OtherFile,
    /// It is the file that was committed, with another mtime: another program set it, or wrote to the file.
    Touched,
    /// Values of the row cannot be right.
    Values,
}
