//! A process that is stopped within an operation, at each of its system calls, delays no reader.
//!
//! While the traced child is stopped, this process makes a hit through a handle of its own on the same directory. The hit
//! must succeed and must not block: no call in it gives the processor away. A handle writes hits as a reader closes,
//! at most once a second. So some points have a handle of their own, whose first hit tries to write.

use std::io::Read as _;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::{Duration, Instant};

use image_cache::{Error, ImageCache};
use libtest_mimic::{Completion, Failed};
use nix::libc;

use crate::calls::{self, Kind};
use crate::checks::{CheckResult, check, context};
use crate::child;
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::{Fixture, bytes_of, copy_tree};
use crate::kill::{MAX_CALLS, ended};
use crate::operations::{Effect, Operation};
use crate::promises::check_all;
use crate::sweep::{Stop, completed};
use crate::tracer::{Decision, Event, trace};
use crate::workspace::Workspace;

/// The image that is read. No operation but one that deletes all removes it.
const IMAGE: &str = "kept";

/// How many points of an operation have a handle of their own.
const HANDLES: usize = 24;

/// A hit that waits for a lock looks at it more often than this: it sleeps between two looks. A page or a lock of this
/// process makes a hit wait now and then, but seldom.
const MAX_SWITCHES: i64 = 8;
/// Such a hit is made again, so many times.
const ATTEMPTS: usize = 5;
/// No page takes as long.
const LONGEST: Duration = Duration::from_secs(1);

/// Sweeps one operation.
pub fn sweep(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_sweep(operation, configuration))
}

/// Whether a handle can be open before the operation: the others begin with a directory that nobody has open.
pub fn can_be_beside(operation: &Operation) -> bool {
    // A hit of an image keeps it from eviction.
    operation.fixture == Fixture::Usual && !operation.effects.contains(&Effect::Evicts(IMAGE))
}

fn try_sweep(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    let (fixture, scratch, directory) =
        (workspace.path("fixture"), workspace.directory("scratch")?, workspace.path("cache"));
    operation.fixture.build(&fixture, configuration);
    copy_tree(&fixture, &directory)?;
    let calls = count_calls(operation, &directory, configuration)?;
    workspace.remove(&directory)?;
    copy_tree(&fixture, &directory)?;

    let open = |_| ImageCache::open(&directory, configuration.options());
    // The first one is for all points that have none of their own.
    let handles = (0..=HANDLES).map(open).collect::<Result<Vec<_>, _>>()?;
    let every = calls.div_ceil(HANDLES);
    let may_be_gone = !Expected::after(operation, false).cached.contains(IMAGE);
    let (mut point, mut hits, mut outcome) = (0, 0, Ok(()));
    let traced = trace(&child::arguments(operation, &directory, configuration), |_, event| {
        let own = if point % every == 0 { handles.get(1 + point / every) } else { None };
        outcome = hit_without_waiting(own.unwrap_or(&handles[0]), may_be_gone, &mut hits);
        COUNTERS.stops.add(1);
        if let Err(what) = &mut outcome {
            let before = if let Event::Call(call) = event { call.name() } else { "its return".to_owned() };
            *what = format!("'{}' was stopped at point {point}, before {before}: {what}", operation.name);
            return Decision::Kill;
        }
        point += 1;
        Decision::Continue
    })?;
    drop(handles);
    outcome?;
    ended(operation, traced)?;
    let mut expected = Expected::after(operation, true);
    let (least, most) = expected.hits.get(IMAGE).copied().unwrap_or_default();
    expected.hits.insert(IMAGE, (if may_be_gone { 0 } else { least + hits }, most + hits));
    check_all(&directory, &fixture, &scratch, configuration, &expected)?;
    Ok(())
}

/// Opens the cache once more while a commit is stopped before its publish, in which it holds the cache lock: the open
/// works, or returns `TimedOut`.
pub fn open_beside_a_commit(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_open_beside_a_commit(operation, configuration))
}

fn try_open_beside_a_commit(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    let directory = workspace.path("cache");
    operation.fixture.build(&directory, configuration);
    let mut opened = None;
    let traced = trace(&child::arguments(operation, &directory, configuration), |_, event| {
        if opened.is_none() && matches!(event, Event::Call(call) if calls::kind(call) == Some(Kind::Name)) {
            opened = Some(ImageCache::open(&directory, configuration.options()).map(drop));
        }
        Decision::Continue
    })?;
    ended(operation, traced)?;
    match opened {
        Some(Ok(()) | Err(Error::TimedOut { .. })) => Ok(()),
        other => Err(format!("the open returned {other:?}").into()),
    }
}

fn count_calls(operation: &Operation, directory: &Path, configuration: Configuration) -> Result<usize, Stop> {
    let mut calls = 0;
    let traced = trace(&child::arguments(operation, directory, configuration), |_, _| {
        calls += 1;
        if calls > MAX_CALLS { Decision::Kill } else { Decision::Continue }
    })?;
    ended(operation, traced).map(|()| calls)
}

/// Counts the hit in `hits`.
fn hit_without_waiting(cache: &ImageCache, may_be_gone: bool, hits: &mut u64) -> CheckResult {
    for _ in 0..ATTEMPTS {
        let (before, begin) = (voluntary_switches(), Instant::now());
        let is_hit = hit(cache, may_be_gone)?;
        *hits += u64::from(is_hit);
        let switches = voluntary_switches() - before;
        if switches == 0 {
            return Ok(());
        }
        check(switches < MAX_SWITCHES && begin.elapsed() < LONGEST, || {
            format!("a hit blocks, {switches} times within {:?}", begin.elapsed())
        })?;
    }
    Err(format!("a hit blocks, in each of {ATTEMPTS} attempts"))
}

/// False where the image is gone.
fn hit(cache: &ImageCache, may_be_gone: bool) -> CheckResult<bool> {
    let is_cached = context("is_cached", cache.is_cached(IMAGE))?;
    check(is_cached || may_be_gone, || "the image is not cached".to_owned())?;
    let mut reader = match cache.open_for_read(IMAGE) {
        Err(Error::NotFound { .. }) if may_be_gone => return Ok(false),
        reader => context("open_for_read", reader)?,
    };
    let mut bytes = Vec::new();
    context("reading", reader.read_to_end(&mut bytes))?;
    check(bytes == bytes_of(IMAGE), || "wrong bytes are served".to_owned())?;
    Ok(true)
}

/// How often this thread gave the processor away, because it had to wait.
fn voluntary_switches() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call fills the structure.
    unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()), 0);
        usage.assume_init().ru_nvcsw
    }
}
