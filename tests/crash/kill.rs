//! The kill sweep: an operation is killed before each of its system calls in turn, and every promise is checked after it.

use std::path::Path;

use libtest_mimic::{Completion, Failed};

use crate::child;
use crate::counts::COUNTS;
use crate::operations::Operation;
use crate::place::Place;
use crate::promises::{Checked, Expected, check_all};
use crate::scene::{Manner, copy_tree};
use crate::state::State;
use crate::sweep::{Stop, completed};
use crate::tracer::{Decision, End, Event, trace};

/// More calls than any operation makes.
pub const ENDLESS: usize = 20_000;

/// Sweeps one operation.
pub fn sweep(operation: &Operation, manner: Manner) -> Result<Completion, Failed> {
    completed(try_sweep(operation, manner))
}

fn try_sweep(operation: &Operation, manner: Manner) -> Result<(), Stop> {
    let place = Place::new()?;
    let (scene, scratch) = (place.path("scene"), place.folder("scratch")?);
    operation.scene.build(&scene, manner);
    let checked = Checked::default();
    for point in 0..ENDLESS {
        let directory = place.empty("cache")?;
        copy_tree(&scene, &directory)?;
        let Some(killed) = kill_at(operation, &directory, manner, point)? else { return Ok(()) };
        COUNTS.kills.add(1);
        let expected = Expected::after(operation, killed.before.is_none());
        if checked.is_new(State::of(&directory, &scene, &scratch)?, &expected) {
            check_all(&directory, &scene, &scratch, manner, &expected).map_err(|what| {
                let before = killed.before.as_deref().unwrap_or("its return");
                format!("'{}' was killed at point {point}, before {before}: {what}", operation.name)
            })?;
        }
    }
    Err(format!("'{}' does not end", operation.name).into())
}

/// How far a killed process got.
struct Killed {
    /// The call that it was about to make; `None` for the end of the operation.
    before: Option<String>,
}

/// Kills the operation before its call of that number; `None` when it makes fewer.
fn kill_at(operation: &Operation, directory: &Path, manner: Manner, point: usize) -> Result<Option<Killed>, Stop> {
    let mut calls = 0;
    let mut before = None;
    let traced = trace(&mut child::command(operation, directory, manner), |_, event| {
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
        end => Err(format!("'{}' ended with {end:?}: {}", operation.name, traced.complaints).into()),
    }
}
