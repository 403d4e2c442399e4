//! Targeted schedules of several processes, which do one step when they are told to.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use image_cache::DriverChoice;
use rustix::process::{Signal, WaitOptions, waitpid};
use tempfile::TempDir;

use crate::child::ChildProcess;

const PROCESSES: usize = 4;
const UNLIMITED: u64 = 1 << 40;

/// A folder with a cache in it, and processes that have it open.
struct Setup {
    folder: TempDir,
    driver: DriverChoice,
}

impl Setup {
    fn new(driver: DriverChoice) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), driver }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn children<const N: usize>(&self, max_size: u64) -> [ChildProcess; N] {
        std::array::from_fn(|_| {
            let mut child = ChildProcess::new(self.folder.path(), self.driver);
            assert_eq!(child.ask(&open(&self.cache(), max_size)), "ok");
            child
        })
    }

    /// No process's log said anything that it should not.
    fn assert_quiet(&self) {
        for entry in fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("violations") {
                assert_eq!(fs::read_to_string(entry.path()).unwrap(), "");
            }
        }
    }
}

fn open(directory: &Path, max_size: u64) -> String {
    format!("open {} {max_size}", directory.display())
}

/// Tells all to do the same at the same time. What they answered.
fn together(children: &mut [ChildProcess], command: &str) -> Vec<String> {
    for child in &mut *children {
        child.tell(command);
    }
    children.iter().map(ChildProcess::answer).collect()
}

fn sum(answers: &[String]) -> u64 {
    answers.iter().map(|answer| answer.parse::<u64>().unwrap()).sum()
}

pub fn one_writer_among_all_processes(driver: DriverChoice) {
    const ROUNDS: usize = 30;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(UNLIMITED);
    for round in 0..ROUNDS {
        let answers = together(&mut children, &format!("begin {round}"));
        let writers: Vec<_> = (0..PROCESSES).filter(|number| answers[*number] == "ok").collect();
        assert_eq!(writers.len(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| *answer == "BeingCached").count(), PROCESSES - 1, "{answers:?}");
        let writer = &mut children[writers[0]];
        assert_eq!(writer.ask(&format!("write {round} text")), "ok");
        assert_eq!(writer.ask(&format!("commit {round}")), "ok");
        assert!(together(&mut children, &format!("begin {round}")).iter().all(|answer| answer == "AlreadyCached"));
    }
    assert_eq!(children[0].ask("size"), (4 * ROUNDS).to_string());
    setup.assert_quiet();
}

pub fn a_stopped_writer_has_its_own_image_and_no_other(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut stopped, mut other] = setup.children(UNLIMITED);
    assert_eq!(stopped.ask("begin readers"), "ok");
    assert_eq!(stopped.ask("write readers by-the-stopped"), "ok");
    stopped.process().signal(Signal::STOP);
    assert_eq!(other.ask("begin readers"), "BeingCached");
    assert_eq!(other.ask("cache free text"), "ok");
    assert_eq!(other.ask("read free"), "text");
    assert_eq!(other.ask("size"), "4");
    stopped.process().signal(Signal::CONT);
    assert_eq!(stopped.ask("commit readers"), "ok");
    assert_eq!(other.ask("read readers"), "by-the-stopped");
    setup.assert_quiet();
}

pub fn a_killed_writer_blocks_nobody(driver: DriverChoice) {
    const ROUNDS: usize = 10;
    let setup = Setup::new(driver);
    let [mut heir] = setup.children(UNLIMITED);
    for round in 0..ROUNDS {
        let [mut victim] = setup.children(UNLIMITED);
        assert_eq!(victim.ask(&format!("begin {round}")), "ok");
        assert_eq!(victim.ask(&format!("write {round} half")), "ok");
        assert_eq!(heir.ask(&format!("begin {round}")), "BeingCached");
        victim.kill();
        assert_eq!(heir.ask(&format!("read {round}")), "NotFound");
        assert_eq!(heir.ask(&format!("cache {round} whole")), "ok");
        assert_eq!(heir.ask(&format!("read {round}")), "whole");
    }
    assert_eq!(heir.ask("clean"), "0");
    assert_eq!(heir.ask("size"), (5 * ROUNDS).to_string());
    setup.assert_quiet();
}

pub fn a_reader_goes_on_with_its_own_bytes(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut reader, mut replacer, mut third] = setup.children(UNLIMITED);
    assert_eq!(replacer.ask("cache 1 old"), "ok");
    assert_eq!(reader.ask("open_for_read 1"), "ok");
    assert_eq!(replacer.ask("delete 1"), "ok");
    assert_eq!(third.ask("read 1"), "NotFound");
    assert_eq!(replacer.ask("cache 1 anew"), "ok");
    assert_eq!(third.ask("read 1"), "anew");
    assert_eq!(reader.ask("rest 1"), "old");
    assert_eq!(third.ask("hits 1"), "1");
    setup.assert_quiet();
}

pub fn the_order_of_use_is_that_of_all_processes(driver: DriverChoice) {
    const IMAGES: usize = 10;
    const LEFT: usize = 4;
    const USES: usize = 60;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(LEFT as u64);
    let mut order: VecDeque<_> = (0..IMAGES).collect();
    for image in 0..IMAGES {
        assert_eq!(children[image % PROCESSES].ask(&format!("cache {image} x")), "ok");
    }
    for _ in 0..USES {
        let image = fastrand::usize(..IMAGES);
        assert_eq!(children[fastrand::usize(..PROCESSES)].ask(&format!("read {image}")), "x");
        order.retain(|other| *other != image);
        order.push_back(image);
    }
    assert_eq!(children[0].ask("prune"), (IMAGES - LEFT).to_string());
    let mut left: Vec<_> = order.into_iter().skip(IMAGES - LEFT).map(|image| image.to_string()).collect();
    left.sort();
    assert_eq!(children[1].ask("list"), left.join(" "));
    setup.assert_quiet();
}

pub fn all_may_be_the_first_to_open(driver: DriverChoice) {
    const ROUNDS: usize = 20;
    let setup = Setup::new(driver);
    let mut children: [_; PROCESSES] = std::array::from_fn(|_| ChildProcess::new(setup.folder.path(), driver));
    for round in 0..ROUNDS {
        let cache = setup.folder.path().join(format!("cache-{round}"));
        assert!(together(&mut children, &open(&cache, UNLIMITED)).iter().all(|answer| answer == "ok"));
        children.iter_mut().enumerate().for_each(|(number, child)| child.tell(&format!("cache {number} text")));
        assert!(children.iter().all(|child| child.answer() == "ok"));
        assert!(together(&mut children, "size").iter().all(|answer| *answer == (4 * PROCESSES).to_string()));
        // All may be the last to close, as well.
        assert!(together(&mut children, "close").iter().all(|answer| answer == "ok"));
    }
    setup.assert_quiet();
}

pub fn prefetchers_share_the_queue(driver: DriverChoice) {
    const ROUNDS: usize = 10;
    const IMAGES: usize = 12;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(UNLIMITED);
    for round in 0..ROUNDS {
        for image in 0..IMAGES {
            assert_eq!(children[image % PROCESSES].ask(&format!("queue {round}-{image}")), "true");
        }
        assert_eq!(sum(&together(&mut children, "prefetch")), IMAGES as u64);
        assert_eq!(children[0].ask(&format!("read {round}-0")), format!("{round}-0"));
    }
    setup.assert_quiet();
}

pub fn prunes_of_several_processes_evict_what_is_too_much(driver: DriverChoice) {
    const ROUNDS: usize = 3;
    const IMAGES: u64 = 300;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(IMAGES / 2);
    for round in 0..ROUNDS {
        let mut number = 0;
        while children[0].ask("size") != IMAGES.to_string() {
            assert_eq!(children[0].ask(&format!("cache {round}-{number} x")), "ok");
            number += 1;
        }
        assert_eq!(sum(&together(&mut children, "prune")), IMAGES / 2);
        assert_eq!(children[1].ask("size"), (IMAGES / 2).to_string());
    }
    setup.assert_quiet();
}

/// At each point of an operation its process is stopped: others may have to wait, but none fails, and both come to the end.
pub fn a_process_that_is_stopped_anywhere_makes_no_other_fail(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut stopped, mut other] = setup.children(8);
    let (mut stops, mut waits) = (0, 0);
    for operation in ["cache new text", "read old", "delete old", "prune", "size", "list", "clean", "prefetch"] {
        for point in 0.. {
            for command in
                ["delete new", "delete old", "delete others", "cache old text", "queue queued", "delete queued"]
            {
                other.ask(command);
            }
            stopped.tell(&format!("stop-at {point} {operation}"));
            if !is_stopped(&stopped) {
                let answer = stopped.answer();
                assert!(answer.starts_with("after"), "{answer}");
                break;
            }
            stops += 1;
            let mut has_waited = false;
            for command in ["cache others text", "read others", "size", "delete others"] {
                other.tell(command);
                let answer = other.answer_unless_blocked().unwrap_or_else(|| {
                    has_waited = true;
                    stopped.process().signal(Signal::CONT);
                    other.answer()
                });
                let is_right = match command {
                    // A prune that goes on takes what it finds.
                    "read others" => answer == "text" || operation == "prune" && answer == "NotFound",
                    "size" => answer.parse::<u64>().is_ok(),
                    _ => answer == "ok",
                };
                assert!(is_right, "{command}, with another at point {point} of {operation}: {answer}");
            }
            waits += u64::from(has_waited);
            stopped.process().signal(Signal::CONT);
            let answer = stopped.answer();
            let is_right = match operation {
                "read old" => answer == "text",
                "size" | "prune" | "clean" | "prefetch" => answer.parse::<u64>().is_ok(),
                "list" => answer.contains("old"),
                _ => answer == "ok",
            };
            assert!(is_right, "{operation}, stopped at point {point}: {answer}");
        }
    }
    println!("swept: {driver:?}: {stops} stops, for {waits} of which another process had to wait");
    setup.assert_quiet();
}

/// At each point of an operation its process is killed: for those that live, files, list and size are the same, and every image
/// can be written at once.
pub fn a_process_that_is_killed_anywhere_leaves_exact_totals(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut heir] = setup.children(8);
    let mut kills = 0;
    for operation in ["cache new text", "commit begun", "read old", "delete old", "prune", "clean", "prefetch", "close"]
    {
        for point in 0.. {
            for image in ["new", "begun", "old", "older", "queued"] {
                heir.ask(&format!("delete {image}"));
            }
            for command in ["cache older some", "cache old text", "queue queued"] {
                heir.ask(command);
            }
            let [mut victim] = setup.children(8);
            if operation == "commit begun" {
                assert_eq!(victim.ask("begin begun"), "ok");
                assert_eq!(victim.ask("write begun text"), "ok");
            }
            victim.tell(&format!("stop-at {point} {operation}"));
            let was_stopped = is_stopped(&victim);
            victim.kill();
            if !was_stopped {
                break;
            }
            kills += 1;
            let files = crate::common::files(&setup.cache());
            let place = format!("after a kill at point {point} of {operation}");
            assert_eq!(heir.ask("check"), "ok", "{place}");
            for image in ["new", "begun", "old"] {
                let expected = if files.iter().any(|name| name == image) { "AlreadyCached" } else { "ok" };
                assert_eq!(heir.ask(&format!("cache {image} text")), expected, "{image} {place}");
                assert_eq!(heir.ask(&format!("read {image}")), "text", "{image} {place}");
            }
        }
    }
    println!("swept: {driver:?}: {kills} kills, each at another point");
    setup.assert_quiet();
}

/// Waits until it stops, or answers that it did not come to the point. An answer comes without a stop.
fn is_stopped(child: &ChildProcess) -> bool {
    loop {
        if child.has_answered() {
            return false;
        }
        let status = waitpid(Some(child.process().id()), WaitOptions::UNTRACED | WaitOptions::NOHANG).unwrap();
        if status.is_some_and(|(_, status)| status.stopped()) {
            return true;
        }
        std::thread::yield_now();
    }
}
