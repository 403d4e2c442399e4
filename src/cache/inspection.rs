//! The inspection of an image before it is published: by its format, and by the caller's inspector.
//!
//! It reads the cache's own file, after size and digests were checked. Nothing is locked meanwhile that other images, or readers, need: an
//! inspector may take any time. A writer that has all its bytes does not stall, and the other streams of a fetch that wait for
//! an inspector end after their source time-out at the latest. A process that dies here leaves the file of a dead writer, or a fetch with
//! a verdict, which is inspected again before another process publishes it.

use std::fs::File;

use crate::cache::inner::CacheInner;
use crate::error::{Error, Result};
use crate::format;
use crate::format::reading::{Failure, Source};
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::file;
use crate::sys::stat::FileStat;

/// The image passed the inspection of this handle. Only [`inspect`] makes one, so nothing is published without it.
pub(crate) struct Inspected(());

impl CacheInner {
    /// Whether images are inspected.
    pub fn inspects(&self) -> bool {
        self.inspection.formats.is_some() || self.inspection.inspector.is_some()
    }
}

/// Inspects the incomplete file of an image, of that length in bytes.
pub(crate) fn inspect(cache: &CacheInner, id: &ImageId, file: &File, length: u64) -> Result<Inspected> {
    let refused = |why| Error::Refused { image_id: id.to_string(), why };
    if let Some(formats) = cache.inspection.formats {
        format::inspect(&Incomplete { cache, id, file, length }, formats).map_err(|failure| match failure {
            Failure::Unsafe(why) => refused(why),
            Failure::Unread(error) => error,
        })?;
    }
    if let Some(inspector) = &cache.inspection.inspector {
        let own = open_read_only(cache, id, file)?;
        let inspected = inspector.inspect(id.as_str(), &own, length);
        // The kernel may report lost bytes here, and only once.
        file::close_reporting(own, || cache.layout().path(Area::Incomplete, id))?;
        inspected.map_err(refused)?;
    }
    Ok(Inspected(()))
}

struct Incomplete<'a> {
    cache: &'a CacheInner,
    id: &'a ImageId,
    file: &'a File,
    length: u64,
}

impl Source for Incomplete<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        file::read_at(self.file, || self.cache.layout().path(Area::Incomplete, self.id), offset, buffer)
    }
}

/// Opens the incomplete file again: the inspector must not write it, and has an offset of its own.
fn open_read_only(cache: &CacheInner, id: &ImageId, file: &File) -> Result<File> {
    let expected = FileStat::of(file, || cache.layout().path(Area::Incomplete, id))?.id;
    match cache.layout().open_file(Area::Incomplete, id)? {
        Some((own, stat)) if stat.id == expected => Ok(own),
        _ => Err(Error::Lost { image_id: id.to_string(), why: "it was cleaned, or it stalled and was replaced" }),
    }
}
