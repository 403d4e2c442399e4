//! Uses and hits on their way to where the driver keeps them.
//!
//! To write each by itself would cost a reader more than everything else that it does, and readers of all processes would wait
//! for each other. So they wait in memory, and are written together: when somebody asks this handle for them (a listing, hits,
//! prune), when it is closed, and at the latest by the first reader that opens or closes a second after the first of them
//! came. A process that is killed loses at most those of one second. Other handles do not know of them meanwhile, but find the
//! time of the last use on the file itself, where it is set at once.

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

/// So many images' uses do not wait any longer: the reader who writes them is to be done within milliseconds.
const MANY: usize = 512;

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

/// What has become of the uses that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// All are written, or never will be.
    Nothing,
    Some,
    /// Some wait for too long.
    TooLong,
}

/// The uses of one handle that are not written yet. They stay until they could be.
#[derive(Debug)]
pub(crate) struct WaitingUses {
    layout: Arc<Layout>,
    /// Where they can be written at all. Elsewhere they end with the handle.
    are_written: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    uses: Uses,
    /// When they are to be written; `None` when there are none.
    due: Option<Instant>,
}

impl WaitingUses {
    pub fn new(layout: &Arc<Layout>, are_written: bool) -> Self {
        Self { layout: Arc::clone(layout), are_written, state: Mutex::default() }
    }

    /// The image, whose file has these facts, was used.
    pub fn add(&self, id: &ImageId, facts: &Facts, one: Use) {
        let mut state = self.state();
        let known = state.uses.len();
        state.uses.entry(Used::new(id, facts)).or_default().add(one);
        let is_many = state.uses.len() > known && state.uses.len().is_multiple_of(MANY);
        if is_many || state.due.is_none() {
            let now = Instant::now();
            state.due = Some(if is_many { now } else { now + LONGEST_WAIT });
        }
    }

    pub fn waiting(&self) -> Waiting {
        match self.state().due {
            _ if !self.are_written => Waiting::Nothing,
            None => Waiting::Nothing,
            Some(due) if due <= Instant::now() => Waiting::TooLong,
            Some(_) => Waiting::Some,
        }
    }

    /// Whether there are none, not even such as will never be written.
    pub fn is_empty(&self) -> bool {
        self.state().uses.is_empty()
    }

    /// Takes all of them out, to be written under the gate, at which whoever wants to know of them waits; readers go on
    /// meanwhile. Uses of an image that is gone, and perhaps cached anew, are nobody's. Under the gate this stays true.
    pub fn take(&self, gate: &HostLockGuard<'_>) -> Uses {
        let State { mut uses, .. } = std::mem::take(&mut *self.state());
        uses.retain(|used, _| self.present(gate, &used.id).map_or(true, |found| found.as_ref() == Some(used)));
        uses
    }

    /// Puts back what could not be written. It is not tried again at once.
    pub fn put_back(&self, uses: Uses) {
        let mut state = self.state();
        for (used, sum) in uses {
            state.uses.entry(used).or_default().add(sum);
        }
        state.due = (!state.uses.is_empty()).then(|| Instant::now() + LONGEST_WAIT);
    }

    /// The uses of an image that are not written yet.
    pub fn of(&self, gate: &HostLockGuard<'_>, id: &ImageId) -> Use {
        let state = self.state();
        if state.uses.is_empty() {
            return Use::default();
        }
        let present = self.present(gate, id).ok().flatten();
        present.and_then(|used| state.uses.get(&used).copied()).unwrap_or_default()
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
