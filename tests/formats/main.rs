//! Inspection before publishing: what is refused, what is accepted, and what becomes of a refused image. On both drivers.

#[path = "../../src/format/builders.rs"]
mod builders;
#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod inspectors;
mod own_format;
mod publishing;
mod real;
mod streams;

use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Completion, Trial};

use common::DRIVERS;

fn main() -> ExitCode {
    let both = |name: &str, test: fn(DriverChoice)| {
        DRIVERS.map(|driver| {
            Trial::test(format!("{name} ({driver:?})"), move || {
                test(driver);
                Ok(())
            })
        })
    };
    let with_tools = |name: &str, test: fn() -> Completion| [Trial::ignorable_test(name, move || Ok(test()))];
    let mut trials: Vec<Trial> = [
        both("each_malicious_image_is_refused_for_what_it_attacks", corpus::malicious),
        both("an_image_is_accepted_in_its_own_format_only", own_format::accepted),
        both("a_refused_image_goes_to_invalid_with_the_reason", publishing::refused),
        both("a_tee_delivers_a_refused_image_and_does_not_cache_it", publishing::tee),
        both("an_import_of_a_refused_image_fails", publishing::imported),
        both("a_prefetch_of_a_refused_image_fails_and_leaves_it_queued", publishing::prefetch),
        both("wrong_bytes_are_not_inspected", publishing::digest_first),
        both("without_the_option_every_image_is_cached", publishing::off),
        both("an_inspector_gets_the_file_for_reading_only", inspectors::descriptor),
        both("an_inspector_may_call_the_library", inspectors::calls),
        both("an_inspector_that_takes_longer_than_the_stall_time_keeps_the_image", inspectors::slow),
        both("an_inspector_that_panics_publishes_nothing", inspectors::panics),
        both("an_inspector_is_called_after_the_formats", inspectors::order),
        both("the_file_under_an_inspector_may_be_removed", inspectors::removed),
        both("a_stream_delivers_a_refused_image_and_does_not_cache_it", streams::refused),
        both("a_stream_that_follows_a_writer_delivers_its_refused_image", streams::followed),
        both("streams_of_one_image_inspect_it_once", streams::once),
        both("a_slow_inspector_does_not_keep_other_streams_from_their_end", streams::slow),
        both("a_stream_without_an_inspector_publishes_beside_one_with", streams::mixed),
        both("a_digest_that_is_expected_during_the_inspection_is_verified", streams::expected_meanwhile),
    ]
    .into_iter()
    .flatten()
    .collect();
    trials.extend(with_tools("good_images_are_accepted_and_qemu_img_agrees", real::good));
    trials.extend(with_tools("unsafe_images_that_qemu_img_makes_are_refused", real::not_self_contained));
    trials.extend(with_tools("images_of_a_tebibyte_are_accepted", real::tebibyte));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
