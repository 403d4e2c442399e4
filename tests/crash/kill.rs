//! The kill sweep: an operation is killed before each of its system calls in turn, then every promise is checked.
//!
//! A kill leaves the directory as it is at that moment; the process's locks and memory are gone. So of several kills
//! between which no call may have changed the directory, one is made. `make test-crash` makes all.

use std::path::Path;

use libtest_mimic::{Completion, Failed};

use crate::calls::may_change_files;
use crate::child;
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::copy_tree;
use crate::operations::Operation;
use crate::promises::{Checked, check_all};
use crate::state::State;
use crate::sweep::{Stop, completed, is_in_full};
use crate::tracer::{Decision, End, Event, Traced, trace};
use crate::workspace::Workspace;

/// More calls than any operation makes.
pub const MAX_CALLS: usize = 20_000;

/// Sweeps one operation.
pub fn sweep(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_sweep(operation, configuration))
}

fn try_sweep(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    let (fixture, scratch) = (workspace.path("fixture"), workspace.directory("scratch")?);
    operation.fixture.build(&fixture, configuration);
    let directory = workspace.path("cache");
    copy_tree(&fixture, &directory)?;
    let points = points(operation, &directory, configuration)?;
    let checked = Checked::default();
    for point in points {
        workspace.remove(&directory)?;
        copy_tree(&fixture, &directory)?;
        let killed = kill_at(operation, &directory, configuration, point)?;
        COUNTERS.kills.add(1);
        let expected = Expected::after(operation, killed.before.is_none());
        if checked.is_new(State::of(&directory, &fixture, &scratch)?, &expected) {
            check_all(&directory, &fixture, &scratch, configuration, &expected).map_err(|what| {
                let before = killed.before.as_deref().unwrap_or("its return");
                format!("'{}' was killed at point {point}, before {before}: {what}", operation.name)
            })?;
        }
    }
    Ok(())
}

/// The numbers of the calls before which a kill may leave another directory than the kill before; the last number is the
/// operation's end.
pub fn points(operation: &Operation, directory: &Path, configuration: Configuration) -> Result<Vec<usize>, Stop> {
    let mut points = Vec::new();
    let mut calls = 0;
    let mut may_have_changed = true;
    let traced = trace(&child::arguments(operation, directory, configuration), |_, event| {
        if may_have_changed || is_in_full() || matches!(event, Event::Returned) {
            points.push(calls);
        }
        calls += 1;
        may_have_changed = matches!(event, Event::Call(call) if may_change_files(call));
        if calls > MAX_CALLS { Decision::Kill } else { Decision::Continue }
    })?;
    ended(operation, traced).map(|()| points)
}

/// Whether an operation that was not killed ended well.
pub fn ended(operation: &Operation, traced: Traced) -> Result<(), Stop> {
    match traced.end {
        End::Exited(0) => Ok(()),
        End::NotPermitted => Err(Stop::NotPermitted),
        end => Err(format!("'{}' ended with {end:?}: {}", operation.name, traced.stderr).into()),
    }
}

/// Where the process was killed.
struct Killed {
    /// The call that it was about to make; `None` at the end of the operation.
    before: Option<String>,
}

/// Kills the operation before the call of that number; at its end, where it makes fewer calls.
fn kill_at(
    operation: &Operation,
    directory: &Path,
    configuration: Configuration,
    point: usize,
) -> Result<Killed, Stop> {
    let mut calls = 0;
    let mut before = None;
    let traced = trace(&child::arguments(operation, directory, configuration), |_, event| {
        calls += 1;
        match event {
            Event::Call(_) if calls <= point => return Decision::Continue,
            Event::Call(call) => before = Some(call.name()),
            Event::Returned => {}
        }
        Decision::Kill
    })?;
    match traced.end {
        End::Killed => Ok(Killed { before }),
        End::NotPermitted => Err(Stop::NotPermitted),
        end => Err(format!("'{}' ended with {end:?}: {}", operation.name, traced.stderr).into()),
    }
}
