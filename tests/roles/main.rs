//! Streams under everything at once: random roles with kills, stops and hangs; the death of the process that fetches beside 100 readers;
//! very long images, and more streams than descriptors.

#![allow(clippy::result_large_err, reason = "a failure is described in full")]

#[path = "../common/checks.rs"]
mod checks;
mod child;
mod controller;
mod deaths;
mod end_state;
mod images;
mod long_images;
mod many;
mod processes;
mod readers;
mod reports;
mod resources;
mod sizes;
mod sources;
mod streaming;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Trial};

type Test = fn(DriverChoice);

const TESTS: &[(&str, Test)] = &[
    ("random_roles_deliver_no_wrong_byte_and_leave_nothing", controller::run),
    ("the_death_of_the_process_that_fetches_costs_100_readers_one_piece", deaths::run),
    ("a_size_that_is_expected_during_a_call_of_a_source_holds", sizes::a_size_that_comes_during_a_call),
    ("far_offsets_of_an_image_of_64_gib_come_from_the_source", long_images::far_offsets),
    ("an_unfinished_image_of_more_than_32_bits_is_resumed_published_and_pruned", long_images::a_resumed_fetch),
    ("an_unfinished_file_that_is_longer_than_expected_is_replaced", long_images::a_shorter_image),
    ("images_at_the_borders_of_pieces_are_fetched_once_for_100_readers", long_images::edges_in_processes),
];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    if let [processes::CHILD, kind, directory, driver, rest @ ..] = &words[..] {
        // A child that is stopped would outlive its parent.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
        let driver = if *driver == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite };
        match (*kind, rest) {
            ("roles", [number]) => child::run(Path::new(directory), driver, number.parse().unwrap()),
            ("readers", [threads]) => readers::run(Path::new(directory), driver, threads.parse().unwrap()),
            ("many", [kind]) => many::run(Path::new(directory), driver, kind),
            _ => return ExitCode::FAILURE,
        }
        return ExitCode::SUCCESS;
    }
    let drivers = [DriverChoice::Sqlite, DriverChoice::Xattr];
    // Drivers differ in the publish only, which the first two tests have.
    let trials = drivers.into_iter().flat_map(|driver| {
        let is_whole = is_in_full() || driver == DriverChoice::Sqlite;
        let trials = TESTS.iter().take(if is_whole { TESTS.len() } else { 2 }).map(move |(name, test)| {
            let test = *test;
            Trial::test(format!("{}::{name}", driver_name(driver)), move || {
                test(driver);
                Ok(())
            })
        });
        trials.chain(is_whole.then(|| many::trials(driver)).into_iter().flatten())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// The driver's name in test names, and for child processes.
fn driver_name(driver: DriverChoice) -> &'static str {
    if driver == DriverChoice::Xattr { "xattr" } else { "sqlite" }
}

/// Whether everything is tested, also what has an equal among the rest, or takes minutes (`make test-more`).
fn is_in_full() -> bool {
    std::env::var_os("IMAGE_CACHE_ROLES").is_some_and(|value| value == "all")
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}
