//! Races: many threads in many processes on few images, and schedules that bring two operations to the same moment. A child
//! process is this program again, with another first argument.

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
use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Trial};

use common::DRIVERS;

type Test = fn(DriverChoice);

const TESTS: &[(&str, Test)] = &[
    ("of_two_writers_of_one_image_one_gets_it", schedules::two_writers_of_one_image),
    ("a_writer_that_races_with_a_clean_publishes_or_is_told_that_it_lost", schedules::a_writer_against_clean),
    ("a_tee_whose_file_is_cleaned_away_hands_on_all_bytes", schedules::a_tee_whose_file_is_cleaned_away),
    ("a_writer_against_deletes_of_its_image", schedules::a_writer_against_delete_of_the_same_image),
    ("readers_keep_their_bytes_while_everything_is_pruned", accesses::prune_against_readers),
    ("prunes_at_once_evict_no_more_than_is_too_much", accesses::two_prunes_evict_what_is_too_much),
    ("prune_tells_what_it_evicted_and_not_what_it_meant_to", accesses::prune_against_an_image_that_is_cached_anew),
    ("prefetchers_that_share_a_queue_fetch_each_image_once", schedules::prefetchers_that_share_a_queue),
    ("a_prefetcher_passes_over_what_another_one_fetches", schedules::a_prefetcher_in_the_midst_of_a_fetch),
    (
        "a_prefetcher_passes_over_what_was_cached_and_deleted_meanwhile",
        schedules::a_prefetcher_whose_next_image_came_and_went,
    ),
    ("of_many_that_open_a_new_directory_each_is_served", schedules::opens_that_race_for_a_new_directory),
    (
        "a_hit_of_a_deleted_image_is_none_of_the_one_cached_anew",
        accesses::a_hit_of_a_deleted_image_is_none_of_the_one_cached_anew,
    ),
    ("the_last_use_of_an_image_never_goes_back", accesses::the_last_use_never_goes_back),
    ("of_many_processes_one_is_an_images_writer", processes::one_writer_among_all_processes),
    ("a_stopped_writer_has_its_own_image_and_no_other", processes::a_stopped_writer_has_its_own_image_and_no_other),
    ("a_killed_writer_blocks_nobody", processes::a_killed_writer_blocks_nobody),
    ("a_reader_goes_on_with_its_own_bytes_whatever_other_processes_do", processes::a_reader_goes_on_with_its_own_bytes),
    ("the_order_of_use_is_that_of_all_processes", processes::the_order_of_use_is_that_of_all_processes),
    (
        "all_processes_may_be_the_first_to_open_a_directory_and_the_last_to_close_it",
        processes::all_may_be_the_first_to_open,
    ),
    ("prefetching_processes_share_the_queue", processes::prefetchers_share_the_queue),
    ("pruning_processes_evict_no_more_than_is_too_much", processes::prunes_of_several_processes_evict_what_is_too_much),
    (
        "a_process_that_is_killed_at_any_point_leaves_exact_totals",
        processes::a_process_that_is_killed_anywhere_leaves_exact_totals,
    ),
    (
        "a_process_that_is_stopped_anywhere_makes_no_other_fail",
        processes::a_process_that_is_stopped_anywhere_makes_no_other_fail,
    ),
    ("every_operation_in_the_midst_of_every_other_is_as_if_one_came_first", pairs::every_pair),
    ("killed_processes_leave_no_wrong_byte_and_exact_totals", stress::run),
];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    if let [timed_child::CHILD, role, folder, driver, rest @ ..] = &words[..] {
        let driver = if *driver == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite };
        match (*role, rest) {
            ("child", []) => child::run(Path::new(folder), driver),
            ("stress", [number]) => worker::run(Path::new(folder), driver, number.parse().unwrap()),
            _ => return ExitCode::FAILURE,
        }
        return ExitCode::SUCCESS;
    }
    let trials = DRIVERS.iter().flat_map(|driver| {
        TESTS.iter().map(|(name, test)| {
            let (driver, test) = (*driver, *test);
            Trial::test(format!("{}::{name}", driver_name(driver)), move || {
                test(driver);
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// The driver's name in the names of tests, and for children.
fn driver_name(driver: DriverChoice) -> &'static str {
    if driver == DriverChoice::Xattr { "xattr" } else { "sqlite" }
}
