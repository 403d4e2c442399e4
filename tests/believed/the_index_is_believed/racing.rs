//! Another program removes images while this one changes names: sometimes between the look at a time and its setting.

use std::fs;
use std::sync::Barrier;
use std::thread;

use libtest_mimic::{Failed, Trial};

use super::KIND;
use crate::c::{Cache, IMAGE_CACHE_ERROR_NOT_FOUND, NONE, status};
use crate::disk::disk;
use crate::fixture::{DONE, DRIVERS, Scratch, Test, compare, trials as of};

const ROUNDS: usize = 200;

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 4] = [
        ("unlinks_beside_commits_then_clean", |scratch| race(scratch, &commit, &|cache, _| {
            cache.clean().unwrap();
        })),
        ("unlinks_beside_commits_then_an_open_of_the_missing", |scratch| race(scratch, &commit, &meet)),
        ("unlinks_beside_deletes_then_an_open_of_the_missing", |scratch| race(scratch, &delete, &meet)),
        ("unlinks_beside_commits_on_btrfs", on_btrfs),
    ];
    of(KIND, &DRIVERS, &tests)
}

fn victim(round: usize) -> String {
    format!("victim-{round}")
}

fn commit(cache: &Cache, round: usize) {
    cache.put(&format!("image-{round}"), b"image").unwrap();
}

/// Of an image that every round has.
fn delete(cache: &Cache, round: usize) {
    cache.delete(&format!("spare-{round}")).unwrap();
}

fn meet(cache: &Cache, round: usize) {
    assert_eq!(status(&cache.open_for_read(&victim(round))), IMAGE_CACHE_ERROR_NOT_FOUND);
}

fn race(
    scratch: &Scratch,
    change: &(dyn Fn(&Cache, usize) + Sync),
    after: &dyn Fn(&Cache, usize),
) -> Result<Option<String>, Failed> {
    race_in(scratch, &scratch.path(), change, after)
}

fn race_in(
    scratch: &Scratch,
    directory: &std::path::Path,
    change: &(dyn Fn(&Cache, usize) + Sync),
    after: &dyn Fn(&Cache, usize),
) -> Result<Option<String>, Failed> {
    let cache = scratch.settings().durability(NONE).open(directory)?;
    for round in 0..ROUNDS {
        cache.put(&victim(round), b"victim")?;
        cache.put(&format!("spare-{round}"), b"spare")?;
    }
    compare(&cache, directory)?;
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let path = directory.join(victim(round));
                start.wait();
                // From one round to the next a little later, over the length of a commit.
                (0..round % 40 * 40).for_each(|_| std::hint::spin_loop());
                fs::remove_file(path).unwrap();
            }
        });
        for round in 0..ROUNDS {
            start.wait();
            change(&cache, round);
        }
    });
    for round in 0..ROUNDS {
        after(&cache, round);
    }
    compare(&cache, directory)?;
    drop(cache);
    compare(&scratch.settings().open(directory)?, directory)?;
    DONE
}

fn on_btrfs(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let disk = disk!(crate::disk::FileSystem::Btrfs);
    race_in(scratch, &disk.cache(), &commit, &meet)
}
