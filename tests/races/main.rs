//! Races: many threads in many processes on few images, and schedules that bring two operations to the same moment. A
//! child process is this program, with another first argument.
//!
//! Each test has a process of its own: a process that another test forks has this one's images open until it calls exec,
//! so a prune leaves them.

mod accesses;
mod caches;
#[path = "../common/checks.rs"]
mod checks;
mod child;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/content.rs"]
mod content;
mod end_state;
mod history;
mod history_checker;
mod pairs;
mod points;
mod processes;
mod rounds;
mod schedules;
mod stress;
mod timed_child;
mod worker;

use std::path::Path;
use std::process::{Command, ExitCode};

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Failed, Trial};

use common::DRIVERS;

type Test = fn(DriverChoice);

/// The first argument of the process of one test.
const ALONE: &str = "--race-test";

const TESTS: &[(&str, Test)] = &[
    ("one_of_two_writers_of_an_image_publishes_it", schedules::two_writers_of_one_image),
    ("a_writer_that_races_with_a_clean_publishes_or_returns_lost", schedules::a_writer_against_clean),
    ("a_tee_whose_file_is_cleaned_away_delivers_all_bytes", schedules::a_tee_whose_file_is_cleaned_away),
    ("a_writer_against_deletes_of_its_image", schedules::a_writer_against_delete_of_the_same_image),
    ("no_image_is_evicted_while_a_reader_has_it_open", accesses::prune_against_readers),
    ("concurrent_prunes_evict_no_more_than_the_excess", accesses::two_prunes_evict_the_excess),
    ("prune_counts_what_it_evicted", accesses::prune_against_an_image_that_is_cached_again),
    ("prefetchers_that_share_a_queue_fetch_each_image_once", schedules::prefetchers_that_share_a_queue),
    ("a_prefetcher_skips_what_another_one_fetches", schedules::prefetch_within_a_fetch),
    (
        "a_prefetcher_skips_what_was_cached_and_deleted_meanwhile",
        schedules::a_prefetcher_whose_next_image_came_and_went,
    ),
    ("concurrent_opens_of_a_new_directory_all_succeed", schedules::opens_that_race_for_a_new_directory),
    ("a_hit_of_a_deleted_image_does_not_count_for_its_successor", accesses::hit_of_a_deleted_image),
    ("the_last_access_never_goes_back", accesses::the_last_access_never_goes_back),
    ("an_image_has_one_writer_among_all_processes", processes::one_writer_among_all_processes),
    ("a_stopped_writer_blocks_its_own_image_only", processes::a_stopped_writer_blocks_its_own_image_only),
    ("a_killed_writer_blocks_no_one", processes::a_killed_writer_blocks_no_one),
    ("a_reader_keeps_its_bytes_whatever_other_processes_do", processes::a_reader_keeps_its_bytes),
    ("all_processes_share_one_access_order", processes::all_processes_share_one_access_order),
    ("any_process_may_open_first_and_close_last", processes::all_may_be_the_first_to_open),
    ("prefetching_processes_share_the_queue", processes::prefetchers_share_the_queue),
    ("pruning_processes_evict_no_more_than_the_excess", processes::prunes_of_several_processes_evict_the_excess),
    (
        "a_process_that_is_killed_at_any_point_leaves_exact_totals",
        processes::a_process_that_is_killed_anywhere_leaves_exact_totals,
    ),
    (
        "a_process_that_is_stopped_anywhere_makes_no_other_fail",
        processes::a_process_that_is_stopped_anywhere_makes_no_other_fail,
    ),
    ("interleaved_operations_equal_a_sequence", pairs::every_pair),
    ("killed_processes_leave_no_wrong_byte_and_exact_totals", stress::run),
];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    if let [timed_child::CHILD, kind, directory, driver, rest @ ..] = &words[..] {
        let driver = if *driver == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite };
        match (*kind, rest) {
            ("child", []) => child::run(Path::new(directory), driver),
            ("stress", [number]) => worker::run(Path::new(directory), driver, number.parse().unwrap()),
            _ => return ExitCode::FAILURE,
        }
        return ExitCode::SUCCESS;
    }
    if let [ALONE, wanted] = &words[..] {
        let (_, driver, test) = tests().find(|(name, ..)| name == wanted).expect("a test of that name");
        test(driver);
        return ExitCode::SUCCESS;
    }
    let trials = tests().map(|(name, ..)| Trial::test(name.clone(), move || run_alone(&name)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Each test with each driver.
fn tests() -> impl Iterator<Item = (String, DriverChoice, Test)> {
    DRIVERS.iter().flat_map(|driver| {
        TESTS.iter().map(|(name, test)| (format!("{}::{name}", driver_name(*driver)), *driver, *test))
    })
}

fn run_alone(test: &str) -> Result<(), Failed> {
    let ended = Command::new(std::env::current_exe()?).args([ALONE, test]).status()?;
    if ended.success() { Ok(()) } else { Err(format!("its process ended with {ended}").into()) }
}

/// The driver's name in test names, and for child processes.
fn driver_name(driver: DriverChoice) -> &'static str {
    if driver == DriverChoice::Xattr { "xattr" } else { "sqlite" }
}
