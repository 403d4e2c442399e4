//! The xattr driver: everything about an image is on its file. Hits and digest are extended attributes, the last access is the
//! file's access time, which the cache sets itself, and the last modification its modification time.
//!
//! There is no index, so nothing can disagree with the directory, and no seal is needed: most of the driver's duties are
//! void. What asks for all images (totals, listing, order of eviction) is a scan of the directory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::core::digest::is_well_formed;
use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place, Standing};
use crate::core::log::{Log, Missed};
use crate::driver::attributes::{self, DIGEST, HITS, PROBE};
use crate::driver::listing::sort_ids;
use crate::driver::{CachedImage, Driver, DriverKind, EvictionOrder, Listing, Rebuilt, Record, Seal, Totals, scan};
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::lock::{HostLock, HostLockGuard};
use crate::system::time::Timestamp;

/// The driver.
pub(crate) struct XattrDriver {
    layout: Arc<Layout>,
    log: Log,
}

impl XattrDriver {
    /// Fails with [`Error::Unsupported`] where the file system has no extended attributes.
    pub fn open(layout: &Arc<Layout>, log: &Log) -> Result<Self> {
        let directory = layout.directory(Place::Cached);
        let failed = |error: std::io::Error| Error::from_io("set an extended attribute of", directory.path(), &error);
        let probed = attributes::with_descriptor(directory, |file| {
            attributes::set(file, PROBE, "1")?;
            attributes::remove(file, PROBE)
        });
        let probed = match probed.map_err(failed) {
            // Where nothing may be written, reading says whether there are any.
            Err(error) if error.is_not_permitted() => {
                let read = attributes::with_descriptor(directory, |file| attributes::get(file, PROBE));
                read.map_err(failed).map(|_| log.warning(|| format!("{error}: hits and uses are not noted")))
            }
            // A full disk has no room for one more; what has no attributes at all says so.
            Err(error) if error.is_no_space() => Ok(()),
            probed => probed,
        };
        match probed {
            Ok(()) => Ok(Self { layout: Arc::clone(layout), log: log.clone() }),
            Err(error) if error.os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                let path = directory.path().display();
                Err(Error::Unsupported(format!("the file system of '{path}' has no extended attributes")))
            }
            Err(error) => Err(error),
        }
    }

    /// An attribute of a cached image; `None` when the image or the attribute is not there.
    fn attribute(&self, id: &ImageId, name: &str) -> Result<Option<String>> {
        let Some((file, _)) = self.layout.open_file(Place::Cached, id)? else { return Ok(None) };
        self.attribute_of(&file, id, name)
    }

    fn attribute_of(&self, file: &File, id: &ImageId, name: &str) -> Result<Option<String>> {
        attributes::get(file, name).map_err(|error| self.failed("read an extended attribute of", id, &error))
    }

    fn failed(&self, operation: &'static str, id: &ImageId, error: &std::io::Error) -> Error {
        let path = self.layout.path(Place::Cached, id);
        Error::Index { operation, path, cause: error.to_string() }
    }

    /// Attributes that cannot be read say nothing: the image is cached even so. `None` when it is gone.
    fn cached_image(&self, id: &ImageId, facts: &Facts, missed: &mut Missed<'_>) -> Option<CachedImage> {
        let file = match missed.note(self.layout.open_file(Place::Cached, id)) {
            Some(opened) => Some(opened?.0),
            None => None,
        };
        let mut attribute = |name| missed.note(self.attribute_of(file.as_ref()?, id, name)).flatten();
        Some(CachedImage {
            image_id: id.to_string(),
            size: facts.size,
            hits: parse_hits(attribute(HITS)),
            last_accessed: facts.accessed.as_nanoseconds(),
            last_modified: facts.modified.as_nanoseconds(),
            digest: attribute(DIGEST).filter(|text| is_well_formed(text)),
        })
    }
}

impl Driver for XattrDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Xattr
    }

    fn is_current(&self, _gate: &HostLockGuard<'_>, _modified: Timestamp) -> Result<bool> {
        Ok(true)
    }

    fn sealed(&self, _gate: &HostLockGuard<'_>) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    fn rebuild(&self, _gate: &HostLockGuard<'_>, _seal: &Seal) -> Result<Rebuilt> {
        Ok(Rebuilt::default())
    }

    fn reseal(&self, _gate: &HostLockGuard<'_>, _seal: &Seal) -> Result<bool> {
        Ok(false)
    }

    fn close(&self, _gate: &HostLockGuard<'_>, _last: Option<&Seal>) -> Result<()> {
        Ok(())
    }

    /// All of an image's metadata is on its file before it gets its name.
    fn prepare(&self, file: &File, path: &Path, digest: Option<&str>) -> Result<()> {
        attributes::set(file, HITS, "0")
            .and_then(|()| digest.map_or(Ok(()), |digest| attributes::set(file, DIGEST, digest)))
            .map_err(|error| Error::from_io("set an extended attribute of", path, &error))
    }

    fn record(&self, _gate: &HostLockGuard<'_>, _id: &ImageId, _record: &Record<'_>, _seal: &Seal) -> Result<bool> {
        Ok(false)
    }

    fn forget(&self, _gate: &HostLockGuard<'_>, _ids: &[ImageId], _seal: &Seal) -> Result<bool> {
        Ok(false)
    }

    fn note_use(&self, _gate: &HostLock, _id: &ImageId, _facts: &Facts, _at: Timestamp) -> Result<bool> {
        Ok(true) // The access time says it.
    }

    /// Under the gate: two readers that close at once, in two processes, count two hits.
    fn note_hit(&self, gate: &HostLock, id: &ImageId, file: &File, _facts: &Facts) -> Result<()> {
        let _gate = gate.acquire()?;
        let hits = parse_hits(self.attribute_of(file, id, HITS)?).saturating_add(1);
        attributes::set(file, HITS, &hits.to_string())
            .map_err(|error| self.failed("set an extended attribute of", id, &error))
    }

    fn hits(&self, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64> {
        Ok(parse_hits(self.attribute(id, HITS)?))
    }

    fn totals(&self, _gate: &HostLockGuard<'_>) -> Result<Totals> {
        scan::totals(&self.layout, &self.log)
    }

    /// Sorted are the ids, which are short, rather than the images.
    fn list(&self, _gate: &HostLockGuard<'_>) -> Result<Listing> {
        let mut missed = Missed::new(&self.log);
        let ids = sort_ids(self.layout.ids(Place::Cached)?.map(|id| id.map(ImageId::into_string)))?;
        let images = ids.filter_map(|id| {
            let id = self.layout.image_id(&id).ok()?;
            let facts = missed.note(self.layout.examine(Place::Cached, &id)).and_then(Standing::image)?;
            self.cached_image(&id, &facts, &mut missed)
        });
        Ok(images.collect())
    }

    fn eviction_order(&self, _gate: &HostLockGuard<'_>) -> Result<Box<dyn EvictionOrder + '_>> {
        scan::eviction_order(&self.layout, &self.log)
    }
}

/// Another program may have written anything.
fn parse_hits(text: Option<String>) -> u64 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
