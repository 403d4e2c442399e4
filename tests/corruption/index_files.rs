//! How the index reaches its files: nothing is mapped, a database in WAL mode is taken over with its log, a path can be long, no
//! descriptor gets the number of a standard one, and a fork beside threads that use the index does no harm.

use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use image_cache::{DriverChoice, ImageCache, Options};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::child_process::ChildProcess;
use crate::common::{Scratch, cache_image, ids, read_image};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("index_files::nothing_of_a_cache_is_ever_mapped", unmapped),
        Trial::test("index_files::a_database_in_wal_mode_is_taken_over_with_its_log", taken_over),
        Trial::test("index_files::a_database_that_turns_to_wal_mode_under_a_live_handle_is_taken_over", turned),
        passing("index_files::the_journal_stays_when_a_transaction_ends", journal_stays),
        Trial::test("index_files::a_path_may_be_longer_than_sqlites_limit", long_path),
        passing("index_files::no_descriptor_gets_the_number_of_a_closed_standard_one", || in_child("closed")),
        passing("index_files::a_child_of_busy_threads_opens_another_cache", || in_child("forks")),
    ]
}

/// A test that fails by a panic only.
fn passing(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// Runs a task in a process of its own, with a directory of its own.
fn in_child(task: &str) {
    let directory = tempfile::tempdir().unwrap();
    drop(ChildProcess::start(task, &[directory.path().to_str().unwrap()]));
}

/// Turns a closed cache's database to WAL mode, and leaves changes in its log.
fn leave_log(scratch: &Scratch) {
    let database = scratch.database();
    database.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    database.execute_batch("PRAGMA journal_mode = WAL; UPDATE cached_images SET hits = hits + 7;").unwrap();
    drop(database);
    assert!(fs::metadata(scratch.file("cache.db-wal")).unwrap().len() > 0);
}

fn use_all(cache: &ImageCache) {
    cache_image(cache, "passing", b"passing");
    read_image(cache, "passing");
    assert!(ids(cache).contains(&"passing".to_owned()) && cache.cache_size().unwrap() > 0);
    assert_eq!(cache.hit_count("passing").unwrap(), 1);
    cache.prune().unwrap();
    cache.clean(None).unwrap();
    cache.delete_cached_image("passing").unwrap();
}

fn unmapped() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    cache_image(&scratch.open(), "1", b"12345");
    let has_ended = AtomicBool::new(false);
    let path = scratch.path();
    std::thread::scope(|scope| {
        let mapped = scope.spawn(|| {
            let mut looks = 0;
            while !has_ended.load(Ordering::Relaxed) {
                let maps = fs::read_to_string("/proc/self/maps").unwrap();
                let found = maps.lines().find(|line| line.contains(path.to_str().unwrap()));
                if let Some(found) = found {
                    return Err(found.to_owned());
                }
                looks += 1;
            }
            Ok(looks)
        });
        for round in 0..20 {
            if round % 2 == 0 {
                // Another process: its mappings are its own.
                let statements = "PRAGMA journal_mode = WAL; UPDATE cached_images SET hits = hits + 1;";
                let database = scratch.file("cache.db");
                drop(ChildProcess::start("execute", &[database.to_str().unwrap(), statements]));
            }
            use_all(&scratch.open());
        }
        has_ended.store(true, Ordering::Relaxed);
        assert!(mapped.join().unwrap()? > 0);
        Ok(())
    })
}

fn taken_over() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    cache_image(&scratch.open(), "1", b"12345");
    leave_log(&scratch);
    let cache = scratch.open();
    assert_eq!((ids(&cache), cache.hit_count("1")?), (vec!["1".to_owned()], 7));
    for name in ["cache.db-wal", "cache.db-shm"] {
        assert!(!scratch.file(name).exists(), "{name}");
    }
    // Bytes 18 and 19 are 1 for a rollback journal, 2 for a log.
    drop(cache);
    assert_eq!(fs::read(scratch.file("cache.db")).unwrap()[18..20], [1, 1]);
    assert_eq!(scratch.open().hit_count("1")?, 7);
    Ok(())
}

/// As a process with the first version of this library does that opens the cache meanwhile.
fn turned() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let database = scratch.file("cache.db");
    let statements =
        "PRAGMA journal_mode = WAL; UPDATE cached_images SET hits = 3; BEGIN; SELECT * FROM cached_images;";
    let other = ChildProcess::start("lock", &[database.to_str().unwrap(), statements]);
    for _ in 0..3 {
        assert!(cache.list_cached().is_err());
    }
    assert_eq!((read_image(&cache, "1"), cache.cache_size()?), (b"12345".to_vec(), 5));
    drop(other);
    // The first use notices that the mode is another one, unless an earlier one did.
    let _ = cache.list_cached();
    assert_eq!((ids(&cache), cache.hit_count("1")?), (vec!["1".to_owned()], 4));
    Ok(())
}

fn journal_stays() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(scratch.file("cache.db-journal")).unwrap());
    let before = inode();
    for _ in 0..5 {
        use_all(&cache);
        assert_eq!(inode(), before);
    }
    assert_eq!(fs::read(scratch.file("cache.db-journal")).unwrap()[0], 0, "no transaction is unfinished");
    let other = scratch.open();
    drop(cache);
    assert!(!fs::read(scratch.file("cache.db-journal")).unwrap().is_empty(), "another handle is open");
    drop(other);
    assert!(fs::read(scratch.file("cache.db-journal")).unwrap().is_empty(), "Glance would count its bytes");
    drop(scratch.open());
    assert_eq!(inode(), before);
}

fn long_path() -> Result<(), Failed> {
    let directory = tempfile::tempdir().unwrap();
    let mut path = directory.path().to_owned();
    for _ in 0..6 {
        path.push("d".repeat(200));
        fs::create_dir(&path).unwrap();
    }
    let cache = ImageCache::open(&path, Options::new())?;
    use_all(&cache);
    cache_image(&cache, "1", b"12345");
    drop(cache);
    assert!(path.join("cache.db").exists());
    assert_eq!(ids(&ImageCache::open(&path, Options::new())?), ["1"]);
    Ok(())
}

/// Task of a child process: its standard descriptors are closed, and a thread looks at their numbers meanwhile. Returns where to
/// report.
pub fn use_without_standard_descriptors(directory: &str) -> OwnedFd {
    let output = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 10).unwrap();
    for number in 0..3 {
        // SAFETY: nothing in this process uses them from here on, except a panic's message.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    let has_ended = AtomicBool::new(false);
    // SAFETY: the number may be closed, which the call returns as an error.
    let flags = |number| fcntl_getfl(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) });
    // Placeholders can neither be read nor written.
    let is_harmless = |number| flags(number).map_or(true, |flags| flags.contains(OFlags::PATH));
    std::thread::scope(|scope| {
        let harmless = scope.spawn(|| {
            while !has_ended.load(Ordering::Relaxed) {
                if !(0..3).all(is_harmless) {
                    return false;
                }
            }
            true
        });
        for round in 0..30 {
            let cache = ImageCache::open(Path::new(directory).join((round % 3).to_string()), Options::new()).unwrap();
            use_all(&cache);
            drop(cache);
            assert!((0..3).all(|number| flags(number).is_err()));
        }
        has_ended.store(true, Ordering::Relaxed);
        assert!(harmless.join().unwrap());
    });
    assert!(output.as_raw_fd() >= 10);
    output
}

/// Task of a child process: threads use one cache, and each of many forked children opens another one.
pub fn fork_beside_threads(directory: &str) {
    let busy = ImageCache::open(Path::new(directory).join("busy"), Options::new()).unwrap();
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (busy, has_ended) = (&busy, &has_ended);
            scope.spawn(move || {
                while !has_ended.load(Ordering::Relaxed) {
                    cache_image(busy, &number.to_string(), b"x");
                    busy.list_cached().unwrap();
                    busy.delete_cached_image(&number.to_string()).unwrap();
                    let path = Path::new(directory).join(format!("thread {number}"));
                    drop(ImageCache::open(path, Options::new()).unwrap());
                }
            });
        }
        for round in 0..100 {
            // SAFETY: the child calls this library, which supports that, and ends.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let path = Path::new(directory).join(format!("child {round}"));
                    let is_usable = ImageCache::open(path, Options::new()).and_then(|cache| cache.list_cached());
                    // SAFETY: it ends the process without handlers, which are the parent's.
                    unsafe { nix::libc::_exit(i32::from(is_usable.is_err())) };
                }
                ForkResult::Parent { child } => {
                    let begin = Instant::now();
                    let status = loop {
                        match waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() {
                            WaitStatus::StillAlive if begin.elapsed() > Duration::from_secs(20) => {
                                kill(child, Signal::SIGKILL).unwrap();
                                panic!("child {round} hangs");
                            }
                            WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(200)),
                            status => break status,
                        }
                    };
                    assert_eq!(status, WaitStatus::Exited(child, 0), "child {round}");
                }
            }
        }
        has_ended.store(true, Ordering::Relaxed);
    });
}
