//! What the directory alone yields: totals, and the order of access by the files' atimes, which the cache sets at every open.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::index::driver::{Candidate, EvictionOrder, Totals};
use crate::index::future;
use crate::log::{Log, SkippedErrors};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::memory;
use crate::sys::stat::FileStat;

/// The totals of all images that can be stat'ed.
pub(crate) fn totals(layout: &Layout, log: &Log) -> Result<Totals> {
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
pub(super) fn eviction_order<'a>(layout: &Layout, log: &Log, opened: Instant) -> Result<Box<dyn EvictionOrder + 'a>> {
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
    Ok(Box::new(Sorted { totals, images: images.into_iter(), skipped: skipped.into_first() }))
}

struct Sorted {
    totals: Totals,
    images: std::vec::IntoIter<(ImageId, FileStat)>,
    skipped: Option<Error>,
}

impl EvictionOrder for Sorted {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn next_batch(&mut self, _lock: &CacheLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        Ok(self.images.by_ref().take(count).map(|(id, stat)| Candidate { id, size: stat.size }).collect())
    }

    fn skipped(&self) -> Option<Error> {
        self.skipped.clone()
    }
}
