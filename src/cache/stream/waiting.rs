//! Waiting for what another process does: one thread of a room looks, the others sleep until it wakes them.
//!
//! The kernel has no wait for a growing file that needs neither a descriptor per user nor a signal. So this polls, with one thread for
//! all that wait for the same thing in this process.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The intervals of the one who looks: the first, which doubles, and the longest. A look takes 30 us of a processor, most of them for the
/// wake. So after a long wait, in which nothing has happened, the looks become rarer still.
const FIRST: Duration = Duration::from_micros(250);
const LONGEST: Duration = Duration::from_millis(20);
const LONG_WAIT: Duration = Duration::from_secs(1);
const LONGEST_THEN: Duration = Duration::from_millis(50);

/// Those who wait for the same thing.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How often something was announced.
    version: u64,
    /// How many wait.
    waiting: usize,
    /// One of them looks.
    has_lookout: bool,
}

impl Waiters {
    /// The number of the last announcement. To be read before the look at which [`Self::wait`] is decided.
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// Wakes all that wait: this process has changed something.
    pub fn announce(&self) {
        let mut state = self.state();
        state.version += 1;
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until something was announced after `version`, `is_changed` returns true, or the deadline has passed. May return early.
    pub fn wait(&self, version: u64, deadline: Instant, is_changed: impl Fn() -> bool) {
        let mut state = self.state();
        state.waiting += 1;
        state = self.wait_in_turn(state, version, deadline, is_changed);
        state.waiting -= 1;
    }

    fn wait_in_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        version: u64,
        deadline: Instant,
        is_changed: impl Fn() -> bool,
    ) -> MutexGuard<'a, State> {
        while state.version == version {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if state.has_lookout {
                // The lookout does not see what has changed before its own look.
                if is_changed() {
                    break;
                }
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            state.has_lookout = true;
            let changed = self.look_out(state, version, deadline, &is_changed);
            state = self.state();
            state.has_lookout = false;
            state.version += u64::from(changed);
            // At its own deadline, too: another one takes its place.
            self.changed.notify_all();
            break;
        }
        state
    }

    /// True when `is_changed` returned true.
    fn look_out<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        version: u64,
        deadline: Instant,
        is_changed: impl Fn() -> bool,
    ) -> bool {
        let began = Instant::now();
        let mut interval = FIRST;
        while state.version == version && Instant::now() < deadline {
            drop(state);
            if is_changed() {
                return true;
            }
            state = self.changed.wait_timeout(self.state(), interval).unwrap_or_else(PoisonError::into_inner).0;
            let longest = if began.elapsed() < LONG_WAIT { LONGEST } else { LONGEST_THEN };
            interval = (interval * 2).min(longest);
        }
        false
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that a call has left.
pub(super) struct Waiting {
    /// When the call began.
    pub began: Instant,
    /// Since when the file has not grown, as this call sees it.
    pub idle_since: Instant,
    /// The length of the file then, in bytes.
    length: Option<u64>,
    /// How many bytes of it were hashed, at its end.
    hashed: Option<u64>,
}

impl Waiting {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { began: now, idle_since: now, length: None, hashed: None }
    }

    /// The file has this length now.
    pub fn note_length(&mut self, length: u64) {
        if self.length.replace(length).is_some_and(|former| former != length) {
            self.idle_since = Instant::now();
        }
    }

    /// So many bytes of the complete file are hashed.
    pub fn note_hashed(&mut self, hashed: u64) {
        if self.hashed.replace(hashed).is_some_and(|former| former != hashed) {
            self.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_comes_after_a_change_that_the_lookout_does_not_see_does_not_wait() {
        let waiters = Waiters::default();
        let started = Instant::now();
        let deadline = started + Duration::from_secs(20);
        thread::scope(|scope| {
            scope.spawn(|| waiters.wait(0, deadline, || false));
            while !waiters.state().has_lookout {
                thread::yield_now();
            }
            waiters.wait(0, deadline, || true);
            waiters.announce();
        });
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
