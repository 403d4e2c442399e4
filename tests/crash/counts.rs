//! How much was swept, for the line at the end.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

pub static COUNTS: Counts = Counts::new();

/// A number that only grows.
pub struct Count(AtomicUsize);

impl Count {
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

pub struct Counts {
    /// Points at which an operation was killed.
    pub kills: Count,
    /// Different directories that were left.
    pub states: Count,
    /// Calls of the recovery from one of them before which a kill makes a difference.
    pub recovery_kills: Count,
    /// Different directories that such kills left.
    pub recovery_states: Count,
    /// Faults in one call, and in it and all after it.
    pub faults: Count,
}

impl Counts {
    const fn new() -> Self {
        Self {
            kills: Count::new(),
            states: Count::new(),
            recovery_kills: Count::new(),
            recovery_states: Count::new(),
            faults: Count::new(),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "swept: {} kills of operations, {} different states left by them, {} kills of the recovery from those, \
             which left {} different states, {} faults",
            self.kills.get(),
            self.states.get(),
            self.recovery_kills.get(),
            self.recovery_states.get(),
            self.faults.get()
        )
    }
}
