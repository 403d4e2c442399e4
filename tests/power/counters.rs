//! The counters of a sweep. They show whether the sweep had anything to find.

use std::fmt;
use std::ops::AddAssign;

use crate::check::Found;
use crate::session::Durabilities;

#[derive(Debug, Default, Clone, Copy)]
pub struct Counters {
    pub cuts: usize,
    /// Commits that returned before a cut.
    pub acknowledged: u64,
    pub kept: usize,
    pub whole: usize,
    pub dropped: usize,
    pub resumable: usize,
}

impl Counters {
    /// Whether a failure would have shown: of many cuts, some came after something that they could undo.
    pub fn is_meaningful(&self, durabilities: Durabilities) -> bool {
        const MANY: usize = 40;
        let seen = match durabilities {
            Durabilities::Full => self.kept > 0,
            Durabilities::None => self.dropped > 0,
            Durabilities::Both => self.kept > 0 && self.dropped > 0,
        };
        self.cuts < MANY || seen
    }

    pub fn add(&mut self, found: &Found) {
        self.kept += found.kept;
        self.whole += found.whole;
        self.dropped += found.dropped;
        self.resumable += found.resumable;
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.kept += other.kept;
        self.whole += other.whole;
        self.dropped += other.dropped;
        self.resumable += other.resumable;
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:4} cuts, {:6} commits before them; after them {:5} images there that had to be, {:5} others whole, {:4} dropped by mark, {:4} unfinished streams",
            self.cuts, self.acknowledged, self.kept, self.whole, self.dropped, self.resumable
        )
    }
}
