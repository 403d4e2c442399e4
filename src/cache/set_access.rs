//! Setting how often and when an image was accessed. A take-over needs it: another cache has counted, elsewhere than in this directory.

use crate::cache::catalog::Exactness;
use crate::cache::handle::ImageCache;
use crate::cache::inner::CacheInner;
use crate::cache::query::{is_cached, not_found};
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::file;
use crate::sys::time::Timestamp;

impl ImageCache {
    /// Sets the hits of a cached image, and its last access, in nanoseconds since the Unix epoch; a time in the future becomes the present.
    /// For a take-over: Glance's driver `centralized_db` keeps both in Glance's database.
    ///
    /// This is neither a hit nor an access. Both values are replaced, so a second call with the same values changes nothing. Hits that other
    /// handles have not written yet are added later. The file's access time stays if another user owns the file, and only the hits are set.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Unsupported`] with the xattr driver on overlayfs, which records neither; [`Error::System`] when the
    /// hits cannot be written; and see [`ImageCache`].
    pub fn set_access(&self, image_id: &str, hits: u64, last_accessed: i64) -> Result<()> {
        self.with_id(image_id, |inner, id| set_access(inner, &id, hits, Timestamp::from_nanoseconds(last_accessed)))
    }
}

fn set_access(cache: &CacheInner, id: &ImageId, hits: u64, at: Timestamp) -> Result<()> {
    let wanted = at.max(Timestamp::from_nanoseconds(0)).min(Timestamp::now()).as_access();
    let is_set = CacheInner::patiently(|| {
        let mut at = wanted;
        let lock = cache.catalog.lock_flushed(&cache.lock, Exactness::Full)?;
        lock.check_held()?;
        if !is_cached(cache, id)? {
            return Ok(false);
        }
        // First the file's time: if the index fails, it is as if another program had read the image.
        if cache.layout().may_set_metadata() {
            let Some((file, stat)) = cache.layout().open_file(Area::Cached, id)? else { return Ok(false) };
            match file::set_accessed(&file, || cache.layout().path(Area::Cached, id), at) {
                Err(error) if error.is_denied() => at = stat.accessed,
                set => set?,
            }
        } else if cache.index().reconciled().is_none() {
            return Err(Error::Unsupported("on overlayfs, the xattr driver records no hits and accesses".to_owned()));
        }
        cache.index().set_access(&lock, id, hits, at)
    })?;
    if is_set { Ok(()) } else { Err(not_found(cache, id)) }
}
