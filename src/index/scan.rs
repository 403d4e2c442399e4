//! What the directory alone yields: totals, and the order of access by the files' atimes, which the cache sets at every open.

use std::time::Instant;
use std::vec::IntoIter;

use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder, Totals};
use crate::index::future;
use crate::log::{Log, SkippedErrors};
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::memory;
use crate::sys::stat::FileStat;

/// The totals of all images that can be stat'ed.
pub(super) fn totals(layout: &Layout, log: &Log) -> Result<Totals> {
    let mut skipped = SkippedErrors::new(log);
    Ok(add_up(layout.images(Area::Cached)?.filter_map(|(_, stat)| skipped.note(stat))))
}

fn add_up(images: impl Iterator<Item = FileStat>) -> Totals {
    images.fold(Totals::default(), |totals, stat| Totals {
        images: totals.images + 1,
        bytes: totals.bytes + u128::from(stat.size),
    })
}

/// All images that can be stat'ed, least recently accessed first. `opened`: when the handle was opened.
pub(super) fn eviction_order<'a>(
    layout: &'a Layout,
    log: &Log,
    opened: Instant,
) -> Result<Box<dyn EvictionOrder + 'a>> {
    let mut skipped = SkippedErrors::new(log);
    let bound = future::bound();
    let images = layout.images(Area::Cached)?.filter_map(|(id, stat)| {
        let mut stat = skipped.note(stat)?;
        if stat.accessed > bound {
            stat.accessed = future::estimate(Some(&stat), opened);
            future::correct_file(layout, log, &id, stat.accessed);
        }
        Some(Ok((id, stat)))
    });
    let mut images = memory::collect(images, "sort the images")?;
    images.sort_unstable_by(|(id, stat), (other_id, other)| (stat.accessed, id).cmp(&(other.accessed, other_id)));
    let totals = add_up(images.iter().map(|(_, stat)| *stat));
    let images = images.into_iter();
    Ok(Box::new(Sorted { layout, totals, images, later: Vec::new(), skipped: skipped.into_first() }))
}

struct Sorted<'a> {
    layout: &'a Layout,
    totals: Totals,
    images: IntoIter<(ImageId, FileStat)>,
    /// Images that were accessed or cached again after the scan.
    later: Vec<Candidate>,
    skipped: Option<Error>,
}

impl EvictionOrder for Sorted<'_> {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn next_batch(&mut self, _lock: &CacheLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count
            && let Some((id, stat)) = self.images.next()
        {
            let was_accessed_again = self.was_accessed_again(&id, &stat);
            let candidate = Candidate { id, size: stat.size, accessed: stat.accessed };
            if was_accessed_again {
                memory::push(&mut self.later, candidate, "sort the images")?;
            } else {
                batch.push(candidate);
            }
        }
        // Prune must reach the limit even if all images are in use.
        let left = (count - batch.len()).min(self.later.len());
        batch.extend(self.later.drain(..left));
        Ok(batch)
    }

    fn skipped(&self) -> Option<Error> {
        self.skipped.clone()
    }
}

impl Sorted<'_> {
    /// Whether an image was accessed after the scan, or another one has its name. The cache lock was not held meanwhile.
    fn was_accessed_again(&self, id: &ImageId, stat: &FileStat) -> bool {
        let present = self.layout.stat(Area::Cached, id).ok().and_then(DirEntry::image);
        present.is_some_and(|present| {
            present.id != stat.id || (present.accessed > stat.accessed && present.accessed <= future::bound())
        })
    }
}
