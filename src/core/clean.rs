//! Removing what failed and what stalled.

use std::time::Duration;

use crate::core::image_id::ImageId;
use crate::core::layout::Place;
use crate::core::log::Missed;
use crate::core::shared::Shared;
use crate::error::Result;
use crate::system::directory::Facts;
use crate::system::time::Timestamp;

impl Shared {
    /// Empties `invalid/` and removes the incomplete files to which nothing was written for `stall_time`. How many there
    /// were. A writer that lives loses its file.
    pub fn clean(&self, stall_time: Duration) -> Result<u64> {
        let mut missed = Missed::new(&self.log);
        let mut removed = 0;
        for (id, _) in self.layout.images(Place::Invalid)? {
            removed += u64::from(missed.note(self.remove_invalid(&id)).unwrap_or(false));
        }
        for (id, facts) in self.layout.images(Place::Incomplete)? {
            let cleaned =
                facts.and_then(|facts| Ok(has_stalled(&facts, stall_time) && self.remove_stalled(&id, stall_time)?));
            removed += u64::from(missed.note(cleaned).unwrap_or(false));
        }
        missed.outcome(removed)
    }

    fn remove_invalid(&self, id: &ImageId) -> Result<bool> {
        self.layout.remove(&self.gate.acquire()?, Place::Invalid, id)
    }

    fn remove_stalled(&self, id: &ImageId, stall_time: Duration) -> Result<bool> {
        let gate = self.gate.acquire()?;
        // Under the gate the name may be another writer's by now.
        let facts = self.layout.examine(Place::Incomplete, id)?.image();
        if !facts.is_some_and(|facts| has_stalled(&facts, stall_time)) {
            return Ok(false);
        }
        self.log.info(|| format!("nothing was written to image '{id}' for {stall_time:?}: it is cleaned away"));
        self.layout.remove(&gate, Place::Incomplete, id)
    }
}

/// Whether nothing was written for that long. A time in the future, by a clock that was set back, is as far away.
fn has_stalled(facts: &Facts, stall_time: Duration) -> bool {
    facts.modified.distance(Timestamp::now()) >= stall_time
}
