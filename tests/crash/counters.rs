//! How much was swept, for the line at the end.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

pub static COUNTERS: Counters = Counters::new();

/// A number that only grows.
pub struct Counter(AtomicUsize);

impl Counter {
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub fn add(&self, more: usize) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub struct Counters {
    /// Kills of operations.
    pub kills: Counter,
    /// Distinct states that these kills left.
    pub states: Counter,
    /// Calls of the recovery before which a kill makes a difference.
    pub recovery_kills: Counter,
    /// Distinct states that kills of the recovery left.
    pub recovery_states: Counter,
    /// Faults of one call, and of one and all later calls.
    pub faults: Counter,
    /// Stops of operations beside which a hit was made.
    pub stops: Counter,
    /// Streams beside or after a stream that was killed or stopped.
    pub streams: Counter,
    /// Schedules of several processes.
    pub schedules: Counter,
    /// Intrusions into streams.
    pub intrusions: Counter,
    /// Forks beside operations: while these were stopped, and as soon as these had left SQLite.
    pub forks: Counter,
    pub late_forks: Counter,
}

impl Counters {
    const fn new() -> Self {
        Self {
            kills: Counter::new(),
            states: Counter::new(),
            recovery_kills: Counter::new(),
            recovery_states: Counter::new(),
            faults: Counter::new(),
            stops: Counter::new(),
            streams: Counter::new(),
            intrusions: Counter::new(),
            schedules: Counter::new(),
            forks: Counter::new(),
            late_forks: Counter::new(),
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "swept: {} kills of operations, {} different states left by them, {} kills of the recovery from those, \
             which left {} different states, {} faults, {} hits beside a stopped operation, {} streams \
             beside or after one that was killed or stopped, {} intrusions into streams, {} schedules of processes that stream one image, {} forks beside a stopped \
             operation, {} of them after it had left SQLite",
            self.kills.get(),
            self.states.get(),
            self.recovery_kills.get(),
            self.recovery_states.get(),
            self.faults.get(),
            self.stops.get(),
            self.streams.get(),
            self.intrusions.get(),
            self.schedules.get(),
            self.forks.get(),
            self.late_forks.get()
        )
    }
}
