//! What monitors a cache: metrics that Prometheus' own tools accept, the dashboard, the report, and the units of systemd. What a tool is
//! missing for is skipped, with its name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod metrics;
mod tool;
mod units;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Completion, Trial};

/// A test of one driver.
type Test = fn(DriverChoice) -> Completion;

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for (driver_name, driver) in [("sqlite", DriverChoice::Sqlite), ("xattr", DriverChoice::Xattr)] {
        for &(name, test) in metrics::TESTS {
            trials.push(Trial::ignorable_test(format!("{driver_name}::{name}"), move || Ok(test(driver))));
        }
    }
    for &(name, test) in units::TESTS {
        trials.push(Trial::ignorable_test(name, move || Ok(test())));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
