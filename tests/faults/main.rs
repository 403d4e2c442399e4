//! Faults that the first version of this library had, each with its kind: each case was reproduced once. All calls go
//! through the C ABI.
//!
//! Lines that begin with `swept:` say what a trial covered.

#![allow(clippy::result_large_err, reason = "a failure may be a lack of memory, so its message has its place")]

mod beside_glance;
mod c;
mod child;
mod forks;
mod fragmented;
mod freed_late;
mod frozen;
mod held_locks;
mod late_failures;
mod machine;
mod only_readers;
mod operations;
mod overlay;
mod removed_at_the_open;
mod slow_work;
mod stopped_process;
mod tasks;
mod the_host_is_killed;
mod tracer;
mod unopened_index;
mod wrong_bytes;

use std::process::ExitCode;

use libtest_mimic::Arguments;

/// Each performs the task of a child process, if it knows it.
const TASKS: [fn(&str, &[&str]) -> bool; 11] = [
    tasks::perform,
    beside_glance::perform,
    forks::perform,
    held_locks::perform,
    only_readers::perform,
    removed_at_the_open::perform,
    slow_work::perform,
    stopped_process::perform,
    the_host_is_killed::perform,
    unopened_index::perform,
    wrong_bytes::perform,
];

fn main() -> ExitCode {
    if let Some((task, arguments)) = child::own_task() {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        assert!(TASKS.iter().any(|perform| perform(&task, &arguments)), "{task} {arguments:?} is no task");
        // A child ends when its parent says so.
        while child::listen().is_some() {}
        return ExitCode::SUCCESS;
    }
    machine::enter_mount_namespace();
    let arguments = Arguments::from_args();
    let trials = [
        beside_glance::trials_of_kind(),
        forks::trials_of_kind(),
        fragmented::trials_of_kind(),
        freed_late::trials_of_kind(),
        frozen::trials_of_kind(),
        held_locks::trials_of_kind(),
        late_failures::trials_of_kind(),
        only_readers::trials_of_kind(),
        overlay::trials_of_kind(),
        removed_at_the_open::trials_of_kind(),
        slow_work::trials_of_kind(),
        stopped_process::trials_of_kind(),
        the_host_is_killed::trials_of_kind(),
        unopened_index::trials_of_kind(),
        wrong_bytes::trials_of_kind(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
