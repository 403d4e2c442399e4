//! The kill sweep: an operation is killed before each of its system calls in turn, then every promise is checked.

use std::path::Path;

use libtest_mimic::{Completion, Failed};

use crate::child;
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::copy_tree;
use crate::operations::Operation;
use crate::promises::{Checked, check_all};
use crate::state::State;
use crate::sweep::{Stop, completed};
use crate::tracer::{Decision, End, Event, trace};
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
    let checked = Checked::default();
    for point in 0..MAX_CALLS {
        let directory = workspace.empty("cache")?;
        copy_tree(&fixture, &directory)?;
        let Some(killed) = kill_at(operation, &directory, configuration, point)? else { return Ok(()) };
        COUNTERS.kills.add(1);
        let expected = Expected::after(operation, killed.before.is_none());
        if checked.is_new(State::of(&directory, &fixture, &scratch)?, &expected) {
            check_all(&directory, &fixture, &scratch, configuration, &expected).map_err(|what| {
                let before = killed.before.as_deref().unwrap_or("its return");
                format!("'{}' was killed at point {point}, before {before}: {what}", operation.name)
            })?;
        }
    }
    Err(format!("'{}' does not end", operation.name).into())
}

/// Where the process was killed.
struct Killed {
    /// The call that it was about to make; `None` at the end of the operation.
    before: Option<String>,
}

/// Kills the operation before the call of that number; `None` where it makes fewer calls.
fn kill_at(
    operation: &Operation,
    directory: &Path,
    configuration: Configuration,
    point: usize,
) -> Result<Option<Killed>, Stop> {
    let mut calls = 0;
    let mut before = None;
    let traced = trace(&mut child::command(operation, directory, configuration), |_, event| {
        calls += 1;
        if calls <= point {
            return Decision::Continue;
        }
        before = match event {
            Event::Call(call) => Some(call.name()),
            Event::Returned => None,
        };
        Decision::Kill
    })?;
    match traced.end {
        End::Killed => Ok(Some(Killed { before })),
        End::Exited(0) => Ok(None),
        End::NotPermitted => Err(Stop::NotPermitted),
        end => Err(format!("'{}' ended with {end:?}: {}", operation.name, traced.stderr).into()),
    }
}
