//! Reading the rows of a listing, in parts.

use rusqlite::OptionalExtension;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::error::Result;
use crate::index::cached_image::CachedImage;
use crate::index::listing::Listing;
use crate::index::sqlite::driver::SqliteDriver;
use crate::index::sqlite::rows::cached_image;
use crate::store::image_id::ImageId;
use crate::store::lock::CacheLockGuard;

/// How many images are listed each time that the cache lock is held.
const PART: usize = 256;

const ALL: &str = "SELECT image_id, size, hits, last_accessed, last_modified, checksum FROM cached_images";

impl SqliteDriver {
    /// The row of an image; `None` when there is none.
    pub fn image(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<Option<CachedImage>> {
        self.database.read("look up the image in the index", |connection| {
            connection
                .prepare_cached(&format!("{ALL} WHERE image_id = ?1"))?
                .query_row([id.as_str()], cached_image)
                .optional()
        })
    }

    /// Appends a part of the images to a listing, in the order of ids: those after the id `after`. Returns the last id, unless that
    /// was the end.
    pub fn list_part(
        &self,
        _lock: &CacheLockGuard<'_>,
        after: Option<&[u8]>,
        listing: &mut Listing,
    ) -> Result<Option<Vec<u8>>> {
        // Every text is before every blob.
        let begin = if after.is_some() { "image_id > ?1" } else { "image_id >= ?1" };
        let statement = format!("{ALL} WHERE {begin} AND image_id < x'' ORDER BY image_id LIMIT {PART}");
        self.database.read("list the images in the index", |connection| {
            let mut select = connection.prepare_cached(&statement)?;
            let mut rows = select.query([ToSqlOutput::Borrowed(ValueRef::Text(after.unwrap_or_default()))])?;
            let (mut count, mut last) = (0, None);
            while let Some(row) = rows.next()? {
                count += 1;
                let image = cached_image(row)?;
                // Another program may have written rows with ids that are not valid.
                if self.layout.image_id(&image.image_id).is_ok()
                    && let Err(error) = listing.push(&image)
                {
                    return Ok(Err(error));
                }
                if count == PART {
                    last = row.get_ref(0)?.as_bytes().ok().map(<[u8]>::to_vec);
                }
            }
            Ok(Ok(last))
        })?
    }
}
