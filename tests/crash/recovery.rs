//! A kill during the recovery from a kill: from every state in which a kill of any operation can leave the directory, the
//! recovery is interrupted wherever that makes a difference, and every promise is checked.
//!
//! Here nothing is killed: what a kill before a system call leaves behind is the directory as it is at that moment, without
//! the locks and the memory of the process. So one run, which stops before each call, shows what all of its kills leave, and
//! each different state is copied and checked once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Completion, Failed};

use crate::calls::may_change_files;
use crate::child;
use crate::counts::COUNTS;
use crate::kill::ENDLESS;
use crate::operations::{Operation, RECOVERY, operations};
use crate::place::Place;
use crate::promises::{Checked, Expected, check_all};
use crate::scene::{Manner, copy_tree};
use crate::state::State;
use crate::sweep::{Stop, completed, in_parallel};
use crate::tracer::{Decision, End, Event, trace};

/// A directory as a kill leaves it.
struct Left {
    directory: PathBuf,
    scene: PathBuf,
    manner: Manner,
    operation: &'static Operation,
    point: usize,
    returned: bool,
}

/// Sweeps the recovery from whatever the operations can leave.
pub fn sweep(manners: &[Manner]) -> Result<Completion, Failed> {
    completed(try_sweep(manners))
}

fn try_sweep(manners: &[Manner]) -> Result<(), Stop> {
    let place = Place::new()?;
    let jobs: Vec<_> =
        manners.iter().flat_map(|manner| operations(*manner).map(|operation| (operation, *manner))).collect();
    let states = Mutex::new(BTreeMap::new());
    in_parallel(jobs, |(operation, manner)| collect(&place, operation, manner, &states))?;
    let states = states.into_inner().unwrap_or_else(PoisonError::into_inner);
    COUNTS.states.add(states.len());
    let checked = Checked::default();
    in_parallel(states.into_values().collect(), |left| sweep_from(&left, &checked))
}

/// Keeps what a kill of the operation leaves, wherever nothing like it was left before.
fn collect(
    place: &Place,
    operation: &'static Operation,
    manner: Manner,
    states: &Mutex<BTreeMap<State, Left>>,
) -> Result<(), Stop> {
    let name = format!("{}-{}", operation.name, manner.durability_name());
    let scene = place.path(&format!("{name}-scene"));
    let scratch = place.folder(&format!("{name}-scratch"))?;
    let directory = place.path(&name);
    operation.scene.build(&scene, manner);
    copy_tree(&scene, &directory)?;
    look_at_each(operation, &directory, manner, |point, returned| {
        let state = State::of(&directory, &scene, &scratch)?;
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(entry) = states.entry(state) {
            let copy = place.path(&format!("{name}-{point}"));
            copy_tree(&directory, &copy)?;
            entry.insert(Left { directory: copy, scene: scene.clone(), manner, operation, point, returned });
        }
        Ok(())
    })
}

fn sweep_from(left: &Left, checked: &Checked) -> Result<(), Stop> {
    let place = Place::new()?;
    let (directory, scratch) = (place.path("cache"), place.folder("scratch")?);
    copy_tree(&left.directory, &directory)?;
    let mut expected = Expected::after(left.operation, left.returned);
    expected.add(RECOVERY.effects);
    look_at_each(&RECOVERY, &directory, left.manner, |point, _| {
        COUNTS.recovery_kills.add(1);
        if !checked.is_new(State::of(&directory, &left.scene, &scratch)?, &expected) {
            return Ok(());
        }
        let copy = place.empty("copy")?;
        copy_tree(&directory, &copy)?;
        COUNTS.recovery_states.add(1);
        check_all(&copy, &left.scene, &scratch, left.manner, &expected).map_err(|what| {
            format!(
                "after a kill of '{}' at point {}, and one of its recovery at call {point}: {what}",
                left.operation.name, left.point
            )
            .into()
        })
    })
}

/// Runs an operation, and calls `look` with the number of each call before which the directory may be another one than before
/// the call in front of it, and whether the operation has returned.
fn look_at_each(
    operation: &Operation,
    directory: &Path,
    manner: Manner,
    mut look: impl FnMut(usize, bool) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut calls = 0;
    let mut may_have_changed = true;
    let mut looked = Ok(());
    let traced = trace(&mut child::command(operation, directory, manner), |_, event| {
        let returned = matches!(event, Event::Returned);
        if may_have_changed || returned {
            looked = look(calls, returned);
        }
        calls += 1;
        if let Event::Call(call) = event {
            may_have_changed = may_change_files(call);
        }
        if looked.is_err() || calls > ENDLESS { Decision::Kill } else { Decision::Continue }
    })?;
    looked?;
    match traced.end {
        End::Exited(0) => Ok(()),
        End::NotPermitted => Err(Stop::NotPermitted),
        end => Err(format!("'{}' ended with {end:?}: {}", operation.name, traced.complaints).into()),
    }
}
