//! The xattr driver: everything about an image is on its file. Hits and digest are extended attributes, the last access is the
//! atime, which the cache sets itself, and the last modification is the mtime.
//!
//! There is no index that could disagree with the directory. Queries over all images (totals, listing, order of eviction) scan
//! the directory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::cached_image::CachedImage;
use crate::index::driver::Unwritten;
use crate::index::listing::Listing;
use crate::index::pending::{Access, Accesses};
use crate::log::{Log, LogOnce, SkippedErrors};
use crate::store::attributes::{self, Attribute};
use crate::store::committed;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;
use crate::sys::{attribute, file};

/// The driver.
pub(crate) struct XattrDriver {
    layout: Arc<Layout>,
    log: Log,
    unwritable: LogOnce,
}

impl XattrDriver {
    /// Fails with [`Error::Unsupported`] where the file system has no extended attributes.
    pub fn open(layout: &Arc<Layout>, log: &Log) -> Result<Self> {
        let directory = layout.directory(Area::Cached);
        let failed = |error: std::io::Error| {
            if attribute::is_unsupported(&error) {
                let path = directory.path().display();
                return Error::Unsupported(format!("the file system has no extended attributes: '{path}'"));
            }
            Error::from_io("set an extended attribute of", directory.path(), &error)
        };
        let probed = attributes::set(directory, Attribute::Probe, "1")
            .and_then(|()| attributes::remove(directory, Attribute::Probe));
        match probed.map_err(failed) {
            // Where nothing may be written, reading shows whether there are attributes.
            Err(error) if error.is_not_permitted() => {
                attributes::get(directory, Attribute::Probe).map_err(failed)?;
                log.warning(|| format!("{error}: hits and accesses are not recorded"));
            }
            // A full disk has no room for one more attribute.
            Err(error) if error.is_no_space() => {}
            probed => probed?,
        }
        Ok(Self { layout: Arc::clone(layout), log: log.clone(), unwritable: LogOnce::default() })
    }

    fn attribute_of(&self, file: &File, id: &ImageId, attribute: Attribute) -> Result<Option<String>> {
        attributes::get(file, attribute).map_err(|error| self.unreadable(id, &error))
    }

    fn unreadable(&self, id: &ImageId, error: &std::io::Error) -> Error {
        Error::Index {
            operation: "read an extended attribute of",
            path: self.layout.path(Area::Cached, id),
            cause: error.to_string(),
        }
    }

    /// Adds hits to those on the file, and clears them in `access`. The atime was set when the image was opened. It is set again if
    /// another handle has set an earlier one since.
    fn write_access(&self, id: &ImageId, access: &mut Access) -> Result<()> {
        let Some((file, stat)) = self.layout.open_file(Area::Cached, id)? else { return Ok(()) };
        let path = || self.layout.path(Area::Cached, id);
        if access.hits > 0 {
            let hits = parse_hits(self.attribute_of(&file, id, Attribute::Hits)?).saturating_add(access.hits);
            attributes::set(&file, Attribute::Hits, &hits.to_string())
                .map_err(|error| Error::from_io("set an extended attribute of", &path(), &error))?;
            access.hits = 0;
        }
        // The clock was set back if the time lies in the future.
        match access.last_accessed.map(|at| at.min(Timestamp::now())) {
            Some(at) if stat.accessed < at => match file::set_accessed(&file, path, at) {
                // Only the owner may. This was logged when the image was opened.
                Err(error) if error.is_denied() => Ok(()),
                set => set,
            },
            _ => Ok(()),
        }
    }

    /// Unreadable attributes count as missing, and so do those of an image that is being evicted. `None` when the image is gone.
    fn cached_image(&self, id: &ImageId, stat: &FileStat, skipped: &mut SkippedErrors<'_>) -> Option<CachedImage> {
        let file = match self.layout.open_file(Area::Cached, id) {
            // It is being removed, or will stay.
            Err(error) if error.is_leased() => None,
            opened => match skipped.note(opened) {
                Some(opened) => Some(opened?.0),
                None => None,
            },
        };
        let digest = file.as_ref().and_then(|file| {
            skipped.note(committed::digest(file).map_err(|error| self.unreadable(id, &error))).flatten()
        });
        let mut attribute = |attribute| skipped.note(self.attribute_of(file.as_ref()?, id, attribute)).flatten();
        Some(CachedImage {
            image_id: id.to_string(),
            size: stat.size,
            hits: parse_hits(attribute(Attribute::Hits)),
            last_accessed: stat.accessed.as_nanoseconds(),
            last_modified: stat.modified.as_nanoseconds(),
            digest,
            pinned_until: 0,
            allocated: stat.allocated,
        })
    }

    /// All of an image's metadata is on its file before it gets its final name.
    pub fn prepare(file: &File, path: &Path, digest: Option<&str>, size: u64) -> Result<()> {
        // In this order: both do not fit into an inode of ext4. What comes last is in a block of its own, which images share while it is
        // the same for all of them.
        committed::store(file, digest, size)
            .and_then(|()| attributes::set(file, Attribute::Hits, "0"))
            .map_err(|error| Error::from_io("set an extended attribute of", path, &error))
    }

    /// Adds accesses to those on the files. The cache lock keeps two handles from losing each other's hits.
    pub fn write_accesses(&self, _lock: &CacheLockGuard<'_>, accesses: Accesses) -> Unwritten {
        let mut pending = Accesses::new();
        let mut outcome = Ok(());
        for (file, mut access) in accesses {
            match self.write_access(&file.id, &mut access) {
                Ok(()) => {}
                Err(error) if error.is_not_permitted() => {
                    self.unwritable.note(Err::<(), _>(error), &self.log, |error| {
                        format!("{error}; hits and accesses are not recorded")
                    });
                }
                Err(error) => {
                    // One that is being removed may stay.
                    if !error.is_leased() {
                        outcome = outcome.and(Err(error));
                    }
                    pending.insert(file, access);
                }
            }
        }
        Unwritten { pending, outcome }
    }

    /// Sets the hits of an image. False when there is none.
    pub fn set_hits(&self, _lock: &CacheLockGuard<'_>, id: &ImageId, hits: u64) -> Result<bool> {
        let Some((file, _)) = self.layout.open_file(Area::Cached, id)? else { return Ok(false) };
        let path = || self.layout.path(Area::Cached, id);
        attributes::set(&file, Attribute::Hits, &hits.to_string())
            .map_err(|error| Error::from_io("set an extended attribute of", &path(), &error))?;
        Ok(true)
    }

    /// The hits of an image; 0 when there is none.
    pub fn hits(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<u64> {
        let file = match self.layout.open_file(Area::Cached, id) {
            Ok(Some((file, _))) => file,
            Ok(None) => return Ok(0),
            // It is being removed.
            Err(error) if error.is_leased() => return Ok(0),
            Err(error) => return Err(error),
        };
        self.attribute_of(&file, id, Attribute::Hits).map(parse_hits)
    }

    /// What is on the file of an image; `None` when there is none.
    pub fn image(&self, id: &ImageId) -> Result<Option<CachedImage>> {
        let stat = self.layout.stat(Area::Cached, id)?.image();
        Ok(stat.and_then(|stat| self.cached_image(id, &stat, &mut SkippedErrors::new(&self.log))))
    }

    /// All images, by id. Images that come or go meanwhile may or may not be included.
    pub fn list(&self) -> Result<Listing> {
        let mut skipped = SkippedErrors::new(&self.log);
        let mut listing = Listing::default();
        for id in self.layout.ids(Area::Cached)? {
            let id = id?;
            let stat = skipped.note(self.layout.stat(Area::Cached, &id)).and_then(DirEntry::image);
            if let Some(image) = stat.and_then(|stat| self.cached_image(&id, &stat, &mut skipped)) {
                listing.push(&image)?;
            }
        }
        listing.sort();
        Ok(listing)
    }
}

/// Another program may have written any text.
fn parse_hits(text: Option<String>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
