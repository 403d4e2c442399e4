//! The wall clock is set, or was wrong for a while. Nothing is favoured for it, and no live writer loses its image.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::c::{
    IMAGE_CACHE_ERROR_ALREADY_CACHED, IMAGE_CACHE_ERROR_BEING_CACHED, IMAGE_CACHE_ERROR_LOST, IMAGE_CACHE_OK, SQLITE,
    Settings, XATTR, status,
};
use crate::child::{Process, Task, output, say};
use crate::disk::{need, text};
use crate::fixture::{DONE, DRIVERS, LENGTH, Scratch, Test, YEAR, bytes, files, missing_tool, set_times, trials as of};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 11] = [
        ("an_image_a_year_ahead_is_opened_at_present", |scratch| opened(scratch, YEAR)),
        ("an_image_a_century_ahead_is_opened_at_present", |scratch| opened(scratch, 100 * YEAR)),
        ("an_image_a_year_ahead_ages_from_the_first_prune", first_prune),
        ("images_a_year_ahead_do_not_displace_those_in_use", in_use),
        ("an_image_that_was_committed_a_year_ahead_ages_after_a_rebuild", rebuilt),
        ("a_writer_s_file_looks_old", |scratch| stepped(scratch, &[-YEAR])),
        ("a_writer_s_file_looks_new", |scratch| stepped(scratch, &[YEAR])),
        ("a_writer_s_file_looks_two_hours_old", |scratch| stepped(scratch, &[-7200])),
        ("the_clock_steps_to_and_fro_under_a_writer", |scratch| stepped(scratch, &[-7200, YEAR, 7200, -YEAR])),
        ("another_process_meets_a_writer_s_file_that_looks_old", |scratch| stepped_elsewhere(scratch, -YEAR)),
        ("another_process_meets_a_writer_s_file_that_looks_new", |scratch| stepped_elsewhere(scratch, YEAR)),
    ];
    // Each takes seconds.
    let slow_on_sqlite: [(&str, Test); 1] =
        [("syncs_longer_than_a_stall_time_of_0_s", |scratch| slow_syncs(scratch, "0"))];
    let slow_on_xattr: [(&str, Test); 1] =
        [("syncs_longer_than_a_stall_time_of_1_s", |scratch| slow_syncs(scratch, "1"))];
    let slow = [of("the_clock", &[SQLITE], &slow_on_sqlite), of("the_clock", &[XATTR], &slow_on_xattr)];
    slow.into_iter().flatten().chain(of("the_clock", &DRIVERS, &tests)).collect()
}

pub const TASKS: [(&str, Task); 2] = [("meet_writer", meet_writer), ("write_until_cached", write_until_cached)];

/// Times of a closed cache's image, in the file and in the index.
fn stamp(scratch: &Scratch, id: &str, seconds: i64) {
    set_times(&scratch.file(id), seconds);
    if scratch.driver == SQLITE {
        let connection = rusqlite::Connection::open(scratch.file("cache.db")).unwrap();
        let update = "UPDATE cached_images SET last_accessed = unixepoch() + ?1, last_modified = unixepoch() + ?1 WHERE image_id = ?2";
        assert_eq!(connection.execute(update, (seconds, id)).unwrap(), 1);
    }
}

/// Opens a cache with a limit of so many images, uses some, and prunes. Returns the images that are left.
fn use_and_prune(scratch: &Scratch, used: &[&str], limit: u64) -> Result<Vec<String>, Failed> {
    let cache = scratch.settings().max_size(limit * LENGTH).open(&scratch.path())?;
    for id in used {
        cache.read(id)?;
    }
    cache.prune()?;
    Ok(files(&scratch.path()).into_keys().collect())
}

fn opened(scratch: &Scratch, ahead: i64) -> Result<Option<String>, Failed> {
    scratch.fill(&["future", "a", "b"]);
    stamp(scratch, "future", ahead);
    assert_eq!(use_and_prune(scratch, &["future", "a", "b"], 2)?, ["a", "b"]);
    // In the same handle, too, after it saw the time ahead.
    let scratch = Scratch::new(scratch.driver);
    scratch.fill(&["future", "a", "b"]);
    stamp(&scratch, "future", ahead);
    let cache = scratch.settings().max_size(2 * LENGTH).open(&scratch.path())?;
    cache.list()?;
    for id in ["future", "a", "b"] {
        cache.read(id)?;
    }
    assert_eq!(cache.prune()?, (1, LENGTH));
    assert_eq!(cache.ids()?, ["a", "b"]);
    DONE
}

fn first_prune(scratch: &Scratch) -> Result<Option<String>, Failed> {
    scratch.fill(&["a", "b", "c", "future"]);
    stamp(scratch, "future", YEAR);
    // It counts as used now: the oldest one goes.
    assert_eq!(use_and_prune(scratch, &[], 3)?, ["b", "c", "future"]);
    // Those are used later.
    assert_eq!(use_and_prune(scratch, &["b", "c"], 2)?, ["b", "c"]);
    DONE
}

/// The clock was a year ahead for a while, and most images were used then. Those in use are used again between two prunes.
fn in_use(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let future = ["f1", "f2", "f3", "f4", "f5"];
    let used = ["u1", "u2", "u3"];
    scratch.fill(&[future.as_slice(), &used].concat());
    for id in future {
        stamp(scratch, id, YEAR);
    }
    let mut left = Vec::new();
    for limit in (3..8).rev() {
        let cache = scratch.settings().max_size(limit * LENGTH).open(&scratch.path())?;
        for id in used.iter().filter(|id| scratch.file(id).exists()) {
            cache.read(id)?;
        }
        assert_eq!(cache.prune()?, (1, LENGTH));
        left = cache.ids()?;
    }
    let in_use = left.iter().filter(|id| used.contains(&id.as_str())).count();
    assert!(in_use >= 2, "of the images in use, {used:?}, those left are {left:?}");
    DONE
}

/// The database is gone, and each time comes from the files.
fn rebuilt(scratch: &Scratch) -> Result<Option<String>, Failed> {
    scratch.fill(&["a", "b", "future"]);
    set_times(&scratch.file("future"), YEAR);
    for entry in fs::read_dir(scratch.path())?.map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("cache.db") {
            fs::remove_file(entry.path())?;
        }
    }
    assert_eq!(use_and_prune(scratch, &[], 2)?, ["b", "future"]);
    assert_eq!(use_and_prune(scratch, &["b"], 1)?, ["b"]);
    DONE
}

/// The time of a live writer's file is far from the present, and it writes on.
fn stepped(scratch: &Scratch, steps: &[i64]) -> Result<Option<String>, Failed> {
    let settings = scratch.settings().stall_time(3600);
    let (cache, other) = (settings.open(&scratch.path())?, settings.open(&scratch.path())?);
    let writer = cache.begin("image")?;
    for step in steps.iter().cycle().take(8) {
        writer.write(b"piece")?;
        set_times(&scratch.file("incomplete/image"), *step);
        let begun = other.begin("image");
        assert_eq!(status(&begun), IMAGE_CACHE_ERROR_BEING_CACHED, "after a step by {step} s: {begun:?}");
        assert_eq!(other.clean()?, 0, "a clean after a step by {step} s");
    }
    writer.commit()?;
    assert_eq!(other.read("image")?.len(), 40);
    DONE
}

fn stepped_elsewhere(scratch: &Scratch, step: i64) -> Result<Option<String>, Failed> {
    let cache = scratch.settings().stall_time(3600).open(&scratch.path())?;
    let writer = cache.begin("image")?;
    for _ in 0..2 {
        writer.write(b"piece")?;
        set_times(&scratch.file("incomplete/image"), step);
        let found = output("meet_writer", &[text(&scratch.path()), &scratch.driver.to_string()])?;
        assert_eq!(found, format!("begin_write {IMAGE_CACHE_ERROR_BEING_CACHED}, cleaned 0\n"));
    }
    writer.write(b"piece")?;
    writer.commit()?;
    assert_eq!(cache.read("image")?.len(), 15);
    DONE
}

fn meet_writer(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver] = arguments else { panic!("{arguments:?}") };
    let settings = Settings::new(driver.parse().unwrap()).stall_time(3600);
    let cache = settings.open(Path::new(directory)).unwrap();
    say(&format!("begin_write {}, cleaned {}", status(&cache.begin("image")), cache.clean().unwrap()));
    Box::new(())
}

/// How often a writer begins before it gives up.
const ATTEMPTS: u32 = 3;

/// Two processes write the same image, and each sync takes longer than a writer may rest.
fn slow_syncs(scratch: &Scratch, stall_time: &str) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    drop(scratch.open());
    let (path, driver) = (scratch.path(), scratch.driver.to_string());
    let arguments = [text(&path), &driver, stall_time];
    let start =
        || Process::spawn_with_slow_syncs(&path.join("incomplete/image"), "2.4", "write_until_cached", &arguments);
    let mut processes = [start(), start()];
    let outcomes = processes.each_mut().map(Process::line);
    drop(processes);
    assert!(outcomes.iter().all(|outcome| outcome.starts_with("cached")), "{outcomes:?}");
    assert_eq!(scratch.open().read("image")?.len(), 4 << 20);
    DONE
}

fn write_until_cached(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver, stall_time] = arguments else { panic!("{arguments:?}") };
    let settings = Settings::new(driver.parse().unwrap()).stall_time(stall_time.parse().unwrap());
    let cache = settings.open(Path::new(directory)).unwrap();
    let piece = bytes("image", 1 << 20);
    // Only a failing library reaches it.
    let end = Instant::now() + Duration::from_secs(30);
    let mut attempts = 0;
    let outcome = loop {
        match cache.begin("image") {
            Ok(writer) if attempts < ATTEMPTS => {
                attempts += 1;
                let written = (0..4).try_for_each(|_| writer.write(&piece)).and_then(|()| writer.commit());
                match status(&written) {
                    IMAGE_CACHE_OK | IMAGE_CACHE_ERROR_ALREADY_CACHED => break "cached".to_owned(),
                    IMAGE_CACHE_ERROR_LOST => {}
                    _ => break format!("{written:?}"),
                }
            }
            Ok(_) => break format!("not cached after {attempts} attempts"),
            Err(failure) if failure.status == IMAGE_CACHE_ERROR_ALREADY_CACHED => break "cached".to_owned(),
            Err(failure) if failure.status == IMAGE_CACHE_ERROR_BEING_CACHED && Instant::now() < end => {
                // A poll, as an agent does it.
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(failure) => break failure.to_string(),
        }
    };
    say(&outcome);
    Box::new(())
}
