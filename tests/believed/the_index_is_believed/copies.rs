//! A closed cache is copied with the tools of an operator, and the copy is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use super::{KIND, check_prune};
use crate::c::{IMAGE_CACHE_ERROR_NOT_FOUND, SQLITE, Settings, status};
use crate::disk::{Disk, FileSystem, disk, need, text};
use crate::fixture::{
    DONE, DRIVERS, LENGTH, Scratch, Test, bytes, compare, files, fill, missing_tool, run, trials as of,
};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 11] = [
        ("rsync_with_exclude", rsync_exclude),
        ("rsync_with_max_size", rsync_max_size),
        ("rsync_onto_an_older_copy", rsync_again),
        ("posix_tar_with_exclude", tar_exclude),
        ("cp_over_a_smaller_cache", |scratch| cp_over(scratch, &["1", "2", "3"], &["3", "4"])),
        ("cp_over_a_larger_cache", |scratch| cp_over(scratch, &["3", "4"], &["1", "2", "3"])),
        ("cp_over_a_cache_of_the_same_images", |scratch| cp_over(scratch, &["1", "2"], &["1", "2"])),
        ("cp_without_the_last_image", cp_without),
        ("btrfs_snapshot", snapshot),
        ("btrfs_snapshot_of_an_open_cache", snapshot_of_open),
        ("btrfs_reflink_copy", reflink),
    ];
    of(KIND, &DRIVERS, &tests)
}

/// Images of different lengths. Image 2 is the largest, and was read twice.
fn make(settings: &Settings, directory: &Path) -> Result<(), Failed> {
    let cache = settings.open(directory)?;
    for (id, length) in [("1", LENGTH), ("2", 1000 * LENGTH), ("3", 2 * LENGTH), ("4", 3 * LENGTH)] {
        cache.put(id, &bytes(id, length))?;
    }
    for id in ["1", "2", "3", "4", "1", "2"] {
        cache.read(id)?;
    }
    Ok(())
}

/// The copy, opened, has what is there. `hits` says whether the tool copies what the driver keeps hits in.
fn check(settings: &Settings, copy: &Path, gone: &[&str], hits: bool) -> Result<(), Failed> {
    let cache = settings.open(copy)?;
    compare(&cache, copy)?;
    for id in gone {
        assert_eq!(cache.hits(id)?, 0, "hits of {id}, which is gone");
        assert_eq!(status(&cache.image_size(id)), IMAGE_CACHE_ERROR_NOT_FOUND);
        assert_eq!(status(&cache.open_for_read(id)), IMAGE_CACHE_ERROR_NOT_FOUND);
    }
    if hits {
        for (id, expected) in [("1", 2), ("2", 2), ("3", 1), ("4", 1)] {
            if !gone.contains(&id) {
                assert_eq!(cache.hits(id)?, expected, "hits of {id}");
            }
        }
    }
    // What a fooled index lists depends on the question: now those that change the index.
    cache.put("5", &bytes("5", LENGTH))?;
    compare(&cache, copy)?;
    drop(cache);
    check_prune(settings, copy)
}

fn copy_of(scratch: &Scratch) -> Result<PathBuf, Failed> {
    make(&scratch.settings(), &scratch.path())?;
    Ok(scratch.root().join("copy"))
}

fn rsync(scratch: &Scratch, options: &[&str], copy: &Path) -> Result<(), Failed> {
    let from = format!("{}/", scratch.path().display());
    run(Command::new("rsync").arg("-a").args(options).arg(from).arg(copy)).map(drop)
}

fn rsync_exclude(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("rsync"));
    let copy = copy_of(scratch)?;
    rsync(scratch, &["--exclude=/3"], &copy)?;
    check(&scratch.settings(), &copy, &["3"], scratch.driver == SQLITE)?;
    DONE
}

fn rsync_max_size(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("rsync"));
    let copy = copy_of(scratch)?;
    // Image 2 is longer, and the database is not.
    rsync(scratch, &["-X", "--max-size=900000"], &copy)?;
    assert!(!copy.join("2").exists(), "rsync left it out");
    check(&scratch.settings(), &copy, &["2"], true)?;
    DONE
}

/// A copy is brought up to date, but not the images: rows without files, and files whose rows are of the former copy.
fn rsync_again(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("rsync"));
    let copy = copy_of(scratch)?;
    rsync(scratch, &["-X"], &copy)?;
    let cache = scratch.open();
    cache.delete("1")?;
    cache.put("6", &bytes("6", LENGTH))?;
    drop(cache);
    // Within a second, times do not show rsync that the database changed.
    rsync(scratch, &["-X", "--checksum", "--exclude=/6"], &copy)?;
    // Image 1 was deleted and is there still: nothing says what became of its hits.
    check(&scratch.settings(), &copy, &["6"], false)?;
    DONE
}

fn tar_exclude(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("tar"));
    let copy = copy_of(scratch)?;
    let archive = scratch.root().join("archive");
    fs::create_dir(&copy)?;
    let from = scratch.path();
    let create = ["--format=posix", "--xattrs", "--exclude=./3", "-C", text(&from), "-cf", text(&archive), "."];
    run(Command::new("tar").args(create))?;
    run(Command::new("tar").args(["--xattrs", "-C", text(&copy), "-xpf", text(&archive)]))?;
    check(&scratch.settings(), &copy, &["3"], true)?;
    DONE
}

/// The images of one cache are copied into the other, with the database and the directory's times.
fn cp_over(scratch: &Scratch, from: &[&str], to: &[&str]) -> Result<Option<String>, Failed> {
    let other = scratch.root().join("other");
    // First the target: its directory's times are the older ones.
    fill(&scratch.settings(), &other, to);
    scratch.fill(from);
    let with_dot = format!("{}/.", scratch.path().display());
    run(Command::new("cp").args(["-a", &with_dot, text(&other)]))?;
    assert_eq!(files(&other).len(), {
        let mut all: Vec<_> = from.iter().chain(to).collect();
        all.sort();
        all.dedup();
        all.len()
    });
    let cache = scratch.settings().open(&other)?;
    compare(&cache, &other)?;
    cache.put("5", &bytes("5", LENGTH))?;
    compare(&cache, &other)?;
    drop(cache);
    check_prune(&scratch.settings(), &other)?;
    DONE
}

/// As when a copy was interrupted by hand, and its times were put right.
fn cp_without(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let copy = copy_of(scratch)?;
    run(Command::new("cp").args(["-a", text(&scratch.path()), text(&copy)]))?;
    crate::fixture::unnoticed(&copy, || fs::remove_file(copy.join("4")).unwrap());
    check(&scratch.settings(), &copy, &["4"], true)?;
    DONE
}

/// A btrfs with a cache that is a subvolume.
fn subvolume(scratch: &Scratch, disk: &Disk) -> Result<(PathBuf, PathBuf), Failed> {
    let (origin, copy) = (disk.cache(), disk.point().join("copy"));
    run(Command::new("btrfs").args(["-q", "subvolume", "create", text(&origin)]))?;
    make(&scratch.settings(), &origin)?;
    Ok((origin, copy))
}

fn take_snapshot(origin: &Path, copy: &Path) -> Result<(), Failed> {
    run(Command::new("btrfs").args(["-q", "subvolume", "snapshot", text(origin), text(copy)])).map(drop)
}

fn snapshot(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("btrfs"));
    let disk = disk!(FileSystem::Btrfs);
    let (origin, copy) = subvolume(scratch, &disk)?;
    take_snapshot(&origin, &copy)?;
    // Both have the same inodes and times. What happens to one does not happen to the other.
    crate::fixture::unnoticed(&copy, || fs::remove_file(copy.join("3")).unwrap());
    let cache = scratch.settings().open(&origin)?;
    compare(&cache, &origin)?;
    cache.delete("4")?;
    check(&scratch.settings(), &copy, &["3"], true)?;
    compare(&cache, &origin)?;
    DONE
}

fn snapshot_of_open(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("btrfs"));
    let disk = disk!(FileSystem::Btrfs);
    let (origin, copy) = subvolume(scratch, &disk)?;
    let cache = scratch.settings().open(&origin)?;
    cache.delete("1")?;
    cache.put("7", &bytes("7", LENGTH))?;
    take_snapshot(&origin, &copy)?;
    cache.delete("2")?;
    check(&scratch.settings(), &copy, &["1"], true)?;
    compare(&cache, &origin)?;
    DONE
}

fn reflink(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let disk = disk!(FileSystem::Btrfs);
    let (origin, copy) = (disk.cache(), disk.point().join("copy"));
    make(&scratch.settings(), &origin)?;
    run(Command::new("cp").args(["-a", "--reflink=always", text(&origin), text(&copy)]))?;
    crate::fixture::unnoticed(&copy, || fs::remove_file(copy.join("3")).unwrap());
    check(&scratch.settings(), &copy, &["3"], true)?;
    compare(&scratch.settings().open(&origin)?, &origin)?;
    DONE
}
