//! Schedules of several processes, which run one step at a time on command.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use image_cache::DriverChoice;
use rustix::process::{Signal, WaitOptions, waitpid};
use tempfile::TempDir;

use crate::child::ChildProcess;

const PROCESSES: usize = 4;
const UNLIMITED: u64 = 1 << 40;

/// A directory with a cache in it, for processes that open it.
struct Setup {
    directory: TempDir,
    driver: DriverChoice,
}

impl Setup {
    fn new(driver: DriverChoice) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), driver }
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn children<const N: usize>(&self, max_size: u64) -> [ChildProcess; N] {
        std::array::from_fn(|_| {
            let mut child = ChildProcess::new(self.directory.path(), self.driver);
            assert_eq!(child.call(&open(&self.cache(), max_size)), "ok");
            child
        })
    }

    /// No child process logged a violation.
    fn assert_quiet(&self) {
        for entry in fs::read_dir(self.directory.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with("violations") {
                assert_eq!(fs::read_to_string(entry.path()).unwrap(), "");
            }
        }
    }
}

fn open(directory: &Path, max_size: u64) -> String {
    format!("open {} {max_size}", directory.display())
}

/// Sends all the same command at once, and returns their replies.
fn together(children: &mut [ChildProcess], command: &str) -> Vec<String> {
    for child in &mut *children {
        child.send(command);
    }
    children.iter().map(ChildProcess::reply).collect()
}

fn sum(replies: &[String]) -> u64 {
    replies.iter().map(|reply| reply.parse::<u64>().unwrap()).sum()
}

pub fn one_writer_among_all_processes(driver: DriverChoice) {
    const ROUNDS: usize = 30;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(UNLIMITED);
    for round in 0..ROUNDS {
        let replies = together(&mut children, &format!("begin {round}"));
        let writers: Vec<_> = (0..PROCESSES).filter(|number| replies[*number] == "ok").collect();
        assert_eq!(writers.len(), 1, "{replies:?}");
        assert_eq!(replies.iter().filter(|reply| *reply == "BeingCached").count(), PROCESSES - 1, "{replies:?}");
        let writer = &mut children[writers[0]];
        assert_eq!(writer.call(&format!("write {round} text")), "ok");
        assert_eq!(writer.call(&format!("commit {round}")), "ok");
        assert!(together(&mut children, &format!("begin {round}")).iter().all(|reply| reply == "AlreadyCached"));
    }
    assert_eq!(children[0].call("size"), (4 * ROUNDS).to_string());
    setup.assert_quiet();
}

pub fn a_stopped_writer_blocks_its_own_image_only(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut stopped, mut other] = setup.children(UNLIMITED);
    assert_eq!(stopped.call("begin taken"), "ok");
    assert_eq!(stopped.call("write taken by-the-stopped"), "ok");
    stopped.process().signal(Signal::STOP);
    assert_eq!(other.call("begin taken"), "BeingCached");
    assert_eq!(other.call("cache free text"), "ok");
    assert_eq!(other.call("read free"), "text");
    assert_eq!(other.call("size"), "4");
    stopped.process().signal(Signal::CONT);
    assert_eq!(stopped.call("commit taken"), "ok");
    assert_eq!(other.call("read taken"), "by-the-stopped");
    setup.assert_quiet();
}

pub fn a_killed_writer_blocks_no_one(driver: DriverChoice) {
    const ROUNDS: usize = 10;
    let setup = Setup::new(driver);
    let [mut survivor] = setup.children(UNLIMITED);
    for round in 0..ROUNDS {
        let [mut victim] = setup.children(UNLIMITED);
        assert_eq!(victim.call(&format!("begin {round}")), "ok");
        assert_eq!(victim.call(&format!("write {round} half")), "ok");
        assert_eq!(survivor.call(&format!("begin {round}")), "BeingCached");
        victim.kill();
        assert_eq!(survivor.call(&format!("read {round}")), "NotFound");
        assert_eq!(survivor.call(&format!("cache {round} whole")), "ok");
        assert_eq!(survivor.call(&format!("read {round}")), "whole");
    }
    assert_eq!(survivor.call("clean"), "0");
    assert_eq!(survivor.call("size"), (5 * ROUNDS).to_string());
    setup.assert_quiet();
}

pub fn a_reader_keeps_its_bytes(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut reader, mut replacer, mut third] = setup.children(UNLIMITED);
    assert_eq!(replacer.call("cache 1 old"), "ok");
    assert_eq!(reader.call("open_for_read 1"), "ok");
    assert_eq!(replacer.call("delete 1"), "ok");
    assert_eq!(third.call("read 1"), "NotFound");
    assert_eq!(replacer.call("cache 1 new"), "ok");
    assert_eq!(third.call("read 1"), "new");
    assert_eq!(reader.call("rest 1"), "old");
    assert_eq!(third.call("hits 1"), "1");
    setup.assert_quiet();
}

pub fn all_processes_share_one_access_order(driver: DriverChoice) {
    const IMAGES: usize = 10;
    const LEFT: usize = 4;
    const USES: usize = 60;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(LEFT as u64);
    let mut order: VecDeque<_> = (0..IMAGES).collect();
    for image in 0..IMAGES {
        assert_eq!(children[image % PROCESSES].call(&format!("cache {image} x")), "ok");
    }
    for _ in 0..USES {
        let image = fastrand::usize(..IMAGES);
        assert_eq!(children[fastrand::usize(..PROCESSES)].call(&format!("read {image}")), "x");
        order.retain(|other| *other != image);
        order.push_back(image);
    }
    assert_eq!(children[0].call("prune"), (IMAGES - LEFT).to_string());
    let mut left: Vec<_> = order.into_iter().skip(IMAGES - LEFT).map(|image| image.to_string()).collect();
    left.sort();
    assert_eq!(children[1].call("list"), left.join(" "));
    setup.assert_quiet();
}

pub fn all_may_be_the_first_to_open(driver: DriverChoice) {
    const ROUNDS: usize = 20;
    let setup = Setup::new(driver);
    let mut children: [_; PROCESSES] = std::array::from_fn(|_| ChildProcess::new(setup.directory.path(), driver));
    for round in 0..ROUNDS {
        let cache = setup.directory.path().join(format!("cache-{round}"));
        assert!(together(&mut children, &open(&cache, UNLIMITED)).iter().all(|reply| reply == "ok"));
        children.iter_mut().enumerate().for_each(|(number, child)| child.send(&format!("cache {number} text")));
        assert!(children.iter().all(|child| child.reply() == "ok"));
        assert!(together(&mut children, "size").iter().all(|reply| *reply == (4 * PROCESSES).to_string()));
        // Any of them may be the last to close, too.
        assert!(together(&mut children, "close").iter().all(|reply| reply == "ok"));
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
            assert_eq!(children[image % PROCESSES].call(&format!("queue {round}-{image}")), "true");
        }
        assert_eq!(sum(&together(&mut children, "prefetch")), IMAGES as u64);
        assert_eq!(children[0].call(&format!("read {round}-0")), format!("{round}-0"));
    }
    setup.assert_quiet();
}

pub fn prunes_of_several_processes_evict_the_excess(driver: DriverChoice) {
    const ROUNDS: usize = 3;
    const IMAGES: u64 = 300;
    let setup = Setup::new(driver);
    let mut children = setup.children::<PROCESSES>(IMAGES / 2);
    for round in 0..ROUNDS {
        let mut number = 0;
        while children[0].call("size") != IMAGES.to_string() {
            assert_eq!(children[0].call(&format!("cache {round}-{number} x")), "ok");
            number += 1;
        }
        assert_eq!(sum(&together(&mut children, "prune")), IMAGES / 2);
        assert_eq!(children[1].call("size"), (IMAGES / 2).to_string());
    }
    setup.assert_quiet();
}

/// A process is stopped at each point of an operation. Others may wait for it, and none fails.
pub fn a_process_that_is_stopped_anywhere_makes_no_other_fail(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut stopped, mut other] = setup.children(8);
    let (mut stops, mut waits) = (0, 0);
    for operation in ["cache new text", "read old", "delete old", "prune", "size", "list", "clean", "prefetch"] {
        for point in 0.. {
            for command in
                ["delete new", "delete old", "delete others", "cache old text", "queue queued", "delete queued"]
            {
                other.call(command);
            }
            stopped.send(&format!("stop-at {point} {operation}"));
            if !is_stopped(&stopped) {
                let reply = stopped.reply();
                assert!(reply.starts_with("after"), "{reply}");
                break;
            }
            stops += 1;
            let mut has_waited = false;
            for command in ["cache others text", "read others", "size", "delete others"] {
                other.send(command);
                let reply = other.reply_unless_blocked().unwrap_or_else(|| {
                    has_waited = true;
                    stopped.process().signal(Signal::CONT);
                    other.reply()
                });
                let is_right = match command {
                    // A prune that goes on evicts the image.
                    "read others" => reply == "text" || operation == "prune" && reply == "NotFound",
                    "size" => reply.parse::<u64>().is_ok(),
                    _ => reply == "ok",
                };
                assert!(is_right, "{command}, with another at point {point} of {operation}: {reply}");
            }
            waits += u64::from(has_waited);
            stopped.process().signal(Signal::CONT);
            let reply = stopped.reply();
            let is_right = match operation {
                "read old" => reply == "text",
                "size" | "prune" | "clean" | "prefetch" => reply.parse::<u64>().is_ok(),
                "list" => reply.contains("old"),
                _ => reply == "ok",
            };
            assert!(is_right, "{operation}, stopped at point {point}: {reply}");
        }
    }
    println!("swept: {driver:?}: {stops} stops, for {waits} of which another process had to wait");
    setup.assert_quiet();
}

/// A process is killed at each point of an operation. Then listing, files and size agree for the others, and each image
/// can be written at once.
pub fn a_process_that_is_killed_anywhere_leaves_exact_totals(driver: DriverChoice) {
    let setup = Setup::new(driver);
    let [mut survivor] = setup.children(8);
    let mut kills = 0;
    for operation in ["cache new text", "commit begun", "read old", "delete old", "prune", "clean", "prefetch", "close"]
    {
        for point in 0.. {
            for image in ["new", "begun", "old", "older", "queued"] {
                survivor.call(&format!("delete {image}"));
            }
            for command in ["cache older some", "cache old text", "queue queued"] {
                survivor.call(command);
            }
            let [mut victim] = setup.children(8);
            if operation == "commit begun" {
                assert_eq!(victim.call("begin begun"), "ok");
                assert_eq!(victim.call("write begun text"), "ok");
            }
            victim.send(&format!("stop-at {point} {operation}"));
            let was_stopped = is_stopped(&victim);
            victim.kill();
            if !was_stopped {
                break;
            }
            kills += 1;
            let files = crate::common::files(&setup.cache());
            let place = format!("after a kill at point {point} of {operation}");
            assert_eq!(survivor.call("check"), "ok", "{place}");
            for image in ["new", "begun", "old"] {
                let expected = if files.iter().any(|name| name == image) { "AlreadyCached" } else { "ok" };
                assert_eq!(survivor.call(&format!("cache {image} text")), expected, "{image} {place}");
                assert_eq!(survivor.call(&format!("read {image}")), "text", "{image} {place}");
            }
        }
    }
    println!("swept: {driver:?}: {kills} kills, each at another point");
    setup.assert_quiet();
}

/// Waits until the process stops, or replies without having reached the point.
fn is_stopped(child: &ChildProcess) -> bool {
    loop {
        if child.has_replied() {
            return false;
        }
        let status = waitpid(Some(child.process().id()), WaitOptions::UNTRACED | WaitOptions::NOHANG).unwrap();
        if status.is_some_and(|(_, status)| status.stopped()) {
            return true;
        }
        std::thread::yield_now();
    }
}
