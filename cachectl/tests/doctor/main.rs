//! `doctor` finds each condition that docs/doctor.md lists. Each is made really: with other users, mounts, processes, times of files,
//! and damaged indexes. What cannot be made here is skipped, with what is missing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod access;
mod cache;
mod file_systems;
mod index;
mod untouched;
mod writers;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Completion, Trial};

/// Set in the run that has a mount namespace of its own.
const UNSHARED: &str = "IMAGE_CACHECTL_TEST_UNSHARED";

/// A test of one driver.
type Test = fn(DriverChoice) -> Completion;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let [writers::CHILD, directory] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return writers::child(directory);
    }
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && std::env::var_os(UNSHARED).is_none() {
        // Mounts of the tests are seen by no other process, and end with this one.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
        let error = command.args(&words).env(UNSHARED, "1").exec();
        panic!("unshare cannot be started: {error}");
    }
    let mut trials = Vec::new();
    let tests = [access::TESTS, file_systems::TESTS, index::TESTS, writers::TESTS, untouched::TESTS].concat();
    let of_sqlite = index::OF_SQLITE.to_vec();
    for (driver_name, driver) in [("sqlite", DriverChoice::Sqlite), ("xattr", DriverChoice::Xattr)] {
        let more = if driver == DriverChoice::Sqlite { &of_sqlite[..] } else { &[] };
        for &(name, needs_root, test) in tests.iter().chain(more) {
            trials.push(Trial::ignorable_test(format!("{driver_name}::{name}"), move || {
                Ok(if needs_root && !is_root { Completion::ignored_with("needs root") } else { test(driver) })
            }));
        }
    }
    trials.push(Trial::test("every_number_of_the_page_is_tested", || {
        untouched::every_number();
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
