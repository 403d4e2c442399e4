//! Forks of a host with threads: the child may use other caches, and harms none of the parent's.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Failed, Trial};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::c::{BEING_CACHED, Cache, Driver, FORKED, Settings, status_of};
use crate::child::{ChildProcess, DEADLINE, say, until};
use crate::machine::{scratch, text, trials};
use crate::operations;

/// How often a host with threads forks.
const ROUNDS: usize = 25;

pub fn trials_of_kind() -> Vec<Trial> {
    [
        trials("forks::the_child_uses_another_cache", &[], |driver| in_child("fork and use another cache", driver)),
        trials("forks::the_child_uses_the_parents_handles", &[], |driver| in_child("fork and use handles", driver)),
        trials("forks::the_child_exits", &[], the_child_exits),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    let ([driver, directory], true) = (arguments, task.starts_with("fork")) else { return false };
    let (driver, directory) = (Driver::of_name(driver), Path::new(directory));
    match task {
        "fork and use another cache" => use_another_cache(driver, directory),
        "fork and use handles" => use_handles(driver, directory),
        "fork and exit" => fork_and_exit(driver, directory),
        _ => return false,
    }
    true
}

fn in_child(task: &str, driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let mut child = ChildProcess::start(task, &[driver.name(), text(&scratch.path().join("cache"))]);
    let said = child.hear().or_else(|_| child.hear())?;
    assert_eq!(said, "all went well");
    child.finish()
}

/// Runs `work` in a forked child, which must return 0 before the deadline.
fn in_fork(work: impl FnOnce() -> u8) -> Result<(), String> {
    // SAFETY: the child only does what the header allows, and ends without the parent's destructors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(255);
        // SAFETY: it ends this process.
        unsafe { libc::_exit(i32::from(code)) };
    }
    wait_for(Pid::from_raw(child))
}

fn wait_for(child: Pid) -> Result<(), String> {
    let ended = until(DEADLINE, || match waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap() {
        WaitStatus::StillAlive => None,
        status => Some(status),
    });
    match ended {
        Some(WaitStatus::Exited(_, 0)) => Ok(()),
        Some(status) => Err(format!("the child: {status:?}")),
        None => {
            let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
            let _ = waitpid(child, None);
            Err(format!("the child did not end within {DEADLINE:?}"))
        }
    }
}

/// Runs `work` while other threads use a cache all the time.
fn beside_threads(driver: Driver, directory: &Path, work: impl FnOnce(&Cache) -> Result<(), String>) {
    // The log function has a lock, which the child would inherit.
    drop(operations::open(directory, driver).unwrap());
    let cache = Cache::open_without_log(directory, Settings::new(driver)).unwrap();
    let has_ended = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        for thread in 0..3 {
            let (cache, has_ended) = (&cache, &has_ended);
            scope.spawn(move || {
                let mut count = 0;
                // What a process has once, for all caches, is in use at most forks.
                while thread == 1 && !has_ended.load(Ordering::Relaxed) {
                    let another = Cache::open_without_log(directory, Settings::new(driver)).unwrap();
                    another.list_cached().unwrap();
                }
                while !has_ended.load(Ordering::Relaxed) {
                    count += 1;
                    let id = format!("{thread} {count}");
                    cache.write(&id, &[1; 3000]).unwrap();
                    cache.read(&id).unwrap();
                    cache.delete(&id).unwrap();
                    if thread == 0 {
                        let _ = operations::ALL.iter().map(|(_, operation)| operation(cache)).min();
                    }
                }
            });
        }
        let outcome = work(&cache);
        has_ended.store(true, Ordering::Relaxed);
        outcome
    });
    let kept = operations::check_kept(&cache);
    say(&outcome.and(kept).map_or_else(|what| what, |()| "all went well".to_owned()));
}

fn use_another_cache(driver: Driver, directory: &Path) {
    beside_threads(driver, directory, |_| {
        for round in 0..ROUNDS {
            let another = directory.with_file_name(format!("another {round}"));
            in_fork(|| use_whole(driver, &another, round)).map_err(|what| format!("round {round}: {what}"))?;
        }
        Ok(())
    });
}

/// Opens, writes, reads and closes. Returns which of them failed.
fn use_whole(driver: Driver, directory: &Path, round: usize) -> u8 {
    // Of a long image, the digest is computed on a thread.
    let data = vec![5; if round.is_multiple_of(8) { 5 << 20 } else { 50_000 }];
    let Ok(cache) = Cache::open_without_log(directory, Settings::new(driver).durable()) else { return 1 };
    if operations::write_with_md5(&cache, "1", &data).is_err() {
        return 2;
    }
    if !cache.read("1").is_ok_and(|bytes| bytes == data) {
        return 3;
    }
    if cache.list_cached().map_or(0, |list| list.len()) != 1 || cache.prune().is_err() || cache.clean(0).is_err() {
        return 4;
    }
    drop(cache);
    0
}

fn use_handles(driver: Driver, directory: &Path) {
    beside_threads(driver, directory, |cache| {
        for round in 0..ROUNDS {
            let mut writer = cache.begin_write("the parent's").map_err(|failure| failure.to_string())?;
            let mut reader = cache.open_for_read(operations::KEPT).map_err(|failure| failure.to_string())?;
            in_fork(|| {
                let all = operations::ALL.iter().position(|(_, operation)| operation(cache) != FORKED);
                if let Some(place) = all {
                    return 100 + u8::try_from(place).unwrap();
                }
                let chunk = status_of(&writer.write_chunk(b"12345"));
                let read = status_of(&reader.read(&mut [0; 10]));
                // Closing them is harmless.
                let copies = (writer.copy(), reader.copy(), cache.copy());
                drop(ManuallyDrop::into_inner(copies.0));
                drop(ManuallyDrop::into_inner(copies.1));
                drop(ManuallyDrop::into_inner(copies.2));
                u8::from(chunk != FORKED || read != FORKED)
            })
            .map_err(|what| format!("round {round}: {what}"))?;
            // The parent's go on.
            let after = writer.write_chunk(b"hello").and_then(|()| writer.commit());
            after.map_err(|failure| format!("round {round}: {failure}"))?;
            let bytes = reader.read_all().map_err(|failure| failure.to_string())?;
            if bytes != operations::kept_bytes() || cache.read("the parent's").ok().as_deref() != Some(b"hello") {
                return Err(format!("round {round}: wrong bytes"));
            }
            cache.delete("the parent's").map_err(|failure| failure.to_string())?;
        }
        Ok(())
    });
}

/// Has a writer while a child is forked, which ends by `exit`. The parent tries what that changed.
fn fork_and_exit(driver: Driver, directory: &Path) {
    let cache = operations::open(directory, driver).unwrap();
    let mut writer = cache.begin_write("1").unwrap();
    writer.write_chunk(b"hello").unwrap();
    // SAFETY: the child ends at once, with the functions that were registered for that.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe { libc::exit(0) };
    }
    say(&wait_for(Pid::from_raw(child)).map_or_else(|what| what, |()| "forked".to_owned()));
    crate::child::listen();
    writer.write_chunk(b" world").unwrap();
    writer.commit().unwrap();
    assert_eq!(cache.read("1").unwrap(), b"hello world");
    let failed = operations::ALL.iter().find(|(_, operation)| operation(&cache) != 0);
    say(failed.map_or("all went well", |(name, _)| name));
}

fn the_child_exits(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut parent = ChildProcess::start("fork and exit", &[driver.name(), text(&directory)]);
    parent.expect("forked")?;
    // Its writer still has the image, for this process and for others.
    let cache = Cache::open(&directory, Settings::new(driver))?;
    assert_eq!(status_of(&cache.begin_write("1")), BEING_CACHED);
    assert!(!cache.queue("1")?);
    let mut other = ChildProcess::start("begin to write", &[driver.name(), text(&directory), "1"]);
    other.expect(&BEING_CACHED.to_string())?;
    other.finish()?;
    // A second handle with changes of its own: SQLite's locks of the parent still hold.
    cache.write("2", b"12345")?;
    cache.read("2")?;
    parent.tell("go on")?;
    parent.expect("all went well")?;
    parent.finish()?;
    assert_eq!(
        cache.list_cached()?.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(),
        ["1", "2", operations::KEPT]
    );
    Ok(())
}
