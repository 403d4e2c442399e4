//! A removal in the middle of an open: the kernel looks at a name, somebody removes the file, and the open succeeds.
//!
//! The reader is stopped when `openat` has returned, before it looks at the file. To it, that is the same.

use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, NOT_FOUND, Settings};
use crate::child::{ChildProcess, listen, say};
use crate::machine::{Need, scratch, text, trials};
use crate::tracer::Tracer;

const IMAGE: &str = "image";

/// Longer than what is freed at once.
const LENGTH: usize = 2 << 20;

const HARD: &str = "hard";

pub fn trials_of_kind() -> Vec<Trial> {
    let strace = [Need::Tool("strace")];
    [
        trials("removed_at_the_open::it_is_not_cached", &strace, |driver| removed(driver, false, None)),
        trials("removed_at_the_open::it_is_the_new_image", &strace, |driver| removed(driver, false, Some(2))),
        trials("removed_at_the_open::it_is_not_cached_within_a_limit", &strace, |driver| removed(driver, true, None)),
        trials("removed_at_the_open::it_is_the_new_image_within_a_limit", &strace, |driver| {
            removed(driver, true, Some(2))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    let ("read when told", [driver, directory, limit]) = (task, arguments) else { return false };
    let cache = Cache::open(Path::new(directory), settings(Driver::of_name(driver), *limit == HARD)).unwrap();
    say("opened");
    listen().unwrap();
    say(&match cache.read(IMAGE) {
        Err(failure) if failure.status == NOT_FOUND => "none".to_owned(),
        read => {
            let read = read.unwrap();
            assert!(read.len() == LENGTH && read.iter().all(|byte| *byte == read[0]));
            format!("image {}", read[0])
        }
    });
    true
}

fn settings(driver: Driver, is_hard: bool) -> Settings {
    let settings = Settings::new(driver).max_size(64 << 20);
    if is_hard { settings.hard() } else { settings }
}

fn removed(driver: Driver, is_within_a_limit: bool, successor: Option<u8>) -> Result<(), Failed> {
    let scratch = scratch();
    let (directory, trace) = (scratch.path().join("cache"), scratch.path().join("trace"));
    let cache = Cache::open(&directory, settings(driver, is_within_a_limit))?;
    cache.write(IMAGE, &vec![1; LENGTH])?;
    let mut reader = ChildProcess::start(
        "read when told",
        &[driver.name(), text(&directory), if is_within_a_limit { HARD } else { "soft" }],
    );
    reader.expect("opened")?;
    let tracer = Tracer::stop(&mut reader, "openat", 1, Some(IMAGE), &trace)?;
    cache.delete(IMAGE)?;
    if let Some(byte) = successor {
        cache.write(IMAGE, &vec![byte; LENGTH])?;
    }
    reader.resume();
    reader.expect(&successor.map_or("none".to_owned(), |byte| format!("image {byte}")))?;
    drop(tracer);
    reader.finish()
}
