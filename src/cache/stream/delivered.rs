//! What a stream has delivered, for the statistics.

use crate::cache::counters::{Counter, Counters};

/// The bytes of one stream, except those of a cached image, which its reader counts.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub bytes: u64,
    /// How many bytes its own source has returned, delivered or not.
    pub of_own_source: u64,
}

impl Delivered {
    /// Counts them at the stream's end.
    pub fn count(&self, counters: &Counters) {
        counters.add(Counter::BytesServed, self.bytes);
        let followed = self.bytes.saturating_sub(self.of_own_source);
        if followed > 0 {
            counters.add(Counter::StreamsFollowed, 1);
            counters.add(Counter::BytesNotFetched, followed);
        }
    }
}
