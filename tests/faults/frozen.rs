//! A process that is stopped in the middle of a change, while others do what the cache lock would forbid: an operator removes the lock
//! file, or another program puts a file into the directory.

use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, LOST, Settings, status_of};
use crate::child::ChildProcess;
use crate::machine::{Need, age, scratch, text, trial, trials};
use crate::tracer::Tracer;

pub fn trials_of_kind() -> Vec<Trial> {
    let strace = &[Need::Tool("strace")];
    let mut all = trials("frozen::a_publisher_whose_lock_file_is_removed", strace, publisher);
    for (when, victim) in [("first", 1), ("third", 3), ("last", VICTIMS)] {
        let name = format!("frozen::a_prune_after_its_{when}_victim_beside_another_program::sqlite");
        all.push(trial(&name, strace, move || beside_a_prune(victim)));
    }
    all
}

/// It has found that the incomplete name is its own. Then another writer gets that name, and has written a half.
fn publisher(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut child = ChildProcess::start("work once", &[driver.name(), text(&directory), "commit"]);
    child.expect("opened")?;
    let incomplete = directory.join("incomplete");
    let tracer = Tracer::stop(&mut child, "newfstatat", 1, Some(text(&incomplete)), &scratch.path().join("trace"))?;
    fs::remove_file(directory.join(".image_cache/lock")).unwrap();
    // Until then, the file counts as that of a live writer that has not noticed.
    age(&incomplete.join("committed"), 60);
    let cache = Cache::open(&directory, Settings::new(driver))?;
    let mut writer = cache.begin_write("committed")?;
    writer.write_chunk(b"half")?;
    child.resume();
    child.expect(&format!("commit: {LOST}"))?;
    drop(tracer);
    child.finish()?;
    assert!(!cache.is_cached("committed")?, "the other writer's half is served");
    assert!(cache.list_cached()?.is_empty() && cache.size()? == 0);
    assert_eq!(status_of(&writer.commit()), LOST);
    cache.write("committed", b"whole")?;
    assert_eq!(cache.read("committed")?, b"whole");
    Ok(())
}

const VICTIMS: usize = 5;

/// The file comes between two removals, or after the last one. The next list has it.
fn beside_a_prune(victim: usize) -> Result<(), Failed> {
    let driver = Driver::Sqlite;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = Cache::open(&directory, Settings::new(driver))?;
    for number in 0..VICTIMS {
        cache.write(&format!("image {number}"), b"hello")?;
    }
    let mut child = ChildProcess::start("prune slowly", &[driver.name(), text(&directory), "0"]);
    child.expect("opened")?;
    // Each removal ends with two looks at the queue.
    let (queue, trace) = (directory.join("queue"), scratch.path().join("trace"));
    let tracer = Tracer::stop(&mut child, "newfstatat", 2 * victim, Some(text(&queue)), &trace)?;
    fs::write(directory.join("foreign"), b"from another program").unwrap();
    child.resume();
    child.expect(&VICTIMS.to_string())?;
    drop(tracer);
    let listed: Vec<_> = cache.list_cached()?.into_iter().map(|entry| entry.id).collect();
    assert_eq!(listed, ["foreign"], "after the removal of {victim} images");
    assert_eq!(cache.size()?, 20);
    child.finish()
}
