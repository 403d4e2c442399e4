//! What is believed and is not so: the index beside the directory, the clock, the name of a directory, one file for all, what a
//! message says, what a binding returns. Each kind of fault has a file, and each trial is a case that was reported.
//!
//! All trials call the C functions. A trial that needs something that this machine lacks is ignored, and says so.

#![allow(clippy::wildcard_imports, reason = "the C functions have no modules")]

mod bindings;
mod c;
mod child;
mod disk;
mod fixture;
mod growth;
mod messages;
mod one_bad_file;
mod recognition;
mod the_clock;
mod the_index_is_believed;
mod the_index_is_never_believed;
mod torn_images;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let tasks = [
        &growth::TASKS[..],
        &messages::TASKS,
        &one_bad_file::TASKS,
        &the_clock::TASKS,
        &the_index_is_believed::TASKS,
        &the_index_is_never_believed::TASKS,
    ];
    if child::run_as_child(&tasks.concat()) {
        return ExitCode::SUCCESS;
    }
    disk::enter_namespace();
    let arguments = Arguments::from_args();
    let trials = [
        // The slow ones first.
        the_clock::trials(),
        growth::trials(),
        the_index_is_never_believed::trials(),
        the_index_is_believed::trials(),
        one_bad_file::trials(),
        recognition::trials(),
        torn_images::trials(),
        messages::trials(),
        bindings::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
