//! How long others wait for the cache lock: while a whole index is read, beside a prune of many images, behind a process that keeps
//! the lock. Slow file systems are simulated, by delays of system calls.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings, TIMED_OUT, status_of};
use crate::child::{ChildProcess, DEADLINE, listen, say, until};
use crate::machine::{Need, age, command, scratch, text, trial, trials};

/// A part of a comparison reads a few pages of the index. The whole index has more than 1000.
const MAX_READS: u32 = 150;

pub fn trials_of_kind() -> Vec<Trial> {
    let strace = &[Need::Tool("strace")];
    vec![
        trial("held_locks::an_index_that_was_not_closed_is_checked::sqlite", strace, || compares("open", not_closed)),
        trial("held_locks::rows_are_counted_after_a_contradiction::sqlite", strace, || compares("size", |_| {})),
        trial("held_locks::concurrent_deletes_make_a_prune_end::sqlite", strace, deletes_beside_a_prune),
    ]
    .into_iter()
    .chain(trials("held_locks::commits_get_turns_beside_a_prune", strace, commits_beside_a_prune))
    .chain(trials("held_locks::a_reader_that_closes_last", &[], closes_last))
    .chain(trials("held_locks::many_names_wait_once", &[], many_names_wait_once))
    .chain(trials("held_locks::a_commit_after_a_time_out", &[], commits_after_a_time_out))
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("compare", [directory, what]) => compare(Path::new(directory), what),
        ("prune slowly", [driver, directory, limit]) => {
            prune(Driver::of_name(driver), Path::new(directory), limit.parse().unwrap());
        }
        _ => return false,
    }
    true
}

fn image(number: u32) -> String {
    format!("{number:06}{}", "-image".repeat(12))
}

const IMAGES: u32 = 16_000;

fn compare(directory: &Path, what: &str) {
    let cache = Cache::open(directory, Settings::new(Driver::Sqlite)).unwrap();
    // A contradiction: an image that the index has and that has no file.
    if what == "size" {
        let database = rusqlite::Connection::open(directory.join("cache.db")).unwrap();
        let inserted = "INSERT INTO cached_images (image_id, size, last_accessed) VALUES ('gone', 7, 1)";
        database.execute_batch(inserted).unwrap();
    }
    say(&cache.size().unwrap().to_string());
}

/// As if its last handle had been killed.
fn not_closed(directory: &Path) {
    age(&directory.join("cache.db"), 1000);
}

/// How often the database was read while the cache lock was held once, at most, and altogether.
fn reads(trace: &str) -> (u32, u32) {
    let (mut is_held, mut now, mut most, mut all) = (false, 0, 0, 0);
    for call in trace.lines() {
        if call.contains("/.image_cache/lock>") && call.contains("l_start=0,") && call.ends_with("= 0") {
            is_held = call.contains("F_WRLCK");
            now = 0;
        } else if call.contains("pread64(") && call.contains("/cache.db>") {
            all += 1;
            now += u32::from(is_held);
            most = most.max(now);
        }
    }
    (most, all)
}

fn compares(what: &str, prepare: fn(&Path)) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    drop(Cache::open(&directory, Settings::new(Driver::Sqlite))?);
    for number in 0..IMAGES {
        File::create(directory.join(image(number))).unwrap();
    }
    drop(Cache::open(&directory, Settings::new(Driver::Sqlite))?);
    prepare(&directory);
    let trace = scratch.path().join("trace");
    let mut strace = command("strace");
    strace.args(["-f", "--seccomp-bpf", "-y", "-q", "-q", "-o", text(&trace), "-e", "trace=pread64,fcntl"]);
    strace.arg(std::env::current_exe().unwrap()).args([text(&directory), what]);
    let mut child = ChildProcess::spawn("compare", &mut strace);
    child.expect("0")?;
    child.finish()?;
    let (most, all) = reads(&fs::read_to_string(&trace).unwrap());
    println!("swept: a comparison ({what}) read {all} pages of the index, {most} of them at most under one lock");
    assert!(all > 4 * MAX_READS, "the index was not read: {all}");
    assert!(most < MAX_READS, "{most} of {all} pages were read while the cache lock was held");
    Ok(())
}

fn prune(driver: Driver, directory: &Path, limit: u64) {
    let cache = Cache::open(directory, Settings::new(driver).max_size(limit)).unwrap();
    say("opened");
    listen().unwrap();
    let (images, _) = cache.prune().unwrap();
    say(&images.to_string());
}

/// A closed cache with images of one byte.
fn fill(driver: Driver, directory: &Path, images: usize) -> Result<(), Failed> {
    drop(Cache::open(directory, Settings::new(driver))?);
    for number in 0..images {
        fs::write(directory.join(format!("image {number}")), b"1").unwrap();
        age(&directory.join(format!("image {number}")), 1000);
    }
    Cache::open(directory, Settings::new(driver))?.list_cached()?;
    Ok(())
}

/// A process that prunes to a limit, whose removals take 1 ms longer each. It waits to be told.
fn start_slow_prune(driver: Driver, directory: &Path, limit: u64) -> Result<ChildProcess, Failed> {
    let mut strace = command("strace");
    strace.args(["-f", "--seccomp-bpf", "-q", "-q", "-o", "/dev/null"]);
    strace.args(["-e", "trace=unlinkat", "-e", "inject=unlinkat:delay_exit=1000"]);
    strace.arg(std::env::current_exe().unwrap()).args([driver.name(), text(directory), &limit.to_string()]);
    let mut child = ChildProcess::spawn("prune slowly", &mut strace);
    child.expect("opened")?;
    Ok(child)
}

/// How many images there are.
fn count(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("image ")).count()
}

/// A prune removes 64 images each time that it has the lock. Others that wait get it in between.
fn commits_beside_a_prune(driver: Driver) -> Result<(), Failed> {
    const IMAGES: usize = 1500;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    fill(driver, &directory, IMAGES)?;
    let mut pruner = start_slow_prune(driver, &directory, 0)?;
    let cache = Cache::open(&directory, Settings::new(driver))?;
    pruner.tell("go on")?;
    until(DEADLINE, || (count(&directory) < IMAGES).then_some(())).ok_or("the prune does not begin")?;
    let mut commits = Vec::new();
    for number in 0..3 {
        let start = Instant::now();
        cache.write(&format!("new {number}"), b"new")?;
        commits.push(start.elapsed());
    }
    let left = count(&directory);
    let said = pruner.hear()?;
    println!("swept: beside a prune of {IMAGES} images, commits took {commits:?}; {left} images were left");
    assert!(left > IMAGES / 3, "commits wait for the end of the prune: {commits:?}, {left} images are left");
    assert!(said.parse::<usize>()? >= IMAGES, "the prune goes on, and evicts all: {said}");
    pruner.finish()
}

/// A large image is deleted while small ones are evicted to make room for it. The rest of them stay.
fn deletes_beside_a_prune() -> Result<(), Failed> {
    const IMAGES: usize = 1280;
    let driver = Driver::Sqlite;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    fill(driver, &directory, IMAGES)?;
    let cache = Cache::open(&directory, Settings::new(driver))?;
    cache.write("large", &vec![1; 10_000])?;
    let mut pruner = start_slow_prune(driver, &directory, 10_000)?;
    pruner.tell("go on")?;
    until(DEADLINE, || (count(&directory) < IMAGES).then_some(())).ok_or("the prune does not begin")?;
    cache.delete("large")?;
    let left = count(&directory);
    let said = pruner.hear()?;
    println!("swept: a prune evicted {said} of {IMAGES} images; {left} were left when it became needless");
    assert!(left > 64, "the delete waited for the end of the prune");
    // Those of the batch that it had begun are gone.
    assert!(count(&directory) + 64 >= left, "{} images are left of {left}: {said} were evicted", count(&directory));
    pruner.finish()
}

/// The cache's own handle is closed, and its last reader closes while another process keeps the lock.
fn closes_last(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = Cache::open(&directory, Settings::new(driver))?;
    cache.write("1", b"hello")?;
    let mut reader = cache.open_for_read("1")?;
    reader.each_piece(|_| {})?;
    drop(cache);
    let file = hold_cache_lock(&directory);
    let start = Instant::now();
    drop(reader);
    let took = start.elapsed();
    drop(file);
    assert!(took < Duration::from_secs(1), "the reader's close took {took:?}");
    let cache = Cache::open(&directory, Settings::new(driver))?;
    assert_eq!((cache.read("1")?, cache.size()?), (b"hello".to_vec(), 5));
    Ok(())
}

/// Takes the cache lock, as another process does, until the file is closed.
fn hold_cache_lock(directory: &Path) -> File {
    let file = File::options().read(true).write(true).open(directory.join(".image_cache/lock")).unwrap();
    let kind = i16::try_from(libc::F_WRLCK).unwrap();
    let byte = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    // SAFETY: the call reads what lives until it returns.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const byte) }, 0);
    file
}

/// A call for many names waits for the cache lock as long as one for a single name.
fn many_names_wait_once(driver: Driver) -> Result<(), Failed> {
    const NAMES: u32 = 300;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = Cache::open(&directory, Settings::new(driver))?;
    for area in ["invalid", "queue"] {
        (0..NAMES).try_for_each(|number| fs::write(directory.join(area).join(image(number)), b"")).unwrap();
    }
    let file = hold_cache_lock(&directory);
    assert_eq!(status_of(&cache.queue("new")), TIMED_OUT);
    // From now on, each wait for the lock takes 50 ms.
    let began = Instant::now();
    assert_eq!(status_of(&cache.clean(-1)), TIMED_OUT);
    assert_eq!(status_of(&cache.dequeue_all()), TIMED_OUT);
    let waited = began.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    drop(file);
    assert_eq!((cache.clean(-1)?, cache.dequeue_all()?), (NAMES.into(), NAMES.into()));
    Ok(())
}

/// After a call has timed out, the next ones of the handle wait for a moment only. A commit waits its whole time, since its failure would
/// cost the fetch; calls of other threads do not wait for that.
fn commits_after_a_time_out(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = Cache::open(&directory, Settings::new(driver).durable())?;
    let mut writer = cache.begin_write("1")?;
    writer.write_chunk(b"hello")?;
    let file = hold_cache_lock(&directory);
    assert_eq!(status_of(&cache.queue("2")), TIMED_OUT);
    let committed = std::thread::scope(|scope| {
        let commit = scope.spawn(|| writer.commit());
        for _ in 0..10 {
            assert_eq!(status_of(&cache.queue("2")), TIMED_OUT);
        }
        assert!(!commit.is_finished(), "the commit has ended, or another call has waited for it");
        drop(file);
        commit.join().unwrap()
    });
    committed?;
    assert_eq!(cache.read("1")?, b"hello");
    Ok(())
}
