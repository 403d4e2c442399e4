//! The sweeps of system calls: every operation is killed before each of its calls, each of its calls fails in every way
//! that it can, a reader goes on while the operation is stopped before each of its calls, and another thread forks then.
//! After each, every promise is checked.
//!
//! The traced child processes are this program (`launcher.rs`). The last line counts what was swept. Trials that cannot
//! run here are ignored, with the reason.

// The tracer reads and writes registers of one architecture (`registers.rs`, and the names in `calls.rs`).
#[cfg(target_arch = "x86_64")]
mod baton;
#[cfg(target_arch = "x86_64")]
mod calls;
#[cfg(target_arch = "x86_64")]
#[path = "../common/checks.rs"]
mod checks;
#[cfg(target_arch = "x86_64")]
mod child;
#[cfg(target_arch = "x86_64")]
mod configuration;
#[cfg(target_arch = "x86_64")]
mod counters;
#[cfg(target_arch = "x86_64")]
mod differences;
#[cfg(target_arch = "x86_64")]
mod expected;
#[cfg(target_arch = "x86_64")]
mod fault;
#[cfg(target_arch = "x86_64")]
mod filter;
#[cfg(target_arch = "x86_64")]
mod fixture;
#[cfg(target_arch = "x86_64")]
mod forks;
#[cfg(target_arch = "x86_64")]
mod intruders;
#[cfg(target_arch = "x86_64")]
mod intrusions;
#[cfg(target_arch = "x86_64")]
mod kill;
#[cfg(target_arch = "x86_64")]
mod launcher;
#[cfg(target_arch = "x86_64")]
mod operation;
#[cfg(target_arch = "x86_64")]
mod operations;
#[cfg(target_arch = "x86_64")]
mod promises;
#[cfg(target_arch = "x86_64")]
mod recovery;
#[cfg(target_arch = "x86_64")]
mod registers;
#[cfg(target_arch = "x86_64")]
mod resources;
#[cfg(target_arch = "x86_64")]
mod schedules;
#[cfg(target_arch = "x86_64")]
mod setup;
#[cfg(target_arch = "x86_64")]
mod shared;
#[cfg(target_arch = "x86_64")]
mod state;
#[cfg(target_arch = "x86_64")]
mod stopped;
#[cfg(target_arch = "x86_64")]
mod streams;
#[cfg(target_arch = "x86_64")]
mod sweep;
#[cfg(target_arch = "x86_64")]
mod tracer;
#[cfg(target_arch = "x86_64")]
mod trials;
#[cfg(target_arch = "x86_64")]
mod workspace;

use std::process::ExitCode;

#[cfg(target_arch = "x86_64")]
fn main() -> ExitCode {
    match launcher::run_as_launcher() {
        None => trials::run(),
        Some(Ok(arguments)) => child::run(&arguments),
        Some(Err(code)) => code,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() -> ExitCode {
    use libtest_mimic::{Arguments, Completion, Trial};
    let ignored = || Ok(Completion::ignored_with("the tracer knows the registers of x86_64 only"));
    let trial = Trial::ignorable_test("kills_and_faults_harm_nothing", ignored);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
