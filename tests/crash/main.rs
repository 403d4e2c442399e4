//! The sweeps: every operation is killed before each of its system calls, and every one of its calls fails in every way
//! that it can. After each, every promise is checked.
//!
//! The traced processes are this program itself, called with the name of an operation. A line at the end says how much was
//! swept; what cannot be swept here is ignored, with the reason.

mod calls;
mod child;
mod counts;
mod fault;
mod held;
mod kill;
mod operations;
mod place;
mod promises;
mod recovery;
mod registers;
mod scene;
mod state;
mod sweep;
mod tracer;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::operations::operations;
use crate::place::Place;
use crate::scene::Manner;

fn main() -> ExitCode {
    if let Some(code) = child::play() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for driver in ["sqlite", "xattr"] {
        let manners: Vec<_> = Manner::ALL.into_iter().filter(|manner| manner.driver_name() == driver).collect();
        let name = format!("a_kill_before_each_call_of_a_recovery_harms_nothing::{driver}");
        trials.push(trial(name, manners[0], move || recovery::sweep(&manners)));
    }
    for manner in Manner::ALL {
        for operation in operations(manner) {
            let (driver, durability) = (manner.driver_name(), manner.durability_name());
            let name = format!("a_kill_before_each_call_of_{}_harms_nothing::{driver}::{durability}", operation.name);
            trials.push(trial(name, manner, move || kill::sweep(operation, manner)));
            let name = format!("a_fault_in_each_call_of_{}_is_told_and_passes::{driver}::{durability}", operation.name);
            trials.push(trial(name, manner, move || fault::sweep(operation, manner)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("{}", counts::COUNTS);
    }
    conclusion.exit_code()
}

fn trial(name: String, manner: Manner, sweep: impl FnOnce() -> Result<Completion, Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        if !manner.is_sqlite() && !Place::new()?.has_attributes() {
            return Ok(Completion::ignored_with("no file system with user extended attributes"));
        }
        sweep()
    })
}
