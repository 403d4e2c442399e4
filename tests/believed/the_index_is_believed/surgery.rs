//! A file system is changed while it is not mounted. No time and no other attribute of the directory changes, so nothing can
//! notice it before an operation meets it.

use std::fs;

use libtest_mimic::{Failed, Trial};

use super::{Damage, IMAGES, KIND, TOTAL};
use crate::disk::{Disk, FileSystem, need, text};
use crate::fixture::{DONE, DRIVERS, LENGTH, Scratch, Test, bytes, compare, files, fill, missing_tool, trials as of};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 4] = [
        ("hidden_phantom", |scratch| damaged(scratch, Damage::Phantom)),
        ("hidden_orphan", |scratch| damaged(scratch, Damage::Orphan)),
        ("hidden_wrong_length", |scratch| damaged(scratch, Damage::Length)),
        ("a_hidden_phantom_is_not_evicted", pruned),
    ];
    of(KIND, &DRIVERS, &tests)
}

/// An unmounted ext4 with a closed cache.
fn prepared(scratch: &Scratch) -> Result<Result<Disk, String>, Failed> {
    Disk::make(FileSystem::Ext4)?.map_or_else(
        |reason| Ok(Err(reason)),
        |disk| {
            fill(&scratch.settings(), &disk.cache(), &IMAGES);
            disk.unmount()?;
            Ok(Ok(disk))
        },
    )
}

fn operate(disk: &Disk, damage: Damage) -> Result<(), Failed> {
    match damage {
        Damage::Phantom => disk.debugfs("rm /cache/2"),
        Damage::Orphan => {
            let file = disk.image().with_extension("orphan");
            fs::write(&file, bytes("9", Damage::ORPHAN))?;
            disk.debugfs(&format!("write {} /cache/9", text(&file)))
        }
        Damage::Length => disk.debugfs(&format!("set_inode_field /cache/2 size {}", Damage::SHORT)),
    }
}

fn damaged(scratch: &Scratch, damage: Damage) -> Result<Option<String>, Failed> {
    need!(missing_tool("debugfs"));
    let original = match prepared(scratch)? {
        Ok(disk) => disk,
        Err(reason) => return Ok(Some(reason)),
    };
    operate(&original, damage)?;
    let mut failures = Vec::new();
    for (operation, meet) in damage.meetings() {
        let disk = original.copy()?;
        disk.mount()?;
        assert_eq!(files(&disk.cache()).values().sum::<u64>(), damage.total(), "the damage is there");
        let cache = scratch.settings().open(&disk.cache())?;
        let outcome = meet(&cache).and_then(|()| compare(&cache, &disk.cache()));
        failures.extend(outcome.err().map(|failure| format!("after {operation}: {failure}")));
    }
    if failures.is_empty() { DONE } else { Err(failures.join("\n").into()) }
}

/// The phantom is the first one that a prune meets, or it would be met after a real one was evicted in its place.
fn pruned(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("debugfs"));
    let original = match prepared(scratch)? {
        Ok(disk) => disk,
        Err(reason) => return Ok(Some(reason)),
    };
    let mut failures = Vec::new();
    for phantom in ["1", "4"] {
        let disk = original.copy()?;
        disk.debugfs(&format!("rm /cache/{phantom}"))?;
        disk.mount()?;
        let cache = scratch.settings().max_size(TOTAL - LENGTH).open(&disk.cache())?;
        let pruned = cache.prune()?;
        if pruned != (0, 0) || files(&disk.cache()).len() != 3 {
            failures.push(format!("phantom {phantom}: evicted {pruned:?}, left {:?}", files(&disk.cache())));
        }
        failures.extend(compare(&cache, &disk.cache()).err().map(|failure| format!("phantom {phantom}: {failure}")));
    }
    if failures.is_empty() { DONE } else { Err(failures.join("\n").into()) }
}
