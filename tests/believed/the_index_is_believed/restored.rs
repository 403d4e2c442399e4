//! Another program changes files, and the directory and the database get exactly the times that they had.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::{Damage, IMAGES, KIND, TOTAL};
use crate::c::Cache;
use crate::disk::need;
use crate::fixture::{
    DONE, DRIVERS, LENGTH, Scratch, Test, Times, bytes, compare, files, missing_root, missing_tool, run, set_times,
    trials as of, unnoticed,
};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 15] = [
        ("restored_phantom_in_a_closed_cache", |scratch| damaged(scratch, Damage::Phantom, When::Closed)),
        ("restored_phantom_under_a_handle", |scratch| damaged(scratch, Damage::Phantom, When::Open)),
        ("restored_phantom_beside_a_handle", |scratch| damaged(scratch, Damage::Phantom, When::Beside)),
        ("restored_orphan_in_a_closed_cache", |scratch| damaged(scratch, Damage::Orphan, When::Closed)),
        ("restored_orphan_under_a_handle", |scratch| damaged(scratch, Damage::Orphan, When::Open)),
        ("restored_orphan_beside_a_handle", |scratch| damaged(scratch, Damage::Orphan, When::Beside)),
        ("restored_wrong_length_in_a_closed_cache", |scratch| damaged(scratch, Damage::Length, When::Closed)),
        ("restored_wrong_length_under_a_handle", |scratch| damaged(scratch, Damage::Length, When::Open)),
        ("restored_wrong_length_beside_a_handle", |scratch| damaged(scratch, Damage::Length, When::Beside)),
        ("a_phantom_is_not_evicted_from_a_closed_cache", |scratch| pruned(scratch, When::Closed)),
        ("a_phantom_is_not_evicted_under_a_handle", |scratch| pruned(scratch, When::Open)),
        ("a_renamed_image_under_a_handle", renamed),
        ("tmpfiles_age_out_under_a_handle", |scratch| tmpfiles(scratch, When::Open)),
        ("tmpfiles_age_out_in_a_closed_cache", |scratch| tmpfiles(scratch, When::Closed)),
        ("tmpfiles_age_out_beside_a_handle", |scratch| tmpfiles(scratch, When::Beside)),
    ];
    of(KIND, &DRIVERS, &tests)
}

/// Where the handles are while the other program works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Closed,
    /// The handle that is used afterwards is open.
    Open,
    /// Another handle is open, and stays so.
    Beside,
}

/// A cache with [`IMAGES`], after `change`; the handle to use, and another one that only stays open.
fn changed(scratch: &Scratch, max_size: u64, when: When, change: impl FnOnce(&Path)) -> (Cache, Option<Cache>) {
    scratch.fill(&IMAGES);
    let settings = scratch.settings().max_size(max_size);
    let open = (when != When::Closed).then(|| {
        let cache = settings.open(&scratch.path()).unwrap();
        // It has seen everything.
        assert_eq!(compare(&cache, &scratch.path()), Ok(()));
        cache
    });
    unnoticed(&scratch.path(), || change(&scratch.path()));
    match open {
        Some(cache) if when == When::Open => (cache, None),
        other => (settings.open(&scratch.path()).unwrap(), other),
    }
}

fn damage(damage: Damage, directory: &Path) {
    let image = directory.join("2");
    match damage {
        Damage::Phantom => fs::remove_file(image).unwrap(),
        Damage::Orphan => fs::write(directory.join("9"), bytes("9", Damage::ORPHAN)).unwrap(),
        Damage::Length => {
            let times = Times::of(&image).unwrap();
            fs::File::options().write(true).open(&image).unwrap().set_len(Damage::SHORT).unwrap();
            times.restore();
        }
    }
}

fn damaged(scratch: &Scratch, kind: Damage, when: When) -> Result<Option<String>, Failed> {
    let mut failures = Vec::new();
    for (operation, meet) in kind.meetings() {
        let scratch = Scratch::new(scratch.driver);
        let (cache, beside) = changed(&scratch, u64::MAX, when, |directory| damage(kind, directory));
        let outcome = meet(&cache)
            .and_then(|()| compare(&cache, &scratch.path()))
            .and_then(|()| beside.as_ref().map_or(Ok(()), |beside| compare(beside, &scratch.path())));
        failures.extend(outcome.err().map(|failure| format!("after {operation}: {failure}")));
    }
    if failures.is_empty() { DONE } else { Err(failures.join("\n").into()) }
}

/// Whichever image is the phantom, in the order of use: a prune evicts a real one only when the real total is over the limit.
fn pruned(scratch: &Scratch, when: When) -> Result<Option<String>, Failed> {
    let mut failures = Vec::new();
    for phantom in IMAGES {
        for (limit, evicted) in [(TOTAL - LENGTH, 0), (TOTAL - 2 * LENGTH, 1)] {
            let scratch = Scratch::new(scratch.driver);
            let (cache, _beside) =
                changed(&scratch, limit, when, |directory| fs::remove_file(directory.join(phantom)).unwrap());
            let pruned = cache.prune()?;
            let left = files(&scratch.path());
            if pruned != (evicted, evicted * LENGTH) || left.len() as u64 != 3 - evicted {
                failures.push(format!("phantom {phantom}, limit {limit}: evicted are {pruned:?}, left {left:?}"));
            }
            failures.extend(compare(&cache, &scratch.path()).err());
        }
    }
    if failures.is_empty() { DONE } else { Err(failures.join("\n").into()) }
}

/// A phantom and an orphan at once, of the same size: neither the number nor the total differs.
fn renamed(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let (cache, _) = changed(scratch, u64::MAX, When::Open, |directory| {
        fs::rename(directory.join("2"), directory.join("9")).unwrap();
    });
    assert_eq!(cache.open_for_read("9")?.size(), LENGTH);
    compare(&cache, &scratch.path())?;
    DONE
}

/// Images that were not used for an hour are removed, and the directory's mtime is put back.
fn tmpfiles(scratch: &Scratch, when: When) -> Result<Option<String>, Failed> {
    need!(missing_tool("systemd-tmpfiles"));
    need!(missing_root());
    let rules = scratch.root().join("rules.conf");
    fs::write(&rules, format!("e {} - - - am:1h\n", scratch.path().display()))?;
    let mut ran = Ok(String::new());
    let (cache, beside) = changed(scratch, 2 * LENGTH, when, |directory| {
        set_times(&directory.join("2"), -86_400);
        set_times(&directory.join("3"), -86_400);
        ran = run(Command::new("systemd-tmpfiles").arg("--clean").arg(&rules));
    });
    ran?;
    let left: Vec<_> = files(&scratch.path()).into_keys().collect();
    assert_eq!(left, ["1", "4"], "what systemd-tmpfiles left");
    assert_eq!(cache.prune()?, (0, 0), "the real total is within the limit");
    compare(&cache, &scratch.path())?;
    cache.put("2", &bytes("2", LENGTH))?;
    compare(&cache, &scratch.path())?;
    assert_eq!(cache.prune()?, (1, LENGTH));
    compare(&cache, &scratch.path())?;
    beside.map_or(Ok(()), |beside| compare(&beside, &scratch.path()))?;
    DONE
}
