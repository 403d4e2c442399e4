//! Making the index agree with the directory, all at once.

use rusqlite::{Transaction, params};

use crate::core::layout::{Layout, Place};
use crate::driver::Rebuilt;
use crate::driver::sqlite::rows::to_sql;
use crate::error::Error;

/// Either the directory or the index cannot be read.
pub(super) enum Failure {
    Directory(Error),
    Index(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error)
    }
}

/// Adopts files that have no row, drops rows that have no file, and corrects sizes, hits and times that cannot be true.
pub(super) fn rebuild(transaction: &Transaction<'_>, layout: &Layout) -> Result<Rebuilt, Failure> {
    transaction.execute_batch(
        "DROP TABLE IF EXISTS temp.image_cache_found;
         CREATE TEMP TABLE image_cache_found
             (image_id TEXT PRIMARY KEY, size INTEGER, accessed REAL, modified REAL) WITHOUT ROWID;",
    )?;
    {
        let mut insert =
            transaction.prepare("INSERT OR REPLACE INTO temp.image_cache_found VALUES (?1, ?2, ?3, ?4)")?;
        for image in layout.images(Place::Cached).map_err(Failure::Directory)? {
            let (id, facts) = image.map_err(Failure::Directory)?;
            let (accessed, modified) = (facts.accessed.as_seconds(), facts.modified.as_seconds());
            insert.execute(params![id.as_str(), to_sql(facts.size), accessed, modified])?;
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
         WHERE NOT EXISTS (SELECT 1 FROM cached_images AS known WHERE known.image_id = found.image_id)",
        [],
    )?;
    // A row of ours has the file's own time of modification: with another one, it is another file, of which nothing is known.
    let replaced = transaction.execute(
        "UPDATE cached_images SET size = found.size, hits = 0, checksum = NULL, last_accessed = found.accessed,
             last_modified = found.modified
         FROM temp.image_cache_found AS found
         WHERE found.image_id = cached_images.image_id AND checksum LIKE '%:%'
             AND ifnull(abs(last_modified - found.modified), 1) > 0.000001",
        [],
    )?;
    let corrected = replaced + transaction.execute(
        "UPDATE cached_images SET
             size = found.size,
             hits = CASE WHEN typeof(hits) = 'integer' AND hits >= 0 THEN hits ELSE 0 END,
             last_accessed = CASE WHEN typeof(last_accessed) IN ('real', 'integer') THEN last_accessed ELSE found.accessed END,
             last_modified = CASE WHEN typeof(last_modified) IN ('real', 'integer') THEN last_modified ELSE found.modified END
         FROM temp.image_cache_found AS found
         WHERE found.image_id = cached_images.image_id
             AND (cached_images.size IS NOT found.size OR typeof(hits) <> 'integer' OR hits < 0
                 OR typeof(last_accessed) NOT IN ('real', 'integer') OR typeof(last_modified) NOT IN ('real', 'integer'))",
        [],
    )?;
    transaction.execute_batch(
        "INSERT OR REPLACE INTO image_cache_state (id, images, bytes)
             SELECT 1, count(*), CAST(total(size) AS INTEGER) FROM cached_images;
         REINDEX cached_images;
         DROP TABLE temp.image_cache_found;",
    )?;
    Ok(Rebuilt { adopted: adopted as u64, dropped: dropped as u64, corrected: corrected as u64 })
}
