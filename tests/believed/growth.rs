//! What grows without a bound: memory for each image that was opened or committed, marks on files, system calls of a listing.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, FULL, NONE, SQLITE, Settings};
use crate::child::{self, Process, Task, become_member, looks, output, say, traced};
use crate::disk::{need, text};
use crate::fixture::{
    DONE, DRIVERS, LENGTH, Scratch, Test, bytes, compare, marked, missing_tool, pretend_restart, run, trials as of,
};
use crate::one_bad_file::leave_unsynced;

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 10] = [
        ("a_read_only_handle_opens_many_images", |scratch| reads(scratch, "read_only")),
        ("a_handle_opens_many_images", |scratch| reads(scratch, "writable")),
        ("commits_with_durability_none", |scratch| commits(scratch, "new")),
        ("commits_with_durability_none_of_deleted_images", |scratch| commits(scratch, "deleted")),
        ("marks_of_a_killed_process", |scratch| marks(scratch, FULL, &[])),
        ("marks_of_a_killed_process_beside_new_ones", |scratch| marks(scratch, NONE, &["new"])),
        ("marks_of_two_killed_processes", two_killed),
        ("marks_of_a_killed_process_beside_a_live_handle", beside_live),
        ("unsynced_images_of_a_killed_process_survive_once_a_later_handle_closed", survive),
        ("only_the_first_close_after_a_kill_looks_at_all_images", looks_once),
    ];
    let listings: [(&str, Test); 3] = [
        ("a_listing_while_one_access_waits", |scratch| listed(scratch, 1, "writable")),
        ("a_listing_while_many_accesses_wait", |scratch| listed(scratch, 50, "writable")),
        ("a_listing_while_one_access_can_never_be_written", |scratch| listed(scratch, 1, "read_only")),
    ];
    let mut trials = of("growth", &DRIVERS, &tests);
    trials.extend(of("growth", &[SQLITE], &listings));
    trials
}

pub const TASKS: [(&str, Task); 4] = [
    ("read_many", read_many),
    ("commit_many", commit_many),
    ("list_with_pending", list_with_pending),
    ("close_traced", close_traced),
];

const MANY: u64 = 20_000;
/// Until then, buffers that do not grow any more may grow.
const WARM: u64 = 2000;
const COMMITS: u64 = 5000;

/// Bytes that are allocated now, without those of SQLite, whose page cache has a limit of its own.
fn allocated() -> u64 {
    // SAFETY: neither has arguments.
    let (memory, of_sqlite) = unsafe { (libc::mallinfo2(), rusqlite::ffi::sqlite3_memory_used()) };
    (memory.uordblks + memory.hblkhd) as u64 - of_sqlite.cast_unsigned()
}

/// Prints how many bytes each further step keeps, in hundredths.
fn measure(steps: u64, warm: u64, step: impl Fn(u64)) {
    (0..warm).for_each(&step);
    let before = allocated();
    (warm..steps).for_each(&step);
    say(&(allocated().saturating_sub(before) * 100 / (steps - warm)).to_string());
}

fn kept(outcome: &str) -> Result<u64, Failed> {
    Ok(outcome.trim().parse::<u64>()?)
}

fn reads(scratch: &Scratch, how: &str) -> Result<Option<String>, Failed> {
    let scratch = &Scratch::in_memory(scratch.driver);
    drop(scratch.open());
    for number in 0..MANY {
        fs::write(scratch.file(&format!("image-{number}")), b"image")?;
    }
    assert_eq!(scratch.open().cache_size()?, 5 * MANY);
    protect(scratch, how)?;
    let outcome = output("read_many", &[text(&scratch.path()), &scratch.driver.to_string(), how]);
    unprotect(scratch)?;
    let kept = kept(&outcome?)?;
    assert!(kept < 2000, "a handle ({how}) keeps {} bytes for each image that it opened", kept / 100);
    DONE
}

/// For a read-only handle: nobody may write. Root may, so the task becomes another user.
fn protect(scratch: &Scratch, how: &str) -> Result<(), Failed> {
    let mode = if how == "read_only" { "a+rX,a-w" } else { "a+rX" };
    run(Command::new("chmod").args(["-R", mode]).arg(scratch.root())).map(drop)
}

fn unprotect(scratch: &Scratch) -> Result<(), Failed> {
    run(Command::new("chmod").args(["-R", "u+w"]).arg(scratch.root())).map(drop)
}

fn open_as(driver: i32, directory: &str, how: &str) -> Cache {
    if how == "read_only" && rustix::process::geteuid().is_root() {
        become_member();
    }
    let cache = Settings::new(driver).open(Path::new(directory)).unwrap();
    assert_eq!(cache.put("new", b"new").is_err(), how == "read_only", "whether the handle can only read");
    if how != "read_only" {
        cache.delete("new").unwrap();
    }
    cache
}

fn read_many(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver, how] = arguments else { panic!("{arguments:?}") };
    let cache = open_as(driver.parse().unwrap(), directory, how);
    measure(MANY, WARM, |number| drop(cache.open_for_read(&format!("image-{number}")).unwrap()));
    Box::new(cache)
}

fn commits(scratch: &Scratch, how: &str) -> Result<Option<String>, Failed> {
    let scratch = Scratch::in_memory(scratch.driver);
    let mut process = Process::spawn("commit_many", &[text(&scratch.path()), &scratch.driver.to_string(), how]);
    let kept = kept(&process.line())?;
    // Its close would sync everything.
    process.kill();
    assert!(kept < 2000, "a handle keeps {} bytes for each commit", kept / 100);
    DONE
}

fn commit_many(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver, how] = arguments else { panic!("{arguments:?}") };
    let cache = Settings::new(driver.parse().unwrap()).durability(NONE).open(Path::new(directory)).unwrap();
    measure(COMMITS, 1000, |number| {
        let id = format!("image-{number}");
        cache.put(&id, b"image").unwrap();
        if how == "deleted" {
            cache.delete(&id).unwrap();
        }
    });
    Box::new(cache)
}

/// No image has a mark, once a later handle was closed.
fn check_unmarked(directory: &Path) {
    let marked = marked(directory);
    assert!(marked.is_empty(), "these files have marks: {marked:?}");
}

fn marks(scratch: &Scratch, durability: i32, new: &[&str]) -> Result<Option<String>, Failed> {
    leave_unsynced(scratch.driver, &scratch.path(), &["1", "2", "3"]);
    let cache = scratch.settings().durability(durability).open(&scratch.path())?;
    for id in new {
        cache.put(id, &bytes(id, LENGTH))?;
    }
    compare(&cache, &scratch.path())?;
    drop(cache);
    check_unmarked(&scratch.path());
    DONE
}

fn two_killed(scratch: &Scratch) -> Result<Option<String>, Failed> {
    leave_unsynced(scratch.driver, &scratch.path(), &["1"]);
    leave_unsynced(scratch.driver, &scratch.path(), &["2"]);
    drop(scratch.open());
    check_unmarked(&scratch.path());
    DONE
}

/// Another process is open all the while, with images of its own. When it is closed in its turn, no mark is left.
fn beside_live(scratch: &Scratch) -> Result<Option<String>, Failed> {
    let driver = scratch.driver.to_string();
    let path = scratch.path();
    let live = Process::start("commit_unsynced", &[text(&path), &driver, "live"]);
    leave_unsynced(scratch.driver, &path, &["dead"]);
    drop(scratch.open());
    drop(live);
    drop(scratch.open());
    check_unmarked(&path);
    DONE
}

fn survive(scratch: &Scratch) -> Result<Option<String>, Failed> {
    leave_unsynced(scratch.driver, &scratch.path(), &["1", "2"]);
    drop(scratch.open());
    pretend_restart(&scratch.path());
    assert_eq!(scratch.open().ids()?, ["1", "2"]);
    DONE
}

fn looks_once(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    leave_unsynced(scratch.driver, &scratch.path(), &["1"]);
    let driver = scratch.driver.to_string();
    let listings = |ids: &[&str]| -> Result<u64, Failed> {
        let path = scratch.path();
        let arguments: Vec<_> = [text(&path), &driver].into_iter().chain(ids.iter().copied()).collect();
        Ok(traced("close_traced", &arguments)?.get("getdents64").copied().unwrap_or(0))
    };
    assert!(listings(&[])? > 0, "the first close looks for marks");
    for ids in [&[][..], &["2", "3"], &[], &["4"]] {
        assert_eq!(listings(ids)?, 0, "a close after commits of {ids:?} reads a directory");
    }
    check_unmarked(&scratch.path());
    DONE
}

fn close_traced(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver, ids @ ..] = arguments else { panic!("{arguments:?}") };
    let cache = Settings::new(driver.parse().unwrap()).durability(NONE).open(Path::new(directory)).unwrap();
    for id in ids {
        cache.put(id, &bytes(id, LENGTH)).unwrap();
    }
    child::mark("begin");
    drop(cache);
    child::mark("end");
    Box::new(())
}

const LISTED: u64 = 2000;
const LISTINGS: u64 = 5;

fn listed(scratch: &Scratch, waiting: u64, how: &str) -> Result<Option<String>, Failed> {
    need!(missing_tool("strace"));
    drop(scratch.open());
    for number in 0..LISTED {
        fs::write(scratch.file(&format!("image-{number}")), b"image")?;
    }
    assert_eq!(scratch.open().ids()?.len() as u64, LISTED);
    protect(scratch, how)?;
    let counts = traced("list_with_pending", &[text(&scratch.path()), &waiting.to_string(), how]);
    unprotect(scratch)?;
    let counts = counts?;
    // A listing looks at each image once, for what it takes up on the disk. Each access, and its writing, may look at its own image.
    let allowed = LISTINGS * (LISTED + 100 + 12 * waiting);
    let looked = looks(&counts);
    assert!(looked < allowed, "{LISTINGS} listings made {looked} calls of stat; allowed are {allowed}: {counts:?}");
    assert_eq!(counts.get("getdents64"), None, "a listing reads no directory");
    DONE
}

fn list_with_pending(arguments: &[String]) -> Box<dyn Any> {
    let [directory, waiting, how] = arguments else { panic!("{arguments:?}") };
    let cache = open_as(SQLITE, directory, how);
    cache.list().unwrap();
    // The first few in a second are written at once.
    for number in 0..8 {
        drop(cache.open_for_read(&format!("image-{number}")).unwrap());
    }
    child::mark("begin");
    for listing in 0..LISTINGS {
        for number in 0..waiting.parse::<u64>().unwrap() {
            drop(cache.open_for_read(&format!("image-{}", (listing * 50 + number) % LISTED)).unwrap());
        }
        assert_eq!(cache.list().unwrap().len() as u64, LISTED);
    }
    child::mark("end");
    Box::new(cache)
}
