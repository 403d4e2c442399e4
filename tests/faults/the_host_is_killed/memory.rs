//! An allocation fails: `NO_MEMORY`, and the same call can be made again.

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::c::{Cache, Driver, INTERNAL, NO_MEMORY, Settings};
use crate::child::{ChildProcess, say};
use crate::machine::{scratch, text, trials};
use crate::operations;

pub fn trials_of_kind() -> Vec<Trial> {
    [
        trials("the_host_is_killed::no_memory_for_a_chunk", &[], |driver| in_child("chunks without memory", driver)),
        trials("the_host_is_killed::no_memory_for_any_call", &[], |driver| in_child("calls without memory", driver)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("chunks without memory", [driver, directory]) => chunks(Driver::of_name(driver), Path::new(directory)),
        ("calls without memory", [driver, directory]) => calls(Driver::of_name(driver), Path::new(directory)),
        _ => return false,
    }
    true
}

fn in_child(task: &str, driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let mut child = ChildProcess::start(task, &[driver.name(), text(&scratch.path().join("cache"))]);
    let said = child.hear()?;
    if let Some(counts) = said.strip_prefix("all returned: ") {
        println!("swept: {task}, {}: {counts}", driver.name());
        return child.finish();
    }
    Err(said.into())
}

/// Runs `work` in a process that may get `room` more bytes of address space.
fn with_room<T>(room: u64, work: impl FnOnce() -> T) -> T {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let before = getrlimit(Resource::As);
    setrlimit(Resource::As, Rlimit { current: Some(pages * 4096 + room), ..before }).unwrap();
    let result = work();
    setrlimit(Resource::As, before).unwrap();
    result
}

/// Large blocks go back to the system when they are freed, so that there is no reserve. One arena, not one of 64 MiB a thread.
fn keep_no_reserve() {
    // SAFETY: the calls take numbers.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 0);
        libc::mallopt(libc::M_TOP_PAD, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Whether a large allocation fails, as the library's would.
fn lacks(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    probe.try_reserve_exact(bytes).is_err()
}

/// Chunks of an image with a digest: up to 4 MiB are hashed at once, later ones on a thread, which needs buffers.
fn chunks(driver: Driver, directory: &Path) {
    const CHUNK: usize = 1 << 20;
    keep_no_reserve();
    let cache = Cache::open_without_log(directory, Settings::new(driver)).unwrap();
    let data: Vec<u8> = (0..12 * CHUNK).map(|number| (number / 7 % 251).to_le_bytes()[0]).collect();
    let digest = operations::md5(&data);
    let (mut refused, mut lacked, mut rounds) = (0, 0, 0);
    for first_without_memory in [0, 3, 4, 5, 8] {
        for room in [16 << 10, 64 << 10, 256 << 10, CHUNK as u64, 3 * CHUNK as u64] {
            rounds += 1;
            let id = format!("image {rounds}");
            let mut writer = cache.begin_write(&id).unwrap();
            writer.expect_digest("md5", &digest).unwrap();
            for (number, chunk) in data.chunks(CHUNK).enumerate() {
                let mut written = None;
                if number >= first_without_memory {
                    let outcome = with_room(room, || {
                        lacked += u64::from(lacks(CHUNK));
                        writer.write_chunk(chunk)
                    });
                    refused += u64::from(outcome.is_err());
                    written = Some(outcome);
                }
                // Nothing is lost: with memory, the same call succeeds.
                let written = match written {
                    None => writer.write_chunk(chunk),
                    Some(Err(failure)) if failure.status == NO_MEMORY => writer.write_chunk(chunk),
                    Some(outcome) => outcome,
                };
                if let Err(failure) = written {
                    return say(&format!("chunk {number}: {failure}"));
                }
            }
            if let Err(failure) = writer.commit() {
                return say(&format!("commit: {failure}"));
            }
            if cache.read(&id).unwrap() != data {
                return say("the bytes are wrong");
            }
            cache.delete(&id).unwrap();
        }
    }
    assert!(lacked > 0, "there was no lack of memory");
    say(&format!("all returned: {refused} chunks refused, {lacked} without memory, in {rounds} rounds"));
}

/// Everything, with less and less memory.
fn calls(driver: Driver, directory: &Path) {
    const IMAGES: usize = 1000;
    keep_no_reserve();
    drop(operations::open(directory, driver).unwrap());
    // The log function of these tests needs memory.
    let cache = Cache::open_without_log(directory, Settings::new(driver)).unwrap();
    for number in 0..IMAGES {
        std::fs::write(directory.join(format!("a rather long name of an image, to need memory for it {number}")), b"1")
            .unwrap();
    }
    assert_eq!(cache.list_cached().unwrap().len(), IMAGES + 1);
    let (mut refused, mut calls) = (0, 0);
    for room in [64 << 10, 128 << 10, 512 << 10, 2 << 20] {
        for (name, operation) in operations::ALL {
            let status = with_room(room, || operation(&cache));
            calls += 1;
            refused += u64::from(status == NO_MEMORY);
            if status == INTERNAL {
                return say(&format!("{name}: INTERNAL"));
            }
        }
        with_room(room, || drop(Cache::open_without_log(directory, Settings::new(driver))));
    }
    if let Err(failure) = operations::check_kept(&cache) {
        return say(&format!("afterwards: {failure}"));
    }
    for (name, operation) in operations::ALL {
        let status = operation(&cache);
        if status != 0 {
            return say(&format!("afterwards: {name}: {status}"));
        }
    }
    say(&format!("all returned: {refused} of {calls} calls refused"));
}
