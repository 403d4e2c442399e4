//! Streams: many readers of an image that is not cached share one fetch, over all processes, and no failure of one costs the others.

#![allow(clippy::result_large_err, reason = "a failure is described in full")]

#[path = "../common/mod.rs"]
mod common;

mod children;
mod deaths;
mod ends;
mod fixture;
mod offsets;
mod sharing;
mod sources;
mod writers;

use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Trial};

/// One trial of a behaviour with each driver.
pub fn with_drivers(name: &str, test: fn(DriverChoice)) -> Vec<Trial> {
    let trial = |driver: DriverChoice| {
        Trial::test(format!("{name} ({driver:?})"), move || {
            test(driver);
            Ok(())
        })
    };
    common::DRIVERS.map(trial).into()
}

fn main() -> ExitCode {
    if let Some(task) = children::own_task() {
        children::perform(&task);
        return ExitCode::SUCCESS;
    }
    let trials =
        [deaths::trials(), ends::trials(), offsets::trials(), sharing::trials(), sources::trials(), writers::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
