//! Races: many threads in many processes on few images, and schedules that bring two operations to the same moment. A child
//! process is this program again, with another first argument.

#[path = "../common/mod.rs"]
mod common;
mod content;
mod history;
mod judge;
mod remains;
mod site;
mod stress;
mod watched;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Failed, Trial};

use common::DRIVERS;

type Test = fn(DriverChoice) -> Result<(), Failed>;

const TESTS: [(&str, Test); 1] =
    [("processes_that_are_killed_among_others_serve_no_wrong_byte_and_leave_exact_totals", stress::run)];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    if let [watched::CHILD, role, folder, driver, rest @ ..] = &words[..] {
        let driver = if *driver == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite };
        match (*role, rest) {
            ("stress", [number]) => worker::run(Path::new(folder), driver, number.parse().unwrap()),
            _ => return ExitCode::FAILURE,
        }
        return ExitCode::SUCCESS;
    }
    let trials = DRIVERS.iter().flat_map(|driver| {
        TESTS.iter().map(|(name, test)| {
            let (driver, test) = (*driver, *test);
            Trial::test(format!("{}::{name}", driver_name(driver)), move || test(driver))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// The driver's name in the names of tests, and for children.
fn driver_name(driver: DriverChoice) -> &'static str {
    if driver == DriverChoice::Xattr { "xattr" } else { "sqlite" }
}
