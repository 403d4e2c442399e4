//! The cache lock is not held while a whole index is read. The file system of the index is slow, and the lock is measured from outside.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings};
use crate::child::{ChildProcess, listen, say};
use crate::machine::{Need, age, command, scratch, text, trial};

/// A part of a comparison reads a few pages of the index, the whole check more than 500.
const MAX_HELD: Duration = Duration::from_millis(500);

pub fn trials_of_kind() -> Vec<Trial> {
    let strace = &[Need::Tool("strace")];
    vec![
        trial("held_locks::an_index_that_was_not_closed_is_checked::sqlite", strace, || compares("open", not_closed)),
        trial("held_locks::rows_are_counted_after_a_contradiction::sqlite", strace, || compares("size", |_| {})),
    ]
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("compare slowly", [directory, what]) => compare(Path::new(directory), what),
        _ => return false,
    }
    true
}

fn image(number: u32) -> String {
    format!("{number:06}{}", "-image".repeat(12))
}

const IMAGES: u32 = 16_000;

fn compare(directory: &Path, what: &str) {
    let open = || Cache::open(directory, Settings::new(Driver::Sqlite)).unwrap();
    let cache = (what == "size").then(open);
    say("opened");
    listen().unwrap();
    // A contradiction: an image that the index has and that has no file.
    let cache = cache.unwrap_or_else(open);
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

/// The longest time that the cache lock was held by others, until the flag is set.
fn longest_hold(directory: &Path, has_ended: &AtomicBool) -> Duration {
    let file = File::options().read(true).write(true).open(directory.join(".image_cache/lock")).unwrap();
    let byte =
        |kind: i32| libc::flock { l_type: i16::try_from(kind).unwrap(), l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    let (locked, unlocked) = (byte(libc::F_WRLCK), byte(libc::F_UNLCK));
    let mut longest = Duration::ZERO;
    while !has_ended.load(Ordering::Relaxed) {
        let start = Instant::now();
        // SAFETY: the calls read what lives until they return.
        unsafe {
            assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const locked), 0);
            longest = longest.max(start.elapsed());
            assert_eq!(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const unlocked), 0);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    longest
}

/// Each read of the index takes 2 ms longer.
fn compares(what: &str, prepare: fn(&Path)) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    drop(Cache::open(&directory, Settings::new(Driver::Sqlite))?);
    for number in 0..IMAGES {
        File::create(directory.join(image(number))).unwrap();
    }
    drop(Cache::open(&directory, Settings::new(Driver::Sqlite))?);
    prepare(&directory);
    let database = directory.join("cache.db");
    let mut strace = command("strace");
    strace.args(["-f", "--seccomp-bpf", "-q", "-q", "-o", "/dev/null", "-P", text(&database)]);
    strace.args(["-e", "trace=pread64", "-e", "inject=pread64:delay_enter=2000"]);
    strace.arg(std::env::current_exe().unwrap()).args([text(&directory), what]);
    let mut child = ChildProcess::spawn("compare slowly", &mut strace);
    child.expect("opened")?;
    let has_ended = AtomicBool::new(false);
    let start = Instant::now();
    let (said, longest) = std::thread::scope(|scope| {
        let probe = scope.spawn(|| longest_hold(&directory, &has_ended));
        let said = child.tell("go on").and_then(|()| child.hear());
        has_ended.store(true, Ordering::Relaxed);
        (said, probe.join().unwrap())
    });
    let took = start.elapsed();
    assert_eq!(said?, "0");
    child.finish()?;
    println!("swept: a comparison that took {took:?} ({what}) held the cache lock for {longest:?} at most");
    assert!(took > 2 * MAX_HELD, "the index was not slow: {took:?}");
    assert!(longest < MAX_HELD, "the cache lock was held for {longest:?}");
    Ok(())
}
