//! What the directory alone tells: totals, and the order of use by the files' access times, which the cache sets at every open.

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::core::log::{Log, Missed};
use crate::driver::{Candidate, EvictionOrder, Totals};
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::lock::HostLockGuard;

/// Adds all images up that can be examined.
pub(crate) fn totals(layout: &Layout, log: &Log) -> Result<Totals> {
    let mut missed = Missed::new(log);
    Ok(add_up(layout.images(Place::Cached)?.filter_map(|(_, facts)| missed.note(facts))))
}

fn add_up(images: impl Iterator<Item = Facts>) -> Totals {
    images.fold(Totals::default(), |totals, facts| Totals {
        images: totals.images + 1,
        bytes: totals.bytes + u128::from(facts.size),
    })
}

/// Sorts all images that can be examined.
pub(crate) fn eviction_order<'a>(layout: &Layout, log: &Log) -> Result<Box<dyn EvictionOrder + 'a>> {
    let mut missed = Missed::new(log);
    let images = layout.images(Place::Cached)?.filter_map(|(id, facts)| Some((id, missed.note(facts)?)));
    let mut images: Vec<_> = images.collect();
    images.sort_unstable_by(|(id, facts), (other_id, other)| (facts.accessed, id).cmp(&(other.accessed, other_id)));
    let totals = add_up(images.iter().map(|(_, facts)| *facts));
    Ok(Box::new(Sorted { totals, images: images.into_iter(), missed: missed.into_first() }))
}

struct Sorted {
    totals: Totals,
    images: std::vec::IntoIter<(ImageId, Facts)>,
    missed: Option<Error>,
}

impl EvictionOrder for Sorted {
    fn totals(&self) -> Totals {
        self.totals
    }

    fn next_batch(&mut self, _gate: &HostLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        Ok(self.images.by_ref().take(count).map(|(id, facts)| Candidate { id, size: facts.size }).collect())
    }

    fn missed(&self) -> Option<Error> {
        self.missed.clone()
    }
}
