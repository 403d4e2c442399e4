//! Makes the index agree with the directory, in one transaction.

use rusqlite::{Transaction, params};

use crate::digest::algorithm::is_well_formed;
use crate::error::Error;
use crate::index::driver::Rebuilt;
use crate::index::sqlite::rows::to_sql;
use crate::log::{Log, SkippedErrors};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::sys::time::Timestamp;

/// The directory or the index cannot be read.
pub(super) enum Failure {
    Directory(Error),
    Index(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error)
    }
}

/// Inserts rows for files without one, deletes rows without a file, and corrects sizes, hits and times that cannot be right.
///
/// An image that cannot be stat'ed keeps its row. The first of these failures is returned as well.
pub(super) fn rebuild(
    transaction: &Transaction<'_>,
    layout: &Layout,
    log: &Log,
) -> Result<(Rebuilt, Option<Error>), Failure> {
    let mut skipped = SkippedErrors::new(log);
    // The statements below use the table's indexes, so these are repaired first.
    transaction.execute_batch(
        "REINDEX cached_images;
         DROP TABLE IF EXISTS temp.image_cache_found;
         CREATE TEMP TABLE image_cache_found
             (image_id TEXT PRIMARY KEY, size INTEGER, accessed REAL, modified REAL, is_vague INTEGER, digest TEXT)
             WITHOUT ROWID;",
    )?;
    {
        let mut insert =
            transaction.prepare("INSERT OR REPLACE INTO temp.image_cache_found VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for (id, stat) in layout.images(Area::Cached).map_err(Failure::Directory)? {
            let stat = skipped.note(stat);
            let (accessed, modified) = (stat.map(|stat| stat.accessed), stat.map(|stat| stat.modified));
            // With times of whole seconds, another file can have the same one. The digest on the file decides.
            let is_vague = modified.is_some_and(Timestamp::is_whole_second);
            let digest = if is_vague { digest_on_file(layout, &id) } else { None };
            insert.execute(params![
                id.as_str(),
                stat.map(|stat| to_sql(stat.size)),
                accessed.map(Timestamp::as_seconds),
                modified.map(Timestamp::as_seconds),
                is_vague,
                digest
            ])?;
        }
    }
    let dropped = transaction.execute(
        "DELETE FROM cached_images
         WHERE image_id IS NULL OR image_id NOT IN (SELECT image_id FROM temp.image_cache_found)",
        [],
    )?;
    let adopted = transaction.execute(
        "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits, checksum)
         SELECT image_id, accessed, modified, size, 0, NULL FROM temp.image_cache_found AS found
         WHERE size IS NOT NULL AND NOT EXISTS (SELECT 1 FROM cached_images AS known WHERE known.image_id = found.image_id)",
        [],
    )?;
    // A row of ours has the file's mtime. A file with another mtime is another file: only what is stored on it is known.
    let replaced = transaction.execute(
        "UPDATE cached_images SET size = found.size, hits = 0, checksum = found.digest, last_accessed = found.accessed,
             last_modified = found.modified
         FROM temp.image_cache_found AS found
         WHERE found.image_id = cached_images.image_id AND found.size IS NOT NULL AND checksum LIKE '%:%'
             AND (ifnull(abs(last_modified - found.modified), 1) > 0.000001 OR found.is_vague AND checksum IS NOT found.digest)",
        [],
    )?;
    let corrected = replaced + transaction.execute(
        "UPDATE cached_images SET
             size = found.size,
             hits = CASE WHEN typeof(hits) = 'integer' AND hits >= 0 THEN hits ELSE 0 END,
             last_accessed = CASE WHEN typeof(last_accessed) IN ('real', 'integer') THEN last_accessed ELSE found.accessed END,
             last_modified = CASE WHEN typeof(last_modified) IN ('real', 'integer') THEN last_modified ELSE found.modified END
         FROM temp.image_cache_found AS found
         WHERE found.image_id = cached_images.image_id AND found.size IS NOT NULL
             AND (cached_images.size IS NOT found.size OR typeof(hits) <> 'integer' OR hits < 0
                 OR typeof(last_accessed) NOT IN ('real', 'integer') OR typeof(last_modified) NOT IN ('real', 'integer'))",
        [],
    )?;
    transaction.execute_batch(
        "DELETE FROM image_cache_state;
         INSERT INTO image_cache_state (id, images, bytes) SELECT 1, count(*),
             CASE WHEN total(size) < 9e18 THEN (SELECT ifnull(sum(size), 0) FROM cached_images) ELSE -1 END FROM cached_images;
         DROP TABLE temp.image_cache_found;",
    )?;
    let rebuilt = Rebuilt { adopted: adopted as u64, dropped: dropped as u64, corrected: corrected as u64 };
    Ok((rebuilt, skipped.into_first()))
}

/// The digest that a commit stored on the file, if there is one.
fn digest_on_file(layout: &Layout, id: &ImageId) -> Option<String> {
    let (file, _) = layout.open_file(Area::Cached, id).ok()??;
    attributes::get(&file, Attribute::Digest).ok()?.filter(|digest| is_well_formed(digest))
}
