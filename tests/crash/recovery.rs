//! Kills during the recovery from a kill: every state that a killed operation can leave is recovered, and the recovery
//! is interrupted at each call that makes a difference.
//!
//! No process is killed here. A kill before a system call leaves the directory as it is at that moment, without the
//! process's locks and memory. So one run, stopped before each call, shows what all of its kills leave; each distinct
//! state is copied and checked once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use image_cache::Durability;
use libtest_mimic::{Completion, Failed};

use crate::calls::may_change_files;
use crate::child;
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::expected::Expected;
use crate::fixture::copy_tree;
use crate::kill::{MAX_CALLS, ended};
use crate::operations::{Operation, RECOVERY, operations};
use crate::promises::{Checked, check_all};
use crate::state::State;
use crate::sweep::{Stop, completed, in_parallel, is_in_full};
use crate::tracer::{Decision, Event, trace};
use crate::workspace::Workspace;

/// A directory as a kill leaves it.
struct KilledState {
    directory: PathBuf,
    fixture: PathBuf,
    configuration: Configuration,
    operation: &'static Operation,
    point: usize,
    returned: bool,
}

/// Sweeps the recovery from all states that the operations can leave.
pub fn sweep(configurations: &[Configuration]) -> Result<Completion, Failed> {
    completed(try_sweep(configurations))
}

fn try_sweep(configurations: &[Configuration]) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    let jobs: Vec<_> = configurations
        .iter()
        .flat_map(|configuration| operations(*configuration).map(|operation| (operation, *configuration)))
        .filter(|(operation, configuration)| {
            // An image that is leased by a process which is stopped cannot be copied. Deletes leave the same states.
            !operation.takes_leases() && (is_in_full() || !has_equal(operation, *configuration))
        })
        .collect();
    let states = Mutex::new(BTreeMap::new());
    in_parallel(jobs, |(operation, configuration)| collect(&workspace, operation, configuration, &states))?;
    let states = states.into_inner().unwrap_or_else(PoisonError::into_inner);
    COUNTERS.states.add(states.len());
    let checked = Checked::default();
    in_parallel(states.into_values().collect(), |left| sweep_from(&left, &checked))
}

/// Whether `make test` leaves it out: a stream leaves a dead writer's file as other operations do, and its record.
fn has_equal(operation: &Operation, configuration: Configuration) -> bool {
    !operation.is_swept(configuration)
        || operation.is_stream() && (operation.name != "stream" || configuration.durability != Durability::Full)
}

/// Copies each state that a kill of the operation leaves, unless an equal one is there.
fn collect(
    workspace: &Workspace,
    operation: &'static Operation,
    configuration: Configuration,
    states: &Mutex<BTreeMap<State, KilledState>>,
) -> Result<(), Stop> {
    let name = format!("{}-{}", operation.name, configuration.durability_name());
    let fixture = workspace.path(&format!("{name}-fixture"));
    let scratch = workspace.directory(&format!("{name}-scratch"))?;
    let directory = workspace.path(&name);
    operation.fixture.build(&fixture, configuration);
    copy_tree(&fixture, &directory)?;
    visit_each_state(operation, &directory, configuration, |point, returned| {
        let state = State::of(&directory, &fixture, &scratch)?;
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(entry) = states.entry(state) {
            let copy = workspace.path(&format!("{name}-{point}"));
            copy_tree(&directory, &copy)?;
            entry.insert(KilledState {
                directory: copy,
                fixture: fixture.clone(),
                configuration,
                operation,
                point,
                returned,
            });
        }
        Ok(())
    })
}

fn sweep_from(left: &KilledState, checked: &Checked) -> Result<(), Stop> {
    let workspace = Workspace::new()?;
    let (directory, scratch) = (workspace.path("cache"), workspace.directory("scratch")?);
    copy_tree(&left.directory, &directory)?;
    let mut expected = Expected::after(left.operation, left.returned);
    expected.add(RECOVERY.effects);
    visit_each_state(&RECOVERY, &directory, left.configuration, |point, _| {
        COUNTERS.recovery_kills.add(1);
        if !checked.is_new(State::of(&directory, &left.fixture, &scratch)?, &expected) {
            return Ok(());
        }
        let copy = workspace.empty("copy")?;
        copy_tree(&directory, &copy)?;
        COUNTERS.recovery_states.add(1);
        check_all(&copy, &left.fixture, &scratch, left.configuration, &expected).map_err(|what| {
            format!(
                "after a kill of '{}' at point {}, and one of its recovery at call {point}: {what}",
                left.operation.name, left.point
            )
            .into()
        })
    })
}

/// Runs an operation. Calls `visit` with the number of each call before which the directory may have changed, and
/// whether the operation has returned.
fn visit_each_state(
    operation: &Operation,
    directory: &Path,
    configuration: Configuration,
    mut visit: impl FnMut(usize, bool) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut calls = 0;
    let mut may_have_changed = true;
    let mut visited = Ok(());
    let traced = trace(&child::arguments(operation, directory, configuration), |_, event| {
        let returned = matches!(event, Event::Returned);
        if may_have_changed || returned {
            visited = visit(calls, returned);
        }
        calls += 1;
        if let Event::Call(call) = event {
            may_have_changed = may_change_files(call);
        }
        if visited.is_err() || calls > MAX_CALLS { Decision::Kill } else { Decision::Continue }
    })?;
    visited?;
    ended(operation, traced)
}
