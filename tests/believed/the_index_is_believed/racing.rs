//! Another program removes images while this one changes names: sometimes between the look at a time and its setting.
//!
//! Each round has one such image, and is checked: the next unlink that is noticed would have the whole index rebuilt.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use super::KIND;
use crate::c::{Cache, IMAGE_CACHE_ERROR_NOT_FOUND, NONE, Outcome, Settings, status};
use crate::child::{Process, Task, say};
use crate::disk::{disk, need, text};
use crate::fixture::{DONE, DRIVERS, Scratch, Test, compare, missing_tool, trials as of};

const ROUNDS: u32 = 200;
/// With slow system calls, many of the unlinks are in the window.
const SLOW_ROUNDS: u32 = 50;

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 7] = [
        ("unlinks_beside_commits_then_clean", |scratch| race(scratch, commit, clean)),
        ("unlinks_beside_commits_then_an_open_of_the_missing", |scratch| race(scratch, commit, meet)),
        ("unlinks_beside_deletes_then_an_open_of_the_missing", |scratch| race(scratch, delete, meet)),
        ("unlinks_beside_commits_on_btrfs", on_btrfs),
        ("unlinks_beside_slow_commits_then_clean", |scratch| slow_race(scratch, clean)),
        ("unlinks_beside_slow_commits_then_an_open_of_the_missing", |scratch| slow_race(scratch, meet)),
        ("unlinks_beside_slow_commits_then_a_commit_of_the_missing", |scratch| {
            slow_race(scratch, |cache| cache.put("victim", b"victim, again").unwrap())
        }),
    ];
    of(KIND, &DRIVERS, &tests)
}

pub const TASKS: [(&str, Task); 1] = [("commit_when_told", commit_when_told)];

fn commit(cache: &Cache) -> Outcome {
    cache.put("image", b"image")
}

fn delete(cache: &Cache) -> Outcome {
    cache.delete("spare")
}

fn clean(cache: &Cache) {
    cache.clean().unwrap();
}

fn meet(cache: &Cache) {
    assert_eq!(status(&cache.open_for_read("victim")), IMAGE_CACHE_ERROR_NOT_FOUND);
}

/// Caches the image that another program removes, and the one that is deleted meanwhile. The one that is committed is not cached.
fn prepare(cache: &Cache) -> Outcome {
    for id in ["victim", "spare", "image"] {
        cache.delete(id)?;
    }
    cache.put("victim", b"victim")?;
    cache.put("spare", b"spare")
}

/// What is listed after the operation `after`; the round is counted if it is wrong.
fn check(cache: &Cache, directory: &Path, after: fn(&Cache), wrong: &mut Vec<String>) {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| after(cache))).is_err();
    wrong.extend(panicked.then(|| "the operation afterwards failed".to_owned()));
    wrong.extend(compare(cache, directory).err());
}

fn outcome(wrong: &[String], rounds: u32) -> Result<Option<String>, Failed> {
    let Some(first) = wrong.first() else { return DONE };
    Err(format!("{} of {rounds} rounds are wrong; the first one: {first}", wrong.len()).into())
}

fn race(scratch: &Scratch, change: fn(&Cache) -> Outcome, after: fn(&Cache)) -> Result<Option<String>, Failed> {
    race_in(scratch, &scratch.path(), change, after)
}

fn race_in(
    scratch: &Scratch,
    directory: &Path,
    change: fn(&Cache) -> Outcome,
    after: fn(&Cache),
) -> Result<Option<String>, Failed> {
    let cache = scratch.settings().durability(NONE).open(directory)?;
    let (start, end) = (Barrier::new(2), Barrier::new(2));
    let victim = directory.join("victim");
    let mut wrong = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                start.wait();
                // Later from one round to the next, over the length of a change.
                (0..round % 40 * 40).for_each(|_| std::hint::spin_loop());
                // A thread that panicked would leave the other one waiting. The comparison shows a failure.
                let _ = fs::remove_file(&victim);
                end.wait();
            }
        });
        for _ in 0..ROUNDS {
            let prepared = prepare(&cache);
            start.wait();
            let changed = change(&cache);
            end.wait();
            if prepared.is_ok() && changed.is_ok() {
                check(&cache, directory, after, &mut wrong);
            } else {
                wrong.push(format!("{prepared:?}, {changed:?}"));
            }
        }
    });
    outcome(&wrong, ROUNDS)
}

fn on_btrfs(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let disk = disk!(crate::disk::FileSystem::Btrfs);
    race_in(scratch, &disk.cache(), commit, meet)
}

/// Another process commits, and gets the answer of each look at a file late.
fn slow_race(scratch: &Scratch, after: fn(&Cache)) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    let directory = scratch.path();
    let cache = scratch.settings().durability(NONE).open(&directory)?;
    let arguments = [text(&directory), &scratch.driver.to_string()];
    let mut process = Process::spawn_with_slow_looks("commit_when_told", &arguments);
    assert_eq!(process.line(), "ready");
    let victim = directory.join("victim");
    let mut wrong = Vec::new();
    let mut length = Duration::ZERO;
    for round in 0..SLOW_ROUNDS {
        prepare(&cache)?;
        let begun = Instant::now();
        process.tell("commit");
        // The first round only shows how long a commit is. Which moment of it is hit does not matter.
        thread::sleep(length * (round * 37 % 100) / 100);
        fs::remove_file(&victim)?;
        assert_eq!(process.line(), "committed");
        if round == 0 {
            length = begun.elapsed();
        }
        check(&cache, &directory, after, &mut wrong);
    }
    drop(process);
    outcome(&wrong, SLOW_ROUNDS)
}

fn commit_when_told(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver] = arguments else { panic!("{arguments:?}") };
    let cache = Settings::new(driver.parse().unwrap()).durability(NONE).open(Path::new(directory)).unwrap();
    say("ready");
    for _ in std::io::stdin().lines().map(Result::unwrap) {
        commit(&cache).unwrap();
        say("committed");
    }
    Box::new(cache)
}
