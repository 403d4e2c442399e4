//! What the directory alone tells: totals, and the order of use by the files' access times, which the cache sets at every open.

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::driver::{Candidate, EvictionOrder, Totals};
use crate::error::Result;
use crate::system::directory::Facts;
use crate::system::lock::HostLockGuard;

/// Adds all images up.
pub(crate) fn totals(layout: &Layout) -> Result<Totals> {
    layout.images(Place::Cached)?.try_fold(Totals::default(), |totals, image| {
        let (_, facts) = image?;
        Ok(Totals { images: totals.images + 1, bytes: totals.bytes.saturating_add(facts.size) })
    })
}

/// Sorts all images.
pub(crate) fn eviction_order<'a>(layout: &Layout) -> Result<Box<dyn EvictionOrder + 'a>> {
    let mut images = layout.images(Place::Cached)?.collect::<Result<Vec<_>>>()?;
    images.sort_unstable_by(|(id, facts), (other_id, other)| (facts.accessed, id).cmp(&(other.accessed, other_id)));
    Ok(Box::new(Sorted(images.into_iter())))
}

struct Sorted(std::vec::IntoIter<(ImageId, Facts)>);

impl EvictionOrder for Sorted {
    fn next_batch(&mut self, _gate: &HostLockGuard<'_>, count: usize) -> Result<Vec<Candidate>> {
        Ok(self.0.by_ref().take(count).map(|(id, facts)| Candidate { id, size: facts.size }).collect())
    }
}
