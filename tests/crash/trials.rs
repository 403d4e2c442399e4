//! The list of all sweeps, for the test harness.

use std::process::ExitCode;

use image_cache::Durability;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::operations::operations;
use crate::sweep::is_in_full;
use crate::workspace::Workspace;
use crate::{fault, forks, intrusions, kill, recovery, schedules, stopped, streams};

/// Runs the trials that the command line selects.
pub fn run() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    // The longest ones first.
    for driver in ["sqlite", "xattr"] {
        let configurations: Vec<_> =
            Configuration::ALL.into_iter().filter(|configuration| configuration.driver_name() == driver).collect();
        let name = format!("a_kill_before_each_call_of_a_recovery_harms_nothing::{driver}");
        trials.push(trial(name, move || recovery::sweep(&configurations)));
    }
    for configuration in Configuration::ALL {
        // Each of the two is swept with the other driver, or the other durability.
        if configuration.is_xattr_without_durability() && !is_in_full() {
            continue;
        }
        for operation in operations(configuration) {
            if !is_in_full() && !operation.is_swept(configuration) {
                continue;
            }
            let (what, driver, durability) =
                (operation.name, configuration.driver_name(), configuration.durability_name());
            let name = format!("a_kill_before_each_call_of_{what}_harms_nothing::{driver}::{durability}");
            trials.push(trial(name, move || kill::sweep(operation, configuration)));
            let is_full = configuration.durability == Durability::Full;
            // Drivers and durabilities differ in the publish only, which is a commit's.
            let is_equal = operation.is_stream() && (configuration.is_sqlite() || !is_full) && !is_in_full();
            if !is_equal {
                let name = format!("a_fault_in_each_call_of_{what}_is_reported_and_passes::{driver}::{durability}");
                trials.push(trial(name, move || fault::sweep(operation, configuration)));
            }
            if streams::is_fetch(operation) && (is_full || is_in_full()) {
                let name = format!("a_kill_before_each_call_of_{what}_costs_no_other_stream::{driver}::{durability}");
                trials.push(trial(name, move || streams::kills(operation, configuration)));
            }
            if streams::is_fetch(operation) && !is_equal {
                let name = format!("a_stop_before_each_call_of_{what}_delays_no_other_stream::{driver}::{durability}");
                trials.push(trial(name, move || streams::stops(operation, configuration)));
            }
            if stopped::can_be_beside(operation) && !is_equal {
                let name = format!("a_stop_before_each_call_of_{what}_delays_no_reader::{driver}::{durability}");
                trials.push(trial(name, move || stopped::sweep(operation, configuration)));
            }
            if operation.name == "commit" {
                let name = format!("an_open_beside_a_stopped_commit_ends::{driver}::{durability}");
                trials.push(trial(name, move || stopped::open_beside_a_commit(operation, configuration)));
            }
            // A child has the same locks and descriptors with both drivers, and those of SQLite besides.
            let is_forked = is_in_full() || (is_full && configuration.is_sqlite());
            if is_forked && !is_equal && !operation.evicts_others_beside_a_fork() {
                let name = format!("a_fork_in_the_midst_of_{what}_harms_neither_process::{driver}::{durability}");
                trials.push(trial(name, move || forks::sweep(operation, configuration)));
            }
        }
    }
    // Drivers differ in the publish only.
    for configuration in Configuration::ALL.into_iter().filter(|one| one.durability == Durability::Full) {
        for operation in intrusions::DISTURBED {
            if configuration.is_sqlite() || is_in_full() {
                let (what, driver) = (operation.name, configuration.driver_name());
                let name = format!("an_intrusion_at_each_call_of_{what}_yields_no_wrong_byte::{driver}");
                trials.push(trial(name, move || intrusions::sweep(operation, configuration)));
            }
        }
        for mix in schedules::MIXES {
            if configuration.is_sqlite() || is_in_full() {
                let name = format!("{}_share_an_image_in_each_schedule::{}", mix.name, configuration.driver_name());
                trials.push(trial(name, move || schedules::sweep(mix, configuration)));
            }
        }
    }
    trials.sort_by_key(|trial| !waits(trial.name()));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{COUNTERS}");
    }
    conclusion.exit_code()
}

/// Whether a trial waits for deadlines. These come first: the others use the processors meanwhile.
fn waits(name: &str) -> bool {
    ["delays_no_other_stream", "an_open_beside_a_stopped_commit_ends"].iter().any(|part| name.contains(part))
}

fn trial(name: String, sweep: impl FnOnce() -> Result<Completion, Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        if !Workspace::new()?.has_attributes() {
            return Ok(Completion::ignored_with("no file system with user extended attributes"));
        }
        sweep()
    })
}
