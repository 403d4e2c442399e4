//! Uses and hits on their way to where the driver keeps them.
//!
//! To write each by itself would cost a busy reader more than everything else that it does, and readers of all processes would
//! wait for each other. So a few are written at once in each second, and what comes beyond them waits in memory and is written
//! together: when somebody asks this handle for it (a listing, hits, prune), when it is closed, and at the latest by the first
//! reader that opens or closes a second after the last writing. Who reads now and then has everything written; a process that is
//! killed loses at most the rest of one busy second. Other handles do not know of what waits, but find the time of the last
//! use on the file itself, where it is set at once.
//!
//! What could not be written stays, and is tried again, later each time: until then a kill takes that as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::image_id::ImageId;
use crate::core::layout::{Layout, Place};
use crate::error::Result;
use crate::system::directory::{Facts, Identity};
use crate::system::lock::HostLockGuard;
use crate::system::time::Timestamp;

/// How long uses wait at most, while there are readers.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often uses are written at once in each such time: of the opening and closing of two readers.
const AT_ONCE: u32 = 4;

/// So many images' uses do not wait any longer: the reader who writes them is to be done within milliseconds.
const MANY: usize = 512;

/// How long what could not be written waits at most.
const LONGEST_POSTPONEMENT: Duration = Duration::from_mins(1);

/// How an image was used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    pub hits: u64,
    pub last_accessed: Option<Timestamp>,
}

impl Use {
    pub fn opened(at: Timestamp) -> Self {
        Self { hits: 0, last_accessed: Some(at) }
    }

    pub fn hit() -> Self {
        Self { hits: 1, last_accessed: None }
    }

    fn add(&mut self, other: Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.last_accessed = self.last_accessed.max(other.last_accessed);
    }
}

/// Which file was used: of an image that is deleted and cached anew, each has uses of its own. An inode's number can be used
/// again, but not with the same time of modification, which is that of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Used {
    pub id: ImageId,
    identity: Identity,
    modified: Timestamp,
}

impl Used {
    fn new(id: &ImageId, facts: &Facts) -> Self {
        Self { id: id.clone(), identity: facts.identity, modified: facts.modified }
    }
}

/// Uses of several images.
pub(crate) type Uses = HashMap<Used, Use>;

fn add_all(sums: &mut Uses, uses: Uses) {
    for (used, one) in uses {
        sums.entry(used).or_default().add(one);
    }
}

/// The uses of one handle that are not written yet.
#[derive(Debug)]
pub(crate) struct WaitingUses {
    layout: Arc<Layout>,
    /// Where they can be written at all. Elsewhere they end with the handle.
    are_written: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    uses: Uses,
    /// Those that nobody lets this process write. They count for those who ask this handle.
    refused: Uses,
    /// Until when few are written at once, and how many more.
    busy_until: Instant,
    at_once: u32,
    /// Until when nothing is written, since it failed, and how long that was.
    postponed: Option<(Instant, Duration)>,
    /// Nobody can ask for them, or come later, any more.
    is_let_go: bool,
}

impl State {
    fn postpone(&mut self) {
        let wait = self.postponed.map_or(LONGEST_WAIT, |(_, wait)| (wait * 2).min(LONGEST_POSTPONEMENT));
        self.postponed = Some((Instant::now() + wait, wait));
    }
}

impl WaitingUses {
    pub fn new(layout: &Arc<Layout>, are_written: bool) -> Self {
        let state = State {
            uses: Uses::new(),
            refused: Uses::new(),
            busy_until: Instant::now(),
            at_once: AT_ONCE,
            postponed: None,
            is_let_go: false,
        };
        Self { layout: Arc::clone(layout), are_written, state: Mutex::new(state) }
    }

    /// The image, whose file has these facts, was used. True when it is time to write.
    pub fn add(&self, id: &ImageId, facts: &Facts, one: Use) -> bool {
        let used = Used::new(id, facts);
        let now = Instant::now();
        let mut state = self.state();
        if let Some(sum) = state.refused.get_mut(&used) {
            sum.add(one);
            return false;
        }
        state.uses.entry(used).or_default().add(one);
        if !self.are_written || state.postponed.is_some_and(|(until, _)| now < until) {
            return false;
        }
        if now >= state.busy_until {
            state.busy_until = now + LONGEST_WAIT;
            state.at_once = AT_ONCE;
        }
        let is_one_of_few = state.at_once > 0;
        state.at_once = state.at_once.saturating_sub(1);
        is_one_of_few || state.is_let_go || state.uses.len() >= MANY
    }

    /// Whether there are some that are to be written.
    pub fn are_waiting(&self) -> bool {
        self.are_written && !self.state().uses.is_empty()
    }

    /// From now on each use is written as it comes.
    pub fn let_go(&self) {
        self.state().is_let_go = true;
    }

    /// Those that this process was not allowed to write are tried once more.
    pub fn try_refused_again(&self) {
        let mut state = self.state();
        let refused = std::mem::take(&mut state.refused);
        add_all(&mut state.uses, refused);
    }

    /// Whether there are none, not even such as will never be written.
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.uses.is_empty() && state.refused.is_empty()
    }

    /// Takes all of them out, to be written under the gate, at which whoever wants to know of them waits; readers go on
    /// meanwhile. Uses of an image that is gone, and perhaps cached anew, are nobody's. Under the gate this stays true.
    pub fn take(&self, gate: &HostLockGuard<'_>) -> Uses {
        let mut uses = std::mem::take(&mut self.state().uses);
        uses.retain(|used, _| self.present(gate, &used.id).map_or(true, |found| found.as_ref() == Some(used)));
        uses
    }

    /// Puts back what could not be written, if there is any. It is not tried again at once.
    pub fn put_back(&self, uses: Uses) {
        let mut state = self.state();
        if uses.is_empty() {
            state.postponed = None;
        } else {
            add_all(&mut state.uses, uses);
            state.postpone();
        }
    }

    /// Nothing can be written now.
    pub fn postpone(&self) {
        self.state().postpone();
    }

    /// Keeps what this process will never be allowed to write.
    pub fn refuse(&self, uses: Uses) {
        add_all(&mut self.state().refused, uses);
    }

    /// The uses of an image that are not written.
    pub fn of(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Use {
        if self.is_empty() {
            return Use::default();
        }
        let mut sum = Use::default();
        if let Ok(Some(present)) = self.present(gate, id) {
            let state = self.state();
            [&state.uses, &state.refused]
                .into_iter()
                .filter_map(|uses| uses.get(&present))
                .for_each(|one| sum.add(*one));
        }
        sum
    }

    /// The file that has the image's name now.
    fn present(&self, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<Option<Used>> {
        let standing = self.layout.examine(Place::Cached, id)?;
        Ok(standing.image().map(|facts| Used::new(id, &facts)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
