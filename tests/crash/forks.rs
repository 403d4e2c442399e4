//! A fork in the midst of an operation of another thread: the operation is stopped before a system call, then another
//! thread of its process forks.
//!
//! A fork waits for threads that are inside of SQLite, so an operation that is stopped there goes on when the fork has not
//! ended after [`PATIENCE`]; the fork then takes place as soon as the operation has left SQLite. The child of the fork
//! uses the inherited handle, another cache and the same cache. Both processes must end well, and every promise holds.

use std::io::Read as _;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use image_cache::{Error, ExportOptions, ImageCache, ImportOptions, VerifyOptions};
use libtest_mimic::{Completion, Failed};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};

use crate::checks::{CheckResult, check, context};
use crate::child::{self, Report};
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::{Fixture, bytes_of, cache_image, copy_tree};
use crate::launcher;
use crate::operations::{Operation, Outcome};
use crate::promises::{Checked, check_all};
use crate::state::State;
use crate::sweep::{Stop, completed, is_in_full};
use crate::tracer::{Decision, End, Event, trace};
use crate::workspace::Workspace;

/// How long the operation stays stopped for a fork that has to wait for it.
const PATIENCE: Duration = Duration::from_millis(5);
/// The seconds after which a process that hangs is killed. Much less than a fork waits for SQLite is no hang.
const WATCHDOG: u32 = 60;
/// A fork that waits for longer than that never ends.
const LONGEST: Duration = Duration::from_secs(90);

/// At how many points of an operation `make test` forks: evenly spread. `make test-crash` forks at each.
const POINTS: usize = 100;

/// The image that the child of the fork reads in the same cache.
const IMAGE: &str = "kept";

/// Sweeps one operation.
pub fn sweep(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_sweep(operation, configuration))
}

fn try_sweep(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    let (fixture, scratch) = (workspace.path("fixture"), workspace.directory("scratch")?);
    operation.fixture.build(&fixture, configuration);
    let checked = Checked::default();
    let (mut point, mut calls) = (0, usize::MAX);
    let mut expected = Expected::after(operation, true);
    // The child of the fork may have read it.
    expected.hits.entry(IMAGE).or_default().1 += 1;
    while point < calls {
        let directory = workspace.empty("cache")?;
        workspace.empty("cache-of-the-fork")?;
        copy_tree(&fixture, &directory)?;
        calls = fork_at(operation, &directory, configuration, point)?;
        let violation =
            State::of(&directory, &fixture, &scratch).map_err(|error| error.to_string()).and_then(|state| {
                if checked.is_new(state, &expected) {
                    check_all(&directory, &fixture, &scratch, configuration, &expected)?;
                }
                Ok(())
            });
        violation.map_err(|what| format!("a fork at point {point} of '{}': {what}", operation.name))?;
        point += if is_in_full() { 1 } else { calls.div_ceil(POINTS) };
    }
    Ok(())
}

/// Runs the operation, with a fork before the call of that number. Returns how many calls it makes.
fn fork_at(operation: &Operation, directory: &Path, configuration: Configuration, point: usize) -> Result<usize, Stop> {
    let (mut calls, mut before, mut has_forked) = (0, None, Ok(false));
    let traced = trace(&child::arguments_and_fork(operation, directory, configuration), |_, event| {
        calls += 1;
        if before.is_none() && (calls > point || matches!(event, Event::Returned)) {
            before = Some(if let Event::Call(call) = event { call.name() } else { "its return".to_owned() });
            has_forked = launcher::tell().and_then(|()| launcher::hear(PATIENCE));
        }
        Decision::Continue
    })?;
    if traced.end == End::NotPermitted {
        return Err(Stop::NotPermitted);
    }
    let has_forked = has_forked?;
    COUNTERS.forks.add(1);
    COUNTERS.late_forks.add(usize::from(!has_forked));
    let failed = |what: String| {
        launcher::restart();
        let (name, before) = (operation.name, before.as_deref().unwrap_or("its begin"));
        format!("a fork at point {point} of '{name}', before {before}: {what}; the child printed: {}", traced.stderr)
    };
    if traced.end != End::Exited(0) {
        return Err(failed(format!("the process ended with {:?}", traced.end)).into());
    }
    if !has_forked && !launcher::hear(LONGEST)? {
        return Err(failed("the process did not fork".to_owned()).into());
    }
    let report = Report::parse(&traced.stdout).ok_or_else(|| failed("no report".to_owned()))?;
    if report.outcome != Some(Outcome::Done) {
        return Err(failed(format!("the operation returned {report:?}")).into());
    }
    Ok(calls)
}

/// The handle of the traced process, which its child inherits. The operation uses it meanwhile, so it is an address.
#[derive(Clone, Copy)]
pub struct Inherited(*const ImageCache);

// SAFETY: it is only read in a child of a fork, whose memory is its own.
unsafe impl Send for Inherited {}

impl Inherited {
    /// None of an operation that opens or closes the handle.
    pub fn of(operation: &Operation, cache: Option<&ImageCache>) -> Option<Self> {
        cache.filter(|_| operation.name != "close_with_pending_hits").map(|cache| Self(cache))
    }
}

/// In the traced process, on a thread that is not traced: forks when the tracer says so.
pub fn fork_when_told(
    operation: &Operation,
    directory: &Path,
    configuration: Configuration,
    inherited: Option<Inherited>,
) -> CheckResult {
    alarm::set(WATCHDOG);
    launcher::wait_to_be_told();
    // SAFETY: the child ends without the destructors and exit handlers of its parent. Of what another thread may hold, it
    // uses nothing but the library, which is what is tested.
    match unsafe { fork() }.map_err(|error| error.to_string())? {
        ForkResult::Child => {
            alarm::set(WATCHDOG / 2);
            let used = catch_unwind(AssertUnwindSafe(|| use_in_child(operation, directory, configuration, inherited)));
            let code = match used {
                Ok(Ok(())) => 0,
                Ok(Err(what)) => {
                    eprintln!("{what}");
                    1
                }
                Err(_) => 2,
            };
            // SAFETY: it ends the process.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            launcher::say();
            let status = waitpid(child, None).map_err(|error| error.to_string())?;
            check(matches!(status, WaitStatus::Exited(_, 0)), || format!("the child of the fork: {status:?}"))
        }
    }
}

fn use_in_child(
    operation: &Operation,
    directory: &Path,
    configuration: Configuration,
    inherited: Option<Inherited>,
) -> CheckResult {
    if let Some(Inherited(cache)) = inherited {
        // SAFETY: the operation neither moves nor drops it.
        use_inherited(unsafe { &*cache })?;
    }
    let another = directory.with_file_name("cache-of-the-fork");
    let cache = context("opening another cache", ImageCache::open(another, configuration.options()))?;
    context("caching in another cache", cache_image(&cache, IMAGE))?;
    read(&cache)?;
    drop(cache);
    match ImageCache::open(directory, configuration.options()) {
        // SQLite has state of the process that forked.
        Err(Error::OpenAcrossFork { .. }) if configuration.is_sqlite() => Ok(()),
        Ok(_) if configuration.is_sqlite() && inherited.is_some() => Err("the same cache opens again".to_owned()),
        Err(error) => Err(format!("opening the same cache: {error}")),
        Ok(cache) => {
            let is_there = Expected::after(operation, false).cached.contains(IMAGE);
            if operation.fixture != Fixture::Empty && (is_there || context("is_cached", cache.is_cached(IMAGE))?) {
                let read = read(&cache);
                return if is_there { read } else { Ok(()) };
            }
            Ok(())
        }
    }
}

fn read(cache: &ImageCache) -> CheckResult {
    let mut bytes = Vec::new();
    let mut reader = context("open_for_read in the child of the fork", cache.open_for_read(IMAGE))?;
    context("reading in the child of the fork", reader.read_to_end(&mut bytes))?;
    check(bytes == bytes_of(IMAGE), || "wrong bytes are served to the child of the fork".to_owned())
}

/// Each call returns `Forked`.
fn use_inherited(cache: &ImageCache) -> CheckResult {
    let results = [
        ("is_cached", cache.is_cached(IMAGE).map(drop)),
        ("cache_size", cache.cache_size().map(drop)),
        ("hit_count", cache.hit_count(IMAGE).map(drop)),
        ("list_cached", cache.list_cached().map(drop)),
        ("list_queued", cache.list_queued().map(drop)),
        ("list_incomplete", cache.list_incomplete().map(drop)),
        ("list_invalid", cache.list_invalid().map(drop)),
        ("get_image", cache.get_image(IMAGE).map(drop)),
        ("open_for_read", cache.open_for_read(IMAGE).map(drop)),
        ("export", {
            let target = std::io::stderr();
            cache.export(IMAGE, target, ExportOptions::default(), |_, _| ControlFlow::Continue(())).map(drop)
        }),
        ("import", {
            let source = std::io::stdin();
            cache.import("new", source, &ImportOptions::default(), |_, _| ControlFlow::Continue(())).map(drop)
        }),
        ("begin_write", cache.begin_write("new").map(drop)),
        ("queue_image", cache.queue_image("new").map(drop)),
        ("delete_queued_image", cache.delete_queued_image("queued")),
        ("delete_cached_image", cache.delete_cached_image(IMAGE)),
        ("delete_unused_image", cache.delete_unused_image(IMAGE).map(drop)),
        ("prune", cache.prune().map(drop)),
        ("prune_to", cache.prune_to(0).map(drop)),
        ("make_room", cache.make_room(0).map(drop)),
        ("set_max_size", cache.set_max_size(1)),
        ("usage", cache.usage().map(drop)),
        ("verify", cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).map(drop)),
        ("clean", cache.clean(None).map(drop)),
        ("statistics", cache.statistics().map(drop)),
        ("pin", cache.pin(IMAGE, "holder", None)),
        ("unpin", cache.unpin(IMAGE, "holder")),
    ];
    for (name, result) in results {
        check(matches!(result, Err(Error::Forked { .. })), || format!("{name} of an inherited handle: {result:?}"))?;
    }
    Ok(())
}
