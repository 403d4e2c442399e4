//! A stopped process: readers of other processes wait for nobody. Other calls end at the latest with `TIMED_OUT`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings, TIMED_OUT, status_of};
use crate::child::{ChildProcess, DEADLINE, listen, say};
use crate::machine::{Need, scratch, text, trials};
use crate::operations::{self, Operation};
use crate::tracer::Tracer;

/// What the other process does, and the system call before which it stops, within that.
const POINTS: [(&str, &str); 7] = [
    ("list", "getdents64"),
    ("commit", "renameat2"),
    ("commit", "fsync,fdatasync"),
    ("begin", "openat"),
    ("delete", "unlinkat"),
    ("prune", "unlinkat"),
    ("clean", "unlinkat"),
];

/// How long a call other than a reader's may take.
const MAX_WAIT: Duration = Duration::from_secs(15);

pub fn trials_of_kind() -> Vec<Trial> {
    [
        trials("stopped_process::at_any_moment", &[], at_any_moment),
        trials("stopped_process::at_a_call", &[Need::Tool("strace")], at_each_call),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("set up", [driver, directory]) => set_up(Driver::of_name(driver), Path::new(directory)),
        ("work", [driver, directory]) => work(Driver::of_name(driver), Path::new(directory)),
        ("work once", [driver, directory, what]) => work_once(Driver::of_name(driver), Path::new(directory), what),
        ("read and work", [driver, directory]) => read_and_work(Driver::of_name(driver), Path::new(directory)),
        _ => return false,
    }
    true
}

/// Not in the tests' process: a child that another test forks has its images open until it calls exec, and they are not evicted.
fn set_up(driver: Driver, directory: &Path) {
    let cache = Cache::open(directory, Settings::new(driver)).unwrap();
    cache.write("victim", &vec![1; 50_000]).unwrap();
    // So that the victim is pruned.
    cache.read(operations::KEPT).unwrap();
    fs::write(directory.join("invalid/failed"), b"1").unwrap();
}

/// Changes the cache all the time, until the parent ends.
fn work(driver: Driver, directory: &Path) {
    let cache = operations::open(directory, driver).unwrap();
    say("working");
    let listening = std::thread::spawn(|| while listen().is_some() {});
    while !listening.is_finished() {
        for (_, operation) in operations::ALL {
            operation(&cache);
        }
    }
}

/// Does one thing when the parent says so.
fn work_once(driver: Driver, directory: &Path, what: &str) {
    let cache = Cache::open(directory, Settings::new(driver).durable().max_size(120_000)).unwrap();
    let mut writer = (what == "commit").then(|| cache.begin_write("committed").unwrap());
    if let Some(writer) = &mut writer {
        writer.write_chunk(b"hello").unwrap();
    }
    if what == "list" {
        // The index must be compared with the directory.
        fs::write(directory.join("foreign"), b"1").unwrap();
    }
    say("opened");
    listen().unwrap();
    let status = match what {
        "list" => status_of(&cache.list_cached()),
        "commit" => status_of(&writer.unwrap().commit()),
        "begin" => status_of(&cache.begin_write("begun")),
        "delete" => status_of(&cache.delete("victim")),
        "prune" => status_of(&cache.prune()),
        _ => status_of(&cache.clean(-1)),
    };
    say(&format!("{what}: {status}"));
}

/// The operations of a reader.
const READS: [&str; 3] = ["is_cached", "get_image_size", "open, read, close"];

/// Has the cache open. The parent chooses reads, or everything, each on a thread of its own.
fn read_and_work(driver: Driver, directory: &Path) {
    let cache = operations::open(directory, driver).unwrap();
    say("opened");
    while let Some(what) = listen() {
        let chosen = operations::ALL.iter().filter(|(name, _)| READS.contains(name) == (what == "read"));
        if what == "read" {
            let failed = chosen.map(|(name, operation)| (name, operation(&cache))).find(|(_, status)| *status != 0);
            say(&failed.map_or("read".to_owned(), |(name, status)| format!("{name}: {status}")));
            continue;
        }
        if what == "work" {
            // What the time before left.
            for id in ["written", "hashed", "teed", "imported", "fetched"] {
                cache.delete(id).unwrap();
            }
        }
        // Together they take the time of the slowest, in most cases.
        let statuses = on_threads(&cache, chosen.copied().collect());
        let is_allowed = |status: i32| status == 0 || (what == "work or time out" && status == TIMED_OUT);
        let failed = statuses.iter().find(|(_, status)| !is_allowed(*status));
        say(&failed.map_or("worked".to_owned(), |(name, status)| format!("{name}: {status}")));
    }
}

fn on_threads(cache: &Cache, chosen: Vec<(&'static str, Operation)>) -> Vec<(&'static str, i32)> {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            chosen.into_iter().map(|(name, operation)| scope.spawn(move || (name, operation(cache)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn at_any_moment(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut reader = ChildProcess::start("read and work", &[driver.name(), text(&directory)]);
    reader.expect("opened")?;
    let mut worker = ChildProcess::start("work", &[driver.name(), text(&directory)]);
    worker.expect("working")?;
    for round in 0..100 {
        (0..fastrand::u32(0..1 << 18)).for_each(|_| std::hint::spin_loop());
        assert!(worker.stop(), "the worker ended");
        reader.tell("read")?;
        let said = reader.hear();
        worker.resume();
        let said = said.map_err(|failed| format!("round {round}: {}", failed.message().unwrap_or_default()))?;
        assert_eq!(said, "read");
    }
    worker.finish()?;
    reader.tell("work")?;
    reader.expect("worked")?;
    reader.finish()
}

/// At all points at once: most of the time is waiting.
fn at_each_call(driver: Driver) -> Result<(), Failed> {
    let failures: Vec<_> = std::thread::scope(|scope| {
        let threads = POINTS.map(|(what, call)| (what, call, scope.spawn(move || at_a_call(driver, what, call))));
        let failures = threads.into_iter().filter_map(|(what, call, thread)| {
            let failed = thread.join().unwrap_or_else(|_| Err("it panicked; see above".into())).err()?;
            Some(format!("stopped in {what}, before {call}: {}", failed.message().unwrap_or_default()))
        });
        failures.collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn at_a_call(driver: Driver, what: &str, call: &str) -> Result<(), Failed> {
    assert!(MAX_WAIT < DEADLINE);
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let trace = scratch.path().join("trace");
    let mut reader = ChildProcess::start("read and work", &[driver.name(), text(&directory)]);
    reader.expect("opened")?;
    ChildProcess::start("set up", &[driver.name(), text(&directory)]).finish()?;

    // The signal comes at the first such call that the operation makes, not at one of the open.
    let mut child = ChildProcess::start("work once", &[driver.name(), text(&directory), what]);
    child.expect("opened")?;
    let tracer = Tracer::stop(&mut child, call, 1, None, &trace)?;
    reader.tell("read")?;
    reader.expect("read").map_err(|failed| describe("a reader", &failed))?;
    reader.tell("work or time out")?;
    reader.expect("worked").map_err(|failed| describe("another call", &failed))?;
    child.resume();
    child.expect(&format!("{what}: 0"))?;
    drop(tracer);
    child.finish()?;
    reader.tell("work")?;
    reader.expect("worked").map_err(|failed| describe("afterwards", &failed))?;
    reader.finish()
}

fn describe(who: &str, failed: &Failed) -> String {
    format!("{who}: {}", failed.message().unwrap_or_default())
}
