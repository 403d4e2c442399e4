//! Intrusions: between two system calls of a stream, another process deletes, prunes, cleans or caches its image again, or another
//! program changes its files. The stream delivers right bytes only, and ends. No wrong image is cached afterwards, the next stream gets
//! the whole image, and a clean removes what is left.
//!
//! Each intruder acts once, at each call in turn, or at every call. `make test` has [`POINTS`] calls, and those intruders at every call
//! that need no lock. A file is shortened before each write.

use std::time::{Duration, Instant};

use image_cache::{ImageCache, StreamRole};
use libtest_mimic::{Completion, Failed};

use crate::calls::{self, Kind};
use crate::checks::{CheckResult, check, check_clean, context};
use crate::child::{self, Report};
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::copy_tree;
use crate::intruders::{Handle, Harm, INTRUDERS, Intruder, Target};
use crate::kill::{MAX_CALLS, ended};
use crate::operations::{Effect, Operation};
use crate::promises::{Checked, check_all, check_images_of};
use crate::shared::{
    IDLE_STREAM, IMAGE, RESUMED_STREAM, STREAM, STREAM_BEHIND_A_WRITER, STREAM_OF_A_CACHED_IMAGE, STREAM_OF_KNOWN_SIZE,
    TWO_STREAMS,
};
use crate::state::State;
use crate::streams::stream_whole;
use crate::sweep::{Stop, completed, is_in_full};
use crate::tracer::{Decision, End, Event, Traced, trace};
use crate::workspace::Workspace;

/// The streams that are disturbed.
pub const DISTURBED: &[Operation] = &[
    STREAM,
    STREAM_OF_KNOWN_SIZE,
    TWO_STREAMS,
    IDLE_STREAM,
    RESUMED_STREAM,
    STREAM_BEHIND_A_WRITER,
    STREAM_OF_A_CACHED_IMAGE,
];

/// At how many calls of an operation each intruder acts in `make test`.
const POINTS: usize = 2;

/// A disturbed stream ends within this time, and so does the next one. No source takes as long.
const LONGEST: Duration = Duration::from_secs(15);

/// So often an intruder acts that acts at every call. While it does, a stream may come to no end.
const MAX_ACTS: usize = 500;

/// An intruder that writes the image does so for that many calls of the stream, and then gives up.
const MAX_CALLS_BESIDE: usize = 50;

/// The source time-out of the stream after an intrusion.
const SOURCE_TIMEOUT: Duration = Duration::from_millis(20);

/// When an intruder acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the call of this number, or soon after it.
    Before(usize),
    /// Before every call.
    Always,
}

/// Sweeps one stream.
pub fn sweep(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_sweep(operation, configuration))
}

fn try_sweep(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    operation.fixture.build(&workspace.path("fixture"), configuration);
    workspace.directory("scratch")?;
    let sweep = Sweep { operation, configuration, workspace, checked: Checked::default() };
    let are_writes = sweep.calls()?;
    let mut violations = Vec::new();
    for (number, intruder) in INTRUDERS.iter().enumerate().filter(|(_, intruder)| can_disturb(intruder, operation)) {
        // Each intruder begins at another call, so that all together come to most of them.
        let every = if is_in_full() { 1 } else { (are_writes.len() / POINTS).max(1) };
        let first = number * every / INTRUDERS.len();
        // Bytes come to a wrong place only if the file is shortened right before they are written.
        let is_due = |point: usize| {
            let is_write = are_writes.get(point).is_some_and(|is_write| *is_write);
            point % every == first || (is_write && intruder.harm == Harm::WrongDigest)
        };
        let once = (0..=are_writes.len()).filter(|point| is_due(*point)).map(When::Before);
        let always = (is_in_full() || intruder.is_another_program()).then_some(When::Always);
        for when in once.chain(always) {
            COUNTERS.intrusions.add(1);
            if let Err(what) = sweep.disturb(intruder, when)? {
                violations.push(format!("'{}', while another {} ({when:?}): {what}", operation.name, intruder.name));
            }
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n\n").into()) }
}

/// A writer whose file is shortened while it appends reports that at its next call. Until then, a stream behind it reads the bytes where
/// they are.
fn can_disturb(intruder: &Intruder, operation: &Operation) -> bool {
    intruder.harm != Harm::WrongDigest || operation.name != STREAM_BEHIND_A_WRITER.name
}

struct Sweep<'a> {
    operation: &'a Operation,
    configuration: Configuration,
    workspace: Workspace,
    checked: Checked,
}

impl Sweep<'_> {
    fn target(&self) -> Result<Target, Stop> {
        let directory = self.workspace.empty("cache")?;
        copy_tree(&self.workspace.path("fixture"), &directory)?;
        Ok(Target { directory, id: IMAGE, configuration: self.configuration })
    }

    /// For each call of the operation, whether it writes.
    fn calls(&self) -> Result<Vec<bool>, Stop> {
        let target = self.target()?;
        let mut are_writes = Vec::new();
        let arguments = child::arguments_and_report(self.operation, &target.directory, self.configuration);
        let traced = trace(&arguments, |_, event| {
            if let Event::Call(call) = event {
                are_writes.push(calls::kind(call) == Some(Kind::Write));
            }
            Decision::Continue
        })?;
        ended(self.operation, traced).map(|()| are_writes)
    }

    /// Runs the operation, with the intruder at that point, and checks everything.
    fn disturb(&self, intruder: &Intruder, when: When) -> Result<CheckResult, Stop> {
        let target = self.target()?;
        let mut presence = Presence { intruder, target: &target, when, acts: 0, calls_since: 0, left_open: None };
        let (mut calls, mut outcome) = (0, Ok(()));
        let begin = Instant::now();
        let arguments = child::arguments_and_report(self.operation, &target.directory, self.configuration);
        let traced = trace(&arguments, |_, event| {
            calls += 1;
            outcome = presence.at(calls, matches!(event, Event::Returned)).and_then(|()| {
                check(calls <= MAX_CALLS && begin.elapsed() < LONGEST, || {
                    format!("it did not end, with {calls} calls within {:?}", begin.elapsed())
                })
            });
            if outcome.is_ok() { Decision::Continue } else { Decision::Kill }
        })?;
        drop(presence);
        if traced.end == End::NotPermitted {
            return Err(Stop::NotPermitted);
        }
        Ok(outcome.and_then(|()| self.check(intruder, &target, &traced)))
    }

    fn check(&self, intruder: &Intruder, target: &Target, traced: &Traced) -> CheckResult {
        check(traced.end == End::Exited(0), || format!("it ended with {:?}: {}", traced.end, traced.stderr))?;
        let report = Report::parse(&traced.stdout).ok_or_else(|| format!("its report: {}", traced.stdout))?;
        // It has delivered right bytes only, and the digest at the end is that of the file.
        let may_fail = intruder.harm == Harm::WrongDigest && report.error.contains("md5 digest");
        check(report.outcome.is_some() || may_fail, || format!("it failed: {}\n{}", report.error, traced.stderr))?;
        let directory = &target.directory;
        check_images_of(directory).map_err(|what| format!("{what}\n{}", traced.stderr))?;
        let cache = context("the open afterwards", ImageCache::open(directory, self.configuration.options()))?;
        if intruder.harm == Harm::Occupied {
            context("a stream afterwards", stream_whole(&cache, IMAGE, Some(SOURCE_TIMEOUT)))?;
            check_clean(directory, &cache)?;
        }
        let streamed = context("the next stream", stream_whole(&cache, IMAGE, None))?;
        check(streamed.took < LONGEST, || format!("the next stream took {:?}", streamed.took))?;
        check(streamed.role != StreamRole::Alone, || format!("the next stream was alone\n{}", traced.stderr))?;
        drop(cache);
        self.check_promises(target)
    }

    fn check_promises(&self, target: &Target) -> CheckResult {
        let mut expected = Expected::after(self.operation, false);
        // The other images may be pruned; this one is read by all, and was cached at last.
        expected.add(&[Effect::Evicts("kept"), Effect::Evicts("older"), Effect::Evicts("oldest")]);
        expected.add([Effect::ReadsOnly(IMAGE); 8].iter());
        expected.cached.insert(IMAGE);
        let (fixture, scratch) = (self.workspace.path("fixture"), self.workspace.path("scratch"));
        let state = context("the state", State::of(&target.directory, &fixture, &scratch))?;
        if self.checked.is_new(state, &expected) {
            check_all(&target.directory, &fixture, &scratch, self.configuration, &expected)?;
        }
        Ok(())
    }
}

/// An intruder beside a stream that runs.
struct Presence<'a> {
    intruder: &'a Intruder,
    target: &'a Target,
    when: When,
    acts: usize,
    /// How many calls the stream has made since the last act.
    calls_since: usize,
    left_open: Handle,
}

impl Presence<'_> {
    /// The stream is about to make the call of this number.
    fn at(&mut self, call: usize, has_returned: bool) -> CheckResult {
        self.calls_since += 1;
        let is_due = match self.when {
            When::Before(point) => self.acts == 0 && (call > point || has_returned),
            When::Always => self.acts < MAX_ACTS,
        };
        let is_over = self.left_open.is_some() && self.calls_since > MAX_CALLS_BESIDE;
        // A call on the cache would wait for the stream, which is stopped.
        if (is_due || is_over) && context("the locks", self.intruder.is_ready(self.target))? {
            self.left_open = None;
            if is_due {
                (self.acts, self.calls_since) = (self.acts + 1, 0);
                self.left_open = self.intruder.act(self.target)?;
            }
        }
        Ok(())
    }
}
