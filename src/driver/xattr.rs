//! The xattr driver: everything about an image is on its file. Hits and digest are extended attributes, the last access is the
//! file's access time, which the cache sets itself, and the last modification its modification time.
//!
//! There is no index, so nothing can disagree with the directory, and no seal is needed: most of the driver's duties are
//! void. What asks for all images (totals, listing, order of eviction) is a scan of the directory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::futimens;
use rustix::io::Errno;

use crate::core::digest::is_well_formed;
use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place, Standing};
use crate::core::log::{Log, Missed, Once};
use crate::driver::attributes::{self, DIGEST, HITS, PROBE};
use crate::driver::listing::sort_ids;
use crate::driver::uses::{Use, Uses, WaitingUses};
use crate::driver::{CachedImage, Driver, DriverKind, EvictionOrder, Listing, Rebuilt, Record, Seal, Totals, scan};
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

/// The driver.
pub(crate) struct XattrDriver {
    layout: Arc<Layout>,
    log: Log,
    /// Hits that are not on the files yet, and times of use.
    uses: WaitingUses,
    /// Whoever may not write is told so once.
    unwritten: Once,
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
            Ok(()) => {
                let uses = WaitingUses::new(layout, true);
                Ok(Self { layout: Arc::clone(layout), log: log.clone(), uses, unwritten: Once::default() })
            }
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

    /// Adds hits to those on the file: what is left to write is left in `one`. The access time is set when an image is opened;
    /// should another handle have set an earlier one after it, the later one counts.
    fn write_use(&self, id: &ImageId, one: &mut Use) -> Result<()> {
        let Some((file, facts)) = self.layout.open_file(Place::Cached, id)? else { return Ok(()) };
        let path = || self.layout.path(Place::Cached, id);
        if one.hits > 0 {
            let hits = parse_hits(self.attribute_of(&file, id, HITS)?).saturating_add(one.hits);
            attributes::set(&file, HITS, &hits.to_string())
                .map_err(|error| Error::from_io("set an extended attribute of", &path(), &error))?;
            one.hits = 0;
        }
        // A time in the future is that of a clock that was set back.
        match one.last_accessed.map(|at| at.min(Timestamp::now())) {
            Some(at) if facts.accessed < at => match futimens(&file, &at.as_access_time()) {
                // The owner alone may: this was told when the image was opened.
                Ok(()) | Err(Errno::PERM | Errno::ACCESS) => Ok(()),
                Err(errno) => Err(Error::system("set the access time of", &path(), errno)),
            },
            _ => Ok(()),
        }
    }

    /// Attributes that cannot be read say nothing: the image is cached even so. `None` when it is gone.
    fn cached_image(&self, id: &ImageId, facts: &Facts, waiting: Use, missed: &mut Missed<'_>) -> Option<CachedImage> {
        let file = match missed.note(self.layout.open_file(Place::Cached, id)) {
            Some(opened) => Some(opened?.0),
            None => None,
        };
        let mut attribute = |name| missed.note(self.attribute_of(file.as_ref()?, id, name)).flatten();
        Some(CachedImage {
            image_id: id.to_string(),
            size: facts.size,
            hits: parse_hits(attribute(HITS)).saturating_add(waiting.hits),
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

    fn close(&self, gate: &HostLockGuard<'_>, _last: Option<&Seal>) -> Result<()> {
        self.write_uses(gate, true)
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

    fn uses(&self) -> &WaitingUses {
        &self.uses
    }

    /// Under the gate: two handles that write at once, in two processes, count the hits of both.
    fn write_uses(&self, gate: &HostLockGuard<'_>, patiently: bool) -> Result<()> {
        if patiently {
            // A disk that was read-only for a while, say.
            self.uses.try_refused_again();
        }
        if !self.uses.are_waiting() {
            return Ok(());
        }
        let (mut failed, mut refused) = (Uses::new(), Uses::new());
        let mut outcome = Ok(());
        for (used, mut one) in self.uses.take(gate) {
            match self.write_use(&used.id, &mut one) {
                Ok(()) => {}
                Err(error) if error.is_not_permitted() => {
                    self.unwritten
                        .note(Err::<(), _>(error), &self.log, |error| format!("{error}; hits and uses are not noted"));
                    refused.insert(used, one);
                }
                Err(error) => {
                    outcome = outcome.and(Err(error));
                    failed.insert(used, one);
                }
            }
        }
        self.uses.refuse(refused);
        self.uses.put_back(failed);
        outcome
    }

    fn hits(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<u64> {
        Ok(parse_hits(self.attribute(id, HITS)?).saturating_add(self.uses.of(gate, id).hits))
    }

    fn totals(&self, _gate: &HostLockGuard<'_>) -> Result<Totals> {
        scan::totals(&self.layout, &self.log)
    }

    /// Sorted are the ids, which are short, rather than the images.
    fn list(&self, gate: &HostLockGuard<'_>) -> Result<Listing> {
        let mut missed = Missed::new(&self.log);
        let ids = sort_ids(self.layout.ids(Place::Cached)?.map(|id| id.map(|id| id.to_string())))?;
        let images = ids.filter_map(|id| {
            let id = self.layout.image_id(&id).ok()?;
            let facts = missed.note(self.layout.examine(Place::Cached, &id)).and_then(Standing::image)?;
            self.cached_image(&id, &facts, self.uses.of(gate, &id), &mut missed)
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
