//! A schedule of several traced processes: one of them runs at a time, for some system calls; then another one does.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::calls::is_sleep;
use crate::checks::CheckResult;
use crate::tracer::{Decision, Event};

/// For how many calls a process runs at once.
const RUNS: [usize; 6] = [1, 2, 5, 15, 40, 120];

/// A process that sleeps, or takes that long between two calls, may wait for another one. After so many signs, it has waited enough.
const WAITS: Duration = Duration::from_micros(200);
const SIGNS: usize = 4;

/// How many of the last calls a message has.
const SHOWN: usize = 80;

/// The processes of a schedule. Each is traced by a thread of its own, which calls [`Self::pass`] for each call.
pub struct Baton {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    /// It has not come to its first call.
    Preparing,
    Ready,
    Ended,
}

struct State {
    random: fastrand::Rng,
    members: Vec<Member>,
    /// Runs that come first: the process, and for how many calls.
    planned: VecDeque<(usize, usize)>,
    /// The process that is killed, and before which of its calls.
    kill: Option<(usize, usize)>,
    calls: Vec<usize>,
    running: Option<usize>,
    /// For how many calls more it runs.
    left: usize,
    signs: usize,
    since: Instant,
    began: Instant,
    limit: Duration,
    violation: CheckResult,
    history: Vec<(usize, String)>,
}

/// How a schedule begins.
#[derive(Debug, Default)]
pub struct Plan {
    pub seed: u64,
    pub first: Vec<(usize, usize)>,
    pub kill: Option<(usize, usize)>,
}

impl Baton {
    /// A schedule of so many processes, which ends within the limit.
    pub fn new(members: usize, plan: Plan, limit: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            random: fastrand::Rng::with_seed(plan.seed),
            members: vec![Member::Preparing; members],
            planned: plan.first.into(),
            kill: plan.kill,
            calls: vec![0; members],
            running: None,
            left: 0,
            signs: 0,
            since: now,
            began: now,
            limit,
            violation: Ok(()),
            history: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The process is about to make a call, which happens when it has the baton.
    pub fn pass(&self, member: usize, event: Event<'_>) -> Decision {
        let mut state = self.state();
        let Event::Call(call) = event else {
            // Its close runs beside the others.
            state.end(member);
            self.changed.notify_all();
            return Decision::Continue;
        };
        if state.running == Some(member) {
            state.left -= 1;
            state.signs += usize::from(is_sleep(call) || state.since.elapsed() > WAITS);
        }
        state.members[member] = Member::Ready;
        state.calls[member] += 1;
        if state.left == 0 || state.signs >= SIGNS {
            state.choose();
            self.changed.notify_all();
        }
        while state.running != Some(member) && state.violation.is_ok() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.since = Instant::now();
        state.history.push((member, call.name()));
        if state.began.elapsed() > state.limit && state.violation.is_ok() {
            state.violation = Err(format!("it did not end within {:?}", state.limit));
            self.changed.notify_all();
        }
        let calls = state.calls[member];
        let is_killed = state.violation.is_err() || state.kill == Some((member, calls));
        if is_killed { Decision::Kill } else { Decision::Continue }
    }

    /// The process has ended.
    pub fn end(&self, member: usize) {
        self.state().end(member);
        self.changed.notify_all();
    }

    /// Fails when the schedule came to no end.
    pub fn check(&self) -> CheckResult {
        self.state().violation.clone()
    }

    /// How many calls a process has made.
    pub fn calls(&self, member: usize) -> usize {
        self.state().calls[member]
    }

    /// How many processes were killed.
    pub fn kills(&self) -> usize {
        let state = self.state();
        usize::from(state.kill.is_some_and(|(member, call)| state.calls[member] >= call))
    }

    /// The last calls, in their order.
    pub fn history(&self) -> String {
        let state = self.state();
        let mut text = String::new();
        let mut last = None;
        for (member, call) in state.history.iter().skip(state.history.len().saturating_sub(SHOWN)) {
            if last.replace(member) != Some(member) {
                let _ = write!(text, "\n  process {member}:"); // writing to a String cannot fail
            }
            let _ = write!(text, " {call}");
        }
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&mut self, member: usize) {
        self.members[member] = Member::Ended;
        if self.running == Some(member) || self.running.is_none() {
            self.choose();
        }
    }

    /// Who runs next. Nobody does before all are ready.
    fn choose(&mut self) {
        (self.running, self.left, self.signs) = (None, 0, 0);
        if self.members.contains(&Member::Preparing) {
            return;
        }
        let is_ready = |member: usize| self.members[member] == Member::Ready;
        while let Some((member, calls)) = self.planned.pop_front() {
            if is_ready(member) && calls > 0 {
                (self.running, self.left) = (Some(member), calls);
                return;
            }
        }
        let ready: Vec<_> = (0..self.members.len()).filter(|member| is_ready(*member)).collect();
        self.running = self.random.choice(ready);
        self.left = self.random.choice(RUNS).unwrap_or(1);
    }
}
