//! Removing cached images by name.

use crate::core::layout::Place;
use crate::core::shared::{Fate, Shared};
use crate::error::Result;

/// How many images are removed in one stay in the gate.
pub(crate) const BATCH: usize = 64;

impl Shared {
    /// Removes one image, if it is there.
    pub fn delete_cached(&self, image_id: &str) -> Result<()> {
        let id = self.image_id(image_id)?;
        let gate = self.gate.acquire()?;
        let removal = self.remove_cached(&gate, &[id])?;
        drop(gate);
        removal.outcome
    }

    /// Removes every image that is cached now; how many there were.
    pub fn delete_all_cached(&self) -> Result<u64> {
        // One that cannot be examined fails below, after which the others are gone.
        let ids: Vec<_> = self.layout.images(Place::Cached)?.map(|(id, _)| id).collect();
        let mut deleted = 0;
        let mut outcome = Ok(());
        for batch in ids.chunks(BATCH) {
            let removal = self.remove_cached(&self.gate.acquire()?, batch)?;
            deleted += removal.fates.iter().filter(|fate| matches!(fate, Fate::Removed { .. })).count() as u64;
            outcome = outcome.and(removal.outcome);
        }
        outcome.map(|()| deleted)
    }
}
