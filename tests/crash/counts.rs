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
    /// Points at which the recovery from one of them was killed.
    pub recovery_kills: Count,
    /// Faults in one call, and in it and all after it.
    pub faults: Count,
}

impl Counts {
    const fn new() -> Self {
        Self { kills: Count::new(), states: Count::new(), recovery_kills: Count::new(), faults: Count::new() }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "swept: {} kills of operations, {} different states left by them, {} kills of the recovery from those, {} faults",
            self.kills.get(),
            self.states.get(),
            self.recovery_kills.get(),
            self.faults.get()
        )
    }
}
