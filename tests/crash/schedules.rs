//! Schedules: processes that stream, write, prune, clean and delete one image at the same time, of which one makes its system calls at a
//! time (see `baton`). Each stream delivers all bytes. If nobody removes the image, it is cached, also if one of the processes is killed.
//! The next stream gets the whole image.
//!
//! Some schedules are random. In others, the first process runs to some call; there the second one runs until it ends or waits.
//! `make test` has [`RANDOM`] and [`SWITCHES`] schedules of each kind.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, thread};

use image_cache::{ImageCache, StreamRole};
use libtest_mimic::{Completion, Failed};

use crate::baton::{Baton, Plan};
use crate::checks::{CheckResult, check, context};
use crate::child::{self, Report};
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::{Fixture, copy_tree};
use crate::operations::{Effect, Operation, Outcome};
use crate::promises::{check_all, check_images_of};
use crate::shared::{
    CLEAN, DELETE, HASTY_STREAM, IMAGE, PRUNE, REPLACE, STREAM, STREAM_OF_KNOWN_SIZE, TEE, TWO_STREAMS, WRITER,
};
use crate::streams::stream_whole;
use crate::sweep::{Stop, completed, is_in_full};
use crate::tracer::{End, Traced, trace};
use crate::workspace::Workspace;

/// How many random schedules, and how many with one switch of each order, `make test` has.
const RANDOM: usize = 3;
const SWITCHES: usize = 2;
/// So many times more, where a stream takes the turn of one that has it.
const HASTY: usize = 4;
/// The same in full. A switch comes at each call of the first process then.
const RANDOM_IN_FULL: usize = 60;

/// In one of so many random schedules a process is killed, before one of its first calls.
const KILLS: u64 = 3;
const FIRST_CALLS: usize = 150;

/// A schedule ends within this time. It is shorter than the source time-out, for which nobody needs to wait.
const LONGEST: Duration = Duration::from_secs(20);

/// Operations that run at the same time.
pub struct Mix {
    pub name: &'static str,
    operations: &'static [Operation],
    /// Whether the image is cached afterwards, if a stream survives.
    caches: bool,
}

pub const MIXES: &[Mix] = &[
    Mix { name: "two_streams", operations: &[STREAM, STREAM], caches: true },
    Mix { name: "three_streams", operations: &[STREAM, STREAM_OF_KNOWN_SIZE, STREAM], caches: true },
    Mix { name: "three_streams_in_two_processes", operations: &[TWO_STREAMS, STREAM], caches: false },
    Mix { name: "hasty_streams", operations: &[HASTY_STREAM, HASTY_STREAM, STREAM], caches: false },
    Mix { name: "a_stream_and_a_writer", operations: &[STREAM, WRITER], caches: true },
    Mix { name: "a_stream_and_a_tee", operations: &[STREAM, TEE], caches: true },
    Mix { name: "a_stream_and_a_prune", operations: &[STREAM, PRUNE], caches: false },
    Mix { name: "a_stream_and_a_clean", operations: &[STREAM, CLEAN], caches: false },
    Mix { name: "a_stream_and_a_delete", operations: &[STREAM, DELETE], caches: false },
    Mix { name: "a_stream_and_a_replacement", operations: &[STREAM, REPLACE], caches: false },
    Mix { name: "streams_and_a_clean", operations: &[STREAM, STREAM_OF_KNOWN_SIZE, CLEAN], caches: false },
    Mix { name: "streams_and_a_writer", operations: &[HASTY_STREAM, STREAM, WRITER], caches: false },
    Mix { name: "a_stream_a_writer_and_a_clean", operations: &[STREAM, WRITER, CLEAN], caches: false },
    Mix { name: "a_stream_a_tee_and_a_delete", operations: &[STREAM_OF_KNOWN_SIZE, TEE, DELETE], caches: false },
];

/// Sweeps one mix.
pub fn sweep(mix: &'static Mix, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_sweep(mix, configuration))
}

fn try_sweep(mix: &'static Mix, configuration: Configuration) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    Fixture::Usual.build(&workspace.path("fixture"), configuration);
    workspace.directory("scratch")?;
    let sweep = Sweep { mix, configuration, workspace };
    thread::scope(|scope| {
        let tracers: Vec<_> = mix
            .operations
            .iter()
            .enumerate()
            .map(|(number, operation)| {
                let ((send, batons), (ended, ends)) = (channel(), channel());
                let directory = sweep.workspace.path("cache");
                scope.spawn(move || {
                    let arguments = child::arguments_and_report(operation, &directory, configuration);
                    run_each(number, &arguments, &batons, &ended);
                });
                Tracer { batons: send, ends }
            })
            .collect();
        sweep.run_all(&tracers)
    })
}

/// The thread that traces one of the processes, in each schedule: starting the first process takes long.
struct Tracer {
    batons: Sender<Arc<Baton>>,
    ends: Receiver<io::Result<Traced>>,
}

fn run_each(
    number: usize,
    arguments: &[std::ffi::OsString],
    batons: &Receiver<Arc<Baton>>,
    ended: &Sender<io::Result<Traced>>,
) {
    while let Ok(baton) = batons.recv() {
        let traced = trace(arguments, |_, event| baton.pass(number, event));
        baton.end(number);
        if ended.send(traced).is_err() {
            break;
        }
    }
}

struct Sweep {
    mix: &'static Mix,
    configuration: Configuration,
    workspace: Workspace,
}

impl Sweep {
    fn run_all(&self, tracers: &[Tracer]) -> Result<(), Stop> {
        let mut violations = Vec::new();
        let calls = self.run(tracers, Plan { first: vec![(0, usize::MAX)], ..Plan::default() }, &mut violations)?;
        // Two streams have the turn in few of these only.
        let part = if self.mix.operations.iter().any(|one| one.name == HASTY_STREAM.name) { HASTY } else { 1 };
        let every = if is_in_full() { 1 } else { (calls / (SWITCHES * part)).max(1) };
        for (first, second) in [(0, 1), (1, 0)] {
            for at in (first * every / 2..calls).step_by(every) {
                let switch = vec![(first, at), (second, usize::MAX)];
                self.run(tracers, Plan { seed: 0, first: switch, kill: None }, &mut violations)?;
            }
        }
        let seeds = if is_in_full() { RANDOM_IN_FULL } else { RANDOM * part };
        for seed in 0..seeds as u64 {
            let mut random = fastrand::Rng::with_seed(!seed);
            let victim = (random.usize(..tracers.len()), random.usize(1..FIRST_CALLS));
            let kill = (seed % KILLS == 0).then_some(victim);
            self.run(tracers, Plan { seed, first: Vec::new(), kill }, &mut violations)?;
        }
        if violations.is_empty() { Ok(()) } else { Err(violations.join("\n\n").into()) }
    }

    /// Runs one schedule. Returns how many calls the first process made.
    fn run(&self, tracers: &[Tracer], plan: Plan, violations: &mut Vec<String>) -> Result<usize, Stop> {
        let directory = self.workspace.empty("cache")?;
        copy_tree(&self.workspace.path("fixture"), &directory)?;
        let described = format!("{plan:?}");
        let baton = Arc::new(Baton::new(tracers.len(), plan, LONGEST));
        for tracer in tracers {
            // The thread ends after this one only.
            let _ = tracer.batons.send(Arc::clone(&baton));
        }
        let traced = tracers.iter().map(|tracer| tracer.ends.recv().map_err(io::Error::other)?);
        let traced: Vec<_> = traced.collect::<io::Result<_>>()?;
        if traced.iter().any(|traced| traced.end == End::NotPermitted) {
            return Err(Stop::NotPermitted);
        }
        COUNTERS.schedules.add(1);
        if let Err(what) = baton.check().and_then(|()| self.check(&traced, baton.kills())) {
            violations.push(format!("{}, {described}: {what}{}", self.mix.name, baton.history()));
        }
        Ok(baton.calls(0))
    }

    fn check(&self, traced: &[Traced], kills: usize) -> CheckResult {
        let mut has_stream = false;
        for (operation, traced) in self.mix.operations.iter().zip(traced) {
            let name = operation.name;
            if traced.end == End::Killed && kills > 0 {
                continue;
            }
            check(traced.end == End::Exited(0), || format!("{name} ended with {:?}: {}", traced.end, traced.stderr))?;
            let report = Report::parse(&traced.stdout).ok_or_else(|| format!("{name} printed {}", traced.stdout))?;
            check(report.outcome.is_some(), || format!("{name} failed: {}\n{}", report.error, traced.stderr))?;
            let is_stream = [STREAM.name, STREAM_OF_KNOWN_SIZE.name].contains(&name);
            has_stream |= is_stream;
            let is_alone = is_stream && self.mix.caches && report.outcome == Some(Outcome::Partial);
            check(!is_alone, || format!("{name} was alone\n{}", traced.stderr))?;
        }
        let directory = self.workspace.path("cache");
        check_images_of(&directory)?;
        let is_cached = directory.join(IMAGE).exists();
        check(is_cached || !self.mix.caches || !has_stream, || "the image is not cached".to_owned())?;
        let cache = context("the open afterwards", ImageCache::open(&directory, self.configuration.options()))?;
        let streamed = context("the next stream", stream_whole(&cache, IMAGE, None))?;
        check(streamed.took < LONGEST, || format!("the next stream took {:?}", streamed.took))?;
        check(streamed.role != StreamRole::Alone, || "the next stream was alone".to_owned())?;
        drop(cache);
        let mut expected = Expected::of_fixture(Fixture::Usual);
        for operation in self.mix.operations {
            expected.add(operation.effects);
        }
        expected.add([Effect::Caches(IMAGE)].iter().chain(&[Effect::ReadsOnly(IMAGE); 8]));
        expected.cached.insert(IMAGE);
        let (fixture, scratch) = (self.workspace.path("fixture"), self.workspace.path("scratch"));
        check_all(&directory, &fixture, &scratch, self.configuration, &expected)
    }
}
