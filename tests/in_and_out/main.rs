//! In and out: images are exported to files, imported from files, and keep their holes.
//!
//! The volumes are file systems on loop devices. Without the right to mount, their trials are ignored.

#[path = "../common/mod.rs"]
mod common;
mod export;
mod holes;
mod import;
mod volume;

use std::process::ExitCode;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Trial};

use common::DRIVERS;

const KINDS: [&str; 4] = ["ext4", "xfs", "btrfs", "tmpfs"];

/// A trial for each driver.
fn both(name: &str, test: fn(DriverChoice)) -> Vec<Trial> {
    let trial = |driver| {
        Trial::test(format!("{name} ({driver:?})"), move || {
            test(driver);
            Ok(())
        })
    };
    DRIVERS.map(trial).into()
}

/// The same, which mounts a file system of that kind.
fn mounting(name: &str, kind: &'static str, test: fn(&str, DriverChoice)) -> Vec<Trial> {
    let trial = |driver| {
        let run = move || {
            test(kind, driver);
            Ok(())
        };
        Trial::test(format!("{name} ({kind}, {driver:?})"), run).with_ignored_flag(!volume::is_mountable(kind))
    };
    DRIVERS.map(trial).into()
}

fn main() -> ExitCode {
    volume::enter_mount_namespace();
    let always = [
        both("export::target_is_exactly_the_image", export::target_is_exactly_the_image),
        both("export::files_that_are_no_targets_stay_as_they_are", export::files_that_are_no_targets_stay_as_they_are),
        both("export::stopped_export_leaves_an_empty_target", export::stopped_export_leaves_an_empty_target),
        both(
            "export::panic_of_the_progress_function_leaves_what_a_failure_leaves",
            export::panic_of_the_progress_function_leaves_what_a_failure_leaves,
        ),
        both("export::image_that_changes_meanwhile", export::image_that_changes_meanwhile),
        mounting("export::full_disk_leaves_an_empty_target", "tmpfs", |_, driver| {
            export::full_disk_leaves_an_empty_target(driver);
        }),
    ];
    let import = [
        both("import::image_is_the_source", import::image_is_the_source),
        both("import::pipes_are_read_to_their_end", import::pipes_are_read_to_their_end),
        both("import::unmet_expectations_are_refused", import::unmet_expectations_are_refused),
        both("import::files_that_are_no_sources_are_refused", import::files_that_are_no_sources_are_refused),
        both("import::stopped_import_leaves_its_reason", import::stopped_import_leaves_its_reason),
        both("import::source_that_changes_its_length_is_refused", import::source_that_changes_its_length_is_refused),
        both("holes::zeros_become_holes_where_that_is_an_option", holes::zeros_become_holes_where_that_is_an_option),
        both("holes::streams_follow_a_writer_of_holes", holes::streams_follow_a_writer_of_holes),
        mounting("import::block_devices_are_sources", "ext4", |_, driver| import::block_devices_are_sources(driver)),
        both("holes::holes_that_are_too_long_fail", holes::holes_that_are_too_long_fail),
        both(
            "holes::a_hole_of_terabytes_is_cached_verified_and_imported",
            holes::a_hole_of_terabytes_is_cached_verified_and_imported,
        ),
        both(
            "holes::lists_of_images_that_are_not_cached_show_their_blocks",
            holes::lists_of_images_that_are_not_cached_show_their_blocks,
        ),
    ];
    let mut trials: Vec<_> = always.into_iter().chain(import).flatten().collect();
    for kind in KINDS {
        trials.extend(mounting("export::holes_stay_holes", kind, export::holes_stay_holes));
        let test = export::blocks_are_shared_where_that_is_possible;
        trials.extend(mounting("export::blocks_are_shared_where_that_is_possible", kind, test));
        let test = import::blocks_are_shared_where_that_is_possible;
        trials.extend(mounting("import::blocks_are_shared_where_that_is_possible", kind, test));
        trials.extend(mounting("import::holes_stay_holes", kind, import::holes_stay_holes));
        trials.extend(mounting("import::limit_counts_the_data", kind, import::limit_counts_the_data));
        let test = import::limit_holds_if_another_takes_the_room;
        trials.extend(mounting("import::limit_holds_if_another_takes_the_room", kind, test));
        let test = holes::reservation_of_a_sparse_image_ends_with_its_commit;
        trials.extend(mounting("holes::reservation_of_a_sparse_image_ends_with_its_commit", kind, test));
        trials.extend(mounting("holes::written_holes_are_zeros", kind, holes::written_holes_are_zeros));
        trials.extend(mounting("holes::hole_takes_no_room_of_the_limit", kind, holes::hole_takes_no_room_of_the_limit));
    }
    for kind in ["tmpfs", "xfs"] {
        let test = holes::longest_images_are_verified;
        trials.extend(mounting("holes::longest_images_are_verified", kind, test));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// An MD5 in hexadecimal digits.
fn md5_hex(data: &[u8]) -> String {
    use md5::Digest as _;
    hex(&md5::Md5::digest(data))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
