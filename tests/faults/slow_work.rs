//! Slow work under the lock: readers of other handles go on beside long operations of other processes.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use libtest_mimic::{Failed, Trial};
use rustix::fs::{FallocateFlags, fallocate};

use crate::c::{Cache, Driver, Settings, status_of};
use crate::child::{ChildProcess, listen, say};
use crate::machine::{Need, Volume, scratch, text, trial, trials};
use crate::operations;

/// Nothing waits longer for a lock that another program holds.
const MAX_WAIT: Duration = Duration::from_secs(10);

pub fn trials_of_kind() -> Vec<Trial> {
    let volume = &[Need::Volume("ext4")];
    [
        trials("slow_work::cleans_a_large_file", volume, |driver| with_a_large_file(driver, "clean")),
        trials("slow_work::deletes_a_large_image", volume, |driver| with_a_large_file(driver, "delete")),
        trials("slow_work::prunes_a_large_image", volume, |driver| with_a_large_file(driver, "prune")),
        trials("slow_work::lists_many_new_images", &[], |driver| beside(scratch().path(), driver, "list")),
        trials("slow_work::opens_with_many_new_images", &[], |driver| beside(scratch().path(), driver, "open")),
        trials("slow_work::sums_many_new_images", &[], |driver| beside(scratch().path(), driver, "size")),
        trials("slow_work::commits_a_large_image", &[], |driver| beside(scratch().path(), driver, "commit")),
        vec![trial("slow_work::foreign_lock_on_the_database::sqlite", &[], foreign_lock)],
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("work slowly", [driver, directory, what]) => work(Driver::of_name(driver), Path::new(directory), what),
        ("use a locked index", [driver, directory]) => {
            use_a_locked_index(Driver::of_name(driver), Path::new(directory));
        }
        _ => return false,
    }
    true
}

/// Makes a file of 4 GiB in many extents, which takes long to be freed.
fn reserve(file: &Path) {
    const LENGTH: u64 = 4 << 30;
    const STEP: u64 = 512 << 10;
    let file = File::create(file).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, LENGTH).unwrap();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for offset in (0..LENGTH).step_by(usize::try_from(STEP).unwrap()) {
        fallocate(&file, hole, offset, STEP / 2).unwrap();
    }
    // It is pruned before the images that are read.
    let hour_ago = SystemTime::now() - Duration::from_secs(60 * 60);
    file.set_times(FileTimes::new().set_accessed(hour_ago).set_modified(hour_ago)).unwrap();
}

/// Adds the large file. The worker does it, which has no threads: what a test opens may be open in the children that other tests
/// start meanwhile, and a prune leaves an image that is in use.
fn add_a_large_file(directory: &Path, what: &str) {
    match what {
        "clean" => reserve(&directory.join("invalid/large")),
        "delete" | "prune" => reserve(&directory.join("large")),
        _ => {}
    }
}

fn add_many_images(directory: &Path) {
    for number in 0..20_000 {
        File::create(directory.join(format!("image {number}"))).unwrap();
    }
}

fn work(driver: Driver, directory: &Path, what: &str) {
    // A file that nobody has read is the first one to be pruned.
    let settings = Settings::new(driver).max_size(1 << 20).durable();
    let cache = (what != "open").then(|| Cache::open(directory, settings).unwrap());
    add_a_large_file(directory, what);
    say("prepared");
    listen().unwrap();
    let status = match (what, &cache) {
        ("clean", Some(cache)) => status_of(&cache.clean(-1)),
        ("delete", Some(cache)) => status_of(&cache.delete("large")),
        ("prune", Some(cache)) => status_of(&cache.prune()),
        ("list", Some(cache)) => status_of(&cache.list_cached()),
        ("size", Some(cache)) => status_of(&cache.size()),
        ("commit", Some(cache)) => status_of(&cache.write("new", &vec![1; 128 << 20])),
        _ => status_of(&Cache::open(directory, settings)),
    };
    say(&format!("{what}: {status}"));
}

/// Reads until the end, and returns how long each hit took.
fn read_until(has_ended: &AtomicBool, cache: &Cache) -> Result<Vec<Duration>, String> {
    let mut times = Vec::new();
    let failed = |failure: crate::c::Failure| format!("a reader failed: {failure}");
    while !has_ended.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut length = 0;
        let mut reader = cache.open_for_read(operations::KEPT).map_err(failed)?;
        reader.each_piece(|piece| length += piece.len()).map_err(failed)?;
        drop(reader);
        times.push(start.elapsed());
        if length != operations::kept_bytes().len() {
            return Err(format!("a reader got {length} bytes"));
        }
    }
    Ok(times)
}

fn report(what: &str, driver: Driver, mut times: Vec<Duration>) {
    times.sort_unstable();
    let Some(worst) = times.last() else { return };
    let of_thousand = times[(times.len() - 1) * 999 / 1000];
    println!(
        "swept: readers beside {what}, {}: {} hits, p99.9 {of_thousand:?}, worst {worst:?}",
        driver.name(),
        times.len()
    );
}

/// The file is on a disk in memory: it takes no room there, and the time is the file system's.
fn with_a_large_file(driver: Driver, what: &str) -> Result<(), Failed> {
    let volume = Volume::new("ext4", 5 << 10, &["-E", "nodiscard", "-m", "0"])?;
    beside(volume.path(), driver, what)
}

/// Another process works, while a reader of a handle of its own reads.
fn beside(directory: &Path, driver: Driver, what: &str) -> Result<(), Failed> {
    let directory = directory.join("cache");
    let cache = operations::open(&directory, driver)?;
    let mut worker = ChildProcess::start("work slowly", &[driver.name(), text(&directory), what]);
    worker.expect("prepared")?;
    if ["list", "size", "open"].contains(&what) {
        add_many_images(&directory);
    }
    let has_ended = AtomicBool::new(false);
    let (outcome, times) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&has_ended, &cache));
        let outcome = worker.tell("go on").and_then(|()| worker.expect(&format!("{what}: 0")));
        has_ended.store(true, Ordering::Relaxed);
        (outcome, reader.join().unwrap())
    });
    outcome?;
    report(what, driver, times?);
    worker.finish()?;
    let remains = fs::exists(directory.join("large")).unwrap() || fs::exists(directory.join("invalid/large")).unwrap();
    assert!(!remains, "the large file is gone");
    Ok(())
}

/// Opens a cache whose index is locked, and uses it. Hits may be missing, and lists may fail; nothing hangs.
fn use_a_locked_index(driver: Driver, directory: &Path) {
    let mut problems = Vec::new();
    let mut slow = |what: &str, start: Instant| {
        if start.elapsed() > MAX_WAIT {
            problems.push(format!("{what} took {:?}", start.elapsed()));
        }
    };
    let start = Instant::now();
    let cache = match Cache::open(directory, Settings::new(driver)) {
        Ok(cache) => cache,
        Err(failure) => return say(&format!("open: {failure}")),
    };
    slow("open", start);
    let must_succeed = [
        "is_cached",
        "get_image_size",
        "open, read, close",
        "get_cache_size",
        "write, commit",
        "tee",
        "delete_cached_image",
    ];
    let mut failed = Vec::new();
    for (name, operation) in operations::ALL {
        let start = Instant::now();
        let status = operation(&cache);
        slow(name, start);
        if status != 0 && must_succeed.contains(name) {
            failed.push(format!("{name}: {status}"));
        }
    }
    let start = Instant::now();
    drop(cache);
    slow("close", start);
    problems.extend(failed);
    say(if problems.is_empty() { "worked".to_owned() } else { problems.join("; ") }.as_str());
}

/// Only the SQLite driver has a database.
fn foreign_lock() -> Result<(), Failed> {
    let driver = Driver::Sqlite;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = operations::open(&directory, driver)?;
    let mut foreign = ChildProcess::start("lock the database", &[text(&directory.join("cache.db"))]);
    foreign.expect("locked")?;
    let has_ended = AtomicBool::new(false);
    let mut user = ChildProcess::start("use a locked index", &[driver.name(), text(&directory)]);
    let (outcome, times) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&has_ended, &cache));
        // Several calls wait for the lock, one after the other.
        let outcome = user.hear().or_else(|_| user.hear());
        has_ended.store(true, Ordering::Relaxed);
        (outcome, reader.join().unwrap())
    });
    report("a foreign lock on the database", driver, times?);
    assert_eq!(outcome?, "worked");
    user.finish()?;
    foreign.finish()?;
    assert!(cache.list_cached()?.iter().any(|entry| entry.id == operations::KEPT));
    Ok(())
}
