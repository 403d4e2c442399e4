//! What a cache may hold, and must hold, after an operation that was interrupted, that failed, or that succeeded.
//!
//! This oracle knows the fixture, the one operation, and what the operation returned: exact sets of images. The power
//! cuts know acknowledgements only (`tests/power/promises.rs`), the races overlapping intervals
//! (`tests/races/history_checker.rs`), and the model each step (`tests/model/reference.rs`). So none of these four
//! replaces another.

use std::collections::{BTreeMap, BTreeSet};

use crate::fixture::{CACHED, DEAD, FAILED, Fixture, QUEUED};
use crate::operations::{Effect, LIMIT, Operation, Outcome};

/// What the directory may hold, and what it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    pub cached: BTreeSet<&'static str>,
    pub may_be_cached: BTreeSet<&'static str>,
    pub queued: BTreeSet<&'static str>,
    pub may_be_queued: BTreeSet<&'static str>,
    /// The least and the most hits of each image.
    pub hits: BTreeMap<&'static str, (u64, u64)>,
    /// Images that a writer began and did not commit.
    pub written: BTreeSet<&'static str>,
    /// Images whose file may have its final name, and which the next open may drop.
    pub unsynced: BTreeSet<&'static str>,
    /// Images that are pinned, and that may be.
    pub pinned: BTreeSet<&'static str>,
    pub may_be_pinned: BTreeSet<&'static str>,
    /// Whether a clean removed everything from `incomplete/` and `invalid/`.
    pub is_cleaned: bool,
    /// The largest size that the cache may have.
    pub limit: Option<u64>,
}

impl Expected {
    /// Before the operation.
    pub fn of_fixture(fixture: Fixture) -> Self {
        let mut expected = Self::default();
        if fixture == Fixture::Empty {
            return expected;
        }
        for (id, hits) in CACHED {
            expected.hits.insert(id, (if fixture == Fixture::Damaged { 0 } else { hits }, hits));
            expected.cached.insert(id);
        }
        expected.queued.extend(QUEUED);
        expected.written.extend([DEAD, FAILED]);
        if fixture == Fixture::Crashed {
            expected.cached.remove("oldest");
            expected.cached.insert("adopted");
            expected.hits.insert("adopted", (0, 0));
        }
        if fixture == Fixture::Restarted {
            expected.unsynced.insert("oldest");
        }
        expected.may_be_cached = expected.cached.clone();
        expected.may_be_queued = expected.queued.clone();
        expected
    }

    /// After an operation that was interrupted or failed, or that succeeded (`returned`).
    pub fn after(operation: &Operation, returned: bool) -> Self {
        let mut expected = Self::of_fixture(operation.fixture);
        for effect in operation.effects {
            expected.apply(*effect);
            if returned {
                expected.complete(*effect);
            }
        }
        expected
    }

    /// After one more operation, which was interrupted.
    pub fn add<'a>(&mut self, effects: impl IntoIterator<Item = &'a Effect>) {
        effects.into_iter().for_each(|effect| self.apply(*effect));
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Caches(id) => {
                self.may_be_cached.insert(id);
                self.queued.remove(id);
                self.written.insert(id);
                self.hits.insert(id, (0, 0));
            }
            Effect::Writes(id) => drop(self.written.insert(id)),
            Effect::Deletes(id) | Effect::Evicts(id) => drop(self.cached.remove(id)),
            Effect::Enqueues(id) => drop(self.may_be_queued.insert(id)),
            Effect::Dequeues(id) => drop(self.queued.remove(id)),
            Effect::Reads(id) | Effect::ReadsOnly(id) => self.hits.entry(id).or_default().1 += 1,
            Effect::Pins(id) | Effect::Unpins(id) => drop(self.may_be_pinned.insert(id)),
            Effect::Cleans => {}
        }
    }

    fn complete(&mut self, effect: Effect) {
        match effect {
            Effect::Caches(id) => {
                self.cached.insert(id);
                self.may_be_queued.remove(id);
            }
            Effect::Writes(_) | Effect::ReadsOnly(_) => {}
            Effect::Deletes(id) | Effect::Evicts(id) => drop(self.may_be_cached.remove(id)),
            Effect::Enqueues(id) => drop(self.queued.insert(id)),
            Effect::Dequeues(id) => drop(self.may_be_queued.remove(id)),
            Effect::Reads(id) => self.hits.entry(id).or_default().0 += 1,
            Effect::Pins(id) => drop(self.pinned.insert(id)),
            Effect::Unpins(id) => drop(self.may_be_pinned.remove(id)),
            Effect::Cleans => self.is_cleaned = true,
        }
    }

    /// An image whose sync failed may be gone.
    pub fn without(mut self, id: &str) -> Self {
        self.cached.remove(id);
        self
    }

    /// The image was published, and could not be withdrawn.
    pub fn or_not_withdrawn(mut self, operation: &Operation) -> Self {
        self.may_be_cached
            .extend(operation.effects.iter().filter(|effect| effect.is_caching()).map(|effect| effect.id()));
        self
    }

    /// After an operation in which a call failed, and which returned `outcome` (`None`: an error).
    pub fn after_report(operation: &Operation, outcome: Option<Outcome>) -> Self {
        let mut expected = Self::of_fixture(operation.fixture);
        expected.add(operation.effects);
        if operation.fixture == Fixture::Restarted {
            // An image that cannot be told from a torn one is dropped.
            expected.cached.clear();
        }
        for effect in operation.effects {
            match (effect, outcome) {
                // A reader does not fail for a hit that cannot be counted.
                (Effect::Reads(_) | Effect::ReadsOnly(_), _) => {}
                // Where one image cannot be evicted, another one is.
                (Effect::Evicts(_), outcome) => {
                    expected.cached.clear();
                    let is_to_limit = outcome == Some(Outcome::Done) && !operation.is_within_a_limit();
                    expected.limit = is_to_limit.then_some(LIMIT);
                }
                (effect, Some(Outcome::Done)) => expected.complete(*effect),
                // A commit that failed publishes nothing. (Of two prefetched images one may fail.)
                (Effect::Caches(id), _) if operation.caches_one() => drop(expected.may_be_cached.remove(id)),
                _ => {}
            }
        }
        expected
    }
}
