//! The model: a cache without files, locks or drivers.
//!
//! This oracle knows every step, one at a time, so it computes exact results: listing, hits, access order, queue, and
//! the files of each state. The fuzzer has a model of its own in C (`fuzz/model.c`): it compares statuses and messages
//! of the C functions, and interleaves open handles. It cannot link this one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// The limit that prune applies.
pub const LIMIT: u64 = 100;

/// A call on the cache.
#[derive(Debug, Clone)]
pub enum Step {
    Begin(Id),
    Chunk(Id, u8),
    Commit(Id),
    Abort(Id),
    Read(Id),
    Tee {
        id: Id,
        length: u8,
        ends: TeeEnd,
    },
    /// A stream, from its open to its close. It meets no writer, for which it would wait.
    Stream {
        id: Id,
        length: u8,
        ends: TeeEnd,
    },
    Delete(Id),
    DeleteAll,
    Queue(Id),
    Dequeue(Id),
    DequeueAll,
    /// Fetches each queued image; those with an odd number fail.
    Prefetch,
    Prune,
    /// For an image of so many bytes.
    MakeRoom(u8),
    Pin(Id, Holder),
    Unpin(Id, Holder),
    Verify,
    /// Another program changes the image's bytes, and all images are verified.
    Damage(Id),
    /// With a stall time of 0: removes every incomplete file.
    CleanAll,
    /// With the default stall time: removes invalid files, keeps incomplete ones.
    CleanFailed,
    /// Closes every handle, writers before their end, and opens the cache again.
    Reopen,
}

/// How a tee or a stream ends.
#[derive(Debug, Clone, Copy)]
pub enum TeeEnd {
    Whole,
    SourceFails,
    WrongSize,
    Closed,
}

/// The most that a source returns at once, in bytes.
pub const PIECE: u64 = 7;

/// Few images, so that steps meet.
pub type Id = u8;

/// 0 pins for as long as the process lives, others for an hour.
pub type Holder = u8;

pub fn name(id: Id) -> String {
    format!("image {id}")
}

/// The bytes of an image follow from its id and length.
pub fn bytes(id: Id, length: u64) -> Vec<u8> {
    vec![id; usize::try_from(length).unwrap()]
}

/// A cached image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    pub size: u64,
    pub hits: u64,
}

/// What the statistics count, since the cache was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub hits: u64,
    pub misses: u64,
    pub commits: u64,
    pub evictions: u64,
    pub evicted_bytes: u64,
    pub verified: u64,
    pub found_damaged: u64,
}

/// A cache, as its users see it.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub cached: BTreeMap<Id, Cached>,
    /// Least recently accessed first.
    pub access_order: Vec<Id>,
    /// Writers by image, with the bytes written; `None` once a clean removed the file.
    pub writers: BTreeMap<Id, Option<u64>>,
    /// The bytes of each unfinished fetch of streams.
    pub fetches: BTreeMap<Id, u64>,
    pub invalid: BTreeSet<Id>,
    /// Oldest first.
    pub queue: Vec<Id>,
    /// Of cached images only.
    pub pins: BTreeMap<Id, BTreeSet<Holder>>,
    pub counts: Counts,
}

impl Model {
    pub fn size(&self) -> u64 {
        self.cached.values().map(|image| image.size).sum()
    }

    pub fn is_pinned(&self, id: Id) -> bool {
        self.pins.contains_key(&id)
    }

    /// Whether a pin of the image would exceed the half of the limit that can be pinned.
    pub fn is_pinned_full(&self, id: Id) -> bool {
        let pinned: u64 = self.pins.keys().map(|id| self.cached[id].size).sum();
        !self.is_pinned(id) && pinned + self.cached[&id].size > LIMIT / 2
    }

    /// The images that are evicted for a limit, in their order, and whether they are enough. Pinned and empty images stay.
    pub fn victims(&self, limit: u64) -> (Vec<Id>, bool) {
        let mut size = self.size();
        let mut victims = self.access_order.clone();
        victims.retain(|id| {
            let is_victim = size > limit && !self.is_pinned(*id) && self.cached[id].size > 0;
            size -= if is_victim { self.cached[id].size } else { 0 };
            is_victim
        });
        (victims, size <= limit)
    }

    fn evict(&mut self, victims: Vec<Id>) {
        for id in victims {
            self.counts.evictions += 1;
            self.counts.evicted_bytes += self.cached[&id].size;
            self.remove(id);
        }
    }

    fn verify(&mut self) {
        self.counts.verified += self.cached.len() as u64;
    }

    fn is_free(&self, id: Id) -> bool {
        !self.cached.contains_key(&id) && !self.is_being_written(id)
    }

    pub fn is_being_written(&self, id: Id) -> bool {
        matches!(self.writers.get(&id), Some(Some(_)))
    }

    fn publish(&mut self, id: Id, size: u64) {
        self.counts.commits += 1;
        self.fetches.remove(&id);
        self.cached.insert(id, Cached { size, hits: 0 });
        self.access(id);
        self.queue.retain(|queued| *queued != id);
    }

    fn stream(&mut self, id: Id, length: u64, ends: TeeEnd) {
        if self.read(id) {
            return;
        }
        let before = self.fetches.get(&id).copied().unwrap_or(0);
        let fetched = before.max(length);
        match ends {
            TeeEnd::Whole => self.publish(id, fetched),
            // Its one read met the end.
            TeeEnd::Closed if fetched == 0 => self.publish(id, 0),
            TeeEnd::Closed if before == 0 => drop(self.fetches.insert(id, length.min(PIECE))),
            TeeEnd::Closed => {}
            TeeEnd::SourceFails => self.leave(id, fetched),
            TeeEnd::WrongSize if before == length + 1 => self.publish(id, before),
            // A file that is longer is replaced.
            TeeEnd::WrongSize => self.leave(id, length),
        }
    }

    /// The last participant leaves a fetch. Without a byte, nothing is left.
    fn leave(&mut self, id: Id, length: u64) {
        self.fetches.remove(&id);
        if length > 0 {
            self.fetches.insert(id, length);
        }
    }

    /// Whether it is a hit.
    fn read(&mut self, id: Id) -> bool {
        let Some(image) = self.cached.get_mut(&id) else {
            self.counts.misses += 1;
            return false;
        };
        image.hits += 1;
        self.counts.hits += 1;
        self.access(id);
        true
    }

    fn access(&mut self, id: Id) {
        self.access_order.retain(|used| *used != id);
        self.access_order.push(id);
    }

    fn remove(&mut self, id: Id) {
        self.cached.remove(&id);
        self.access_order.retain(|used| *used != id);
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Begin(id) => {
                if self.is_free(id) {
                    self.fetches.remove(&id);
                    self.writers.insert(id, Some(0));
                }
            }
            Step::Chunk(id, length) => {
                if let Some(Some(written)) = self.writers.get_mut(&id) {
                    *written += u64::from(length);
                }
            }
            Step::Commit(id) => {
                if let Some(Some(written)) = self.writers.remove(&id) {
                    self.publish(id, written);
                }
            }
            Step::Abort(id) => {
                if let Some(Some(_)) = self.writers.remove(&id) {
                    self.invalid.insert(id);
                }
            }
            Step::Read(id) => drop(self.read(id)),
            Step::Tee { id, length, ends } => {
                if self.is_free(id) {
                    match ends {
                        TeeEnd::Whole => self.publish(id, u64::from(length)),
                        // Its one read met the end.
                        TeeEnd::Closed if length == 0 => self.publish(id, 0),
                        TeeEnd::SourceFails | TeeEnd::WrongSize | TeeEnd::Closed => {
                            self.fetches.remove(&id);
                            self.invalid.insert(id);
                        }
                    }
                }
            }
            Step::Stream { id, length, ends } => self.stream(id, u64::from(length), ends),
            Step::Delete(id) => {
                if !self.is_pinned(id) {
                    self.remove(id);
                }
            }
            Step::DeleteAll => {
                self.cached.retain(|id, _| self.pins.contains_key(id));
                self.access_order.retain(|id| self.pins.contains_key(id));
            }
            Step::Queue(id) => {
                if self.is_free(id) && !self.queue.contains(&id) {
                    self.queue.push(id);
                }
            }
            Step::Dequeue(id) => self.queue.retain(|queued| *queued != id),
            Step::DequeueAll => self.queue.clear(),
            Step::Prefetch => {
                for id in self.queue.clone() {
                    if self.is_free(id) {
                        if id % 2 == 0 {
                            self.publish(id, u64::from(id));
                        } else {
                            self.fetches.remove(&id);
                            self.invalid.insert(id);
                        }
                    }
                }
            }
            Step::Prune => self.evict(self.victims(LIMIT).0),
            Step::MakeRoom(bytes) => {
                if let Some((victims, true)) = LIMIT.checked_sub(bytes.into()).map(|limit| self.victims(limit)) {
                    self.evict(victims);
                }
            }
            Step::Pin(id, holder) => {
                if self.cached.contains_key(&id) && !self.is_pinned_full(id) {
                    self.pins.entry(id).or_default().insert(holder);
                }
            }
            Step::Unpin(id, holder) => {
                if let Some(holders) = self.pins.get_mut(&id) {
                    holders.remove(&holder);
                }
                self.pins.retain(|_, holders| !holders.is_empty());
            }
            Step::Verify => self.verify(),
            Step::Damage(id) => {
                self.remove(id);
                self.pins.remove(&id);
                self.invalid.insert(id);
                self.counts.found_damaged += 1;
                self.verify();
            }
            Step::CleanAll => {
                self.invalid.clear();
                self.fetches.clear();
                self.writers.values_mut().for_each(|written| *written = None);
            }
            Step::CleanFailed => self.invalid.clear(),
            Step::Reopen => {
                let open = std::mem::take(&mut self.writers);
                self.invalid.extend(open.into_iter().filter_map(|(id, written)| written.map(|_| id)));
            }
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_state: &Self) -> BoxedStrategy<Step> {
        let id = || 0..6_u8;
        let ends = || {
            prop_oneof![
                3 => Just(TeeEnd::Whole),
                1 => Just(TeeEnd::SourceFails),
                1 => Just(TeeEnd::WrongSize),
                1 => Just(TeeEnd::Closed),
            ]
        };
        prop_oneof![
            8 => id().prop_map(Step::Begin),
            8 => (id(), 0..60_u8).prop_map(|(id, length)| Step::Chunk(id, length)),
            8 => id().prop_map(Step::Commit),
            2 => id().prop_map(Step::Abort),
            8 => id().prop_map(Step::Read),
            6 => (id(), 0..60_u8, ends()).prop_map(|(id, length, ends)| Step::Tee { id, length, ends }),
            8 => (id(), 0..60_u8, ends()).prop_map(|(id, length, ends)| Step::Stream { id, length, ends }),
            3 => id().prop_map(Step::Delete),
            1 => Just(Step::DeleteAll),
            5 => id().prop_map(Step::Queue),
            1 => id().prop_map(Step::Dequeue),
            1 => Just(Step::DequeueAll),
            3 => Just(Step::Prefetch),
            3 => Just(Step::Prune),
            2 => (0..120_u8).prop_map(Step::MakeRoom),
            6 => (id(), 0..2_u8).prop_map(|(id, holder)| Step::Pin(id, holder)),
            2 => (id(), 0..2_u8).prop_map(|(id, holder)| Step::Unpin(id, holder)),
            1 => Just(Step::Verify),
            2 => id().prop_map(Step::Damage),
            1 => Just(Step::CleanAll),
            2 => Just(Step::CleanFailed),
            2 => Just(Step::Reopen),
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        Model::apply(&mut state, step);
        state
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        // The test keeps one handle per image: a second writer starts after the first handle is gone.
        match step {
            Step::Begin(id) => !matches!(state.writers.get(id), Some(None)),
            Step::Stream { id, .. } => !state.is_being_written(*id),
            Step::Damage(id) => state.cached.get(id).is_some_and(|image| image.size > 0),
            _ => true,
        }
    }
}
