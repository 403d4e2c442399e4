//! Four processes of four threads each do random operations on few images; some are stopped for a while, some are killed and
//! replaced. In the end the judge looks at all that was served and at what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use image_cache::DriverChoice;
use rustix::process::Signal;

use crate::common::Scratch;
use crate::history::{self, Operation};
use crate::judge::judge_history;
use crate::remains::judge_remains;
use crate::site::{Complaints, sites};
use crate::watched::Watched;
use crate::{driver_name, worker};

const PROCESSES: usize = 4;

const SIGKILL: i32 = Signal::KILL.as_raw();

/// How many complaints are shown.
const SHOWN: usize = 20;

struct Herd<'a> {
    folder: &'a Path,
    driver: DriverChoice,
    children: Vec<(u64, Watched)>,
    next: u64,
}

impl Herd<'_> {
    /// Each has a number of its own, that of the one it replaces among them.
    fn start(&mut self) {
        let (folder, number) = (self.folder.to_str().unwrap(), self.next.to_string());
        let child = Watched::start(&["stress", folder, driver_name(self.driver), &number]).unwrap();
        self.children.push((self.next, child));
        self.next += 1;
    }

    /// Those that were killed at a point of their own; how many there were.
    fn replace_the_doomed(&mut self, killed: &mut BTreeSet<u64>) -> u64 {
        let mut doomed = 0;
        for (number, mut child) in std::mem::take(&mut self.children) {
            match child.has_ended() {
                None => self.children.push((number, child)),
                Some(status) => {
                    assert_eq!(status.signal(), Some(SIGKILL), "child {number} ended by itself: {status}");
                    killed.insert(number);
                    doomed += 1;
                    self.start();
                }
            }
        }
        doomed
    }
}

/// Runs for as many seconds as `IMAGE_CACHE_RACE_SECONDS` says, or a few. `IMAGE_CACHE_RACE_SEED` repeats the choices of a
/// run, though not what the scheduler makes of them.
pub fn run(driver: DriverChoice) {
    let from_environment = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = from_environment("IMAGE_CACHE_RACE_SECONDS").unwrap_or(10);
    let seed = from_environment("IMAGE_CACHE_RACE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 20));
    let mut random = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    for name in ["history", "complaints", "kept", "pruned"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let mut herd = Herd { folder: folder.path(), driver, children: Vec::new(), next: (seed << 4) & 0xff_ffff };
    (0..PROCESSES).for_each(|_| herd.start());

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut killed = BTreeSet::new();
    let (mut stops, mut doomed) = (0, 0);
    while Instant::now() < end {
        pass_time(random.u64(20..300));
        doomed += herd.replace_the_doomed(&mut killed);
        let chosen = random.usize(..PROCESSES);
        herd.children[chosen].1.signal(Signal::STOP);
        stops += 1;
        pass_time(random.u64(0..30));
        if random.bool() {
            let (number, child) = herd.children.swap_remove(chosen);
            child.kill();
            killed.insert(number);
            herd.start();
        } else {
            herd.children[chosen].1.signal(Signal::CONT);
        }
    }
    // The last one is killed when nobody is left to clean up after it.
    let (last, last_child) = herd.children.swap_remove(random.usize(..PROCESSES));
    herd.children.iter_mut().for_each(|(_, child)| child.ask_to_end());
    let mut complaints = Vec::new();
    for (number, child) in herd.children {
        match child.finish() {
            Ok(status) if status.success() => {}
            Ok(status) if status.signal() == Some(SIGKILL) => {
                killed.insert(number);
                doomed += 1;
            }
            Ok(status) => complaints.push(format!("child {number}: {status}")),
            Err(hangs) => complaints.push(format!("child {number}: {hangs}")),
        }
    }
    last_child.kill();
    killed.insert(last);
    for file in fs::read_dir(folder.path().join("complaints")).unwrap() {
        complaints.extend(fs::read_to_string(file.unwrap().path()).unwrap().lines().map(str::to_owned));
    }

    let history = history::read_all(&folder.path().join("history"));
    complaints.extend(judge_history(&history));
    println!(
        "swept: {} stress, seed {seed}: {seconds} s, {} processes of {} threads, {} kills, {doomed} of them in the midst of a thread's operation, {stops} stops",
        driver_name(driver),
        PROCESSES + killed.len(),
        worker::THREADS,
        killed.len(),
    );
    println!("  {}", summary(&history));
    for site in sites(folder.path(), driver, 1, &Complaints::new(&folder.path().join("complaints/parent"))) {
        let scratch = Scratch::at(site.path, driver);
        let (more, remains) = judge_remains(site.name, &scratch, &site.ids, &history, &killed);
        complaints.extend(more);
        println!("  {}: {remains:?}", site.name);
    }
    let count = complaints.len();
    complaints.truncate(SHOWN);
    assert_eq!(count, 0, "seed {seed}: {count} complaints, among them:\n{}", complaints.join("\n"));
}

/// How long the children are left alone is left to chance; any moment is right.
fn pass_time(milliseconds: u64) {
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(milliseconds));
}

fn summary(history: &[Operation]) -> String {
    let mut by_action: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for operation in history {
        let (all, succeeded) = by_action.entry(&operation.action).or_default();
        *all += 1;
        *succeeded += u64::from(operation.succeeded);
    }
    let verified: u64 =
        history.iter().filter(|operation| operation.action == "read").map(|operation| operation.count).sum();
    let actions: Vec<_> =
        by_action.iter().map(|(action, (all, succeeded))| format!("{action} {succeeded}/{all}")).collect();
    format!("{} operations, {verified} served bytes verified; succeeded of all: {}", history.len(), actions.join(", "))
}
