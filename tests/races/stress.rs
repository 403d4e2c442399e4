//! Four processes of four threads each run random operations on few images. Some are stopped for a while, some are
//! killed and replaced. Then the checkers compare all that was served, and the end state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use image_cache::DriverChoice;
use rustix::process::Signal;

use crate::caches::{ViolationLog, stress_caches};
use crate::common::Scratch;
use crate::end_state::check_end_state;
use crate::history::{self, Operation};
use crate::history_checker::check_history;
use crate::timed_child::TimedChild;
use crate::{driver_name, worker};

const PROCESSES: usize = 4;

const SIGKILL: i32 = Signal::KILL.as_raw();

/// How many violations are printed.
const SHOWN: usize = 20;

struct ProcessGroup<'a> {
    directory: &'a Path,
    driver: DriverChoice,
    children: Vec<(u64, TimedChild)>,
    next: u64,
}

impl ProcessGroup<'_> {
    /// Each child has its own number, a replacement too.
    fn start(&mut self) {
        let (directory, number) = (self.directory.to_str().unwrap(), self.next.to_string());
        let child = TimedChild::start(&["stress", directory, driver_name(self.driver), &number]).unwrap();
        self.children.push((self.next, child));
        self.next += 1;
    }

    /// Replaces the children that killed themselves at a random point. Returns how many there were.
    fn replace_ended(&mut self, killed: &mut BTreeSet<u64>) -> u64 {
        let mut self_killed = 0;
        for (number, mut child) in std::mem::take(&mut self.children) {
            match child.has_ended() {
                None => self.children.push((number, child)),
                Some(status) => {
                    assert_eq!(status.signal(), Some(SIGKILL), "child {number} ended by itself: {status}");
                    killed.insert(number);
                    self_killed += 1;
                    self.start();
                }
            }
        }
        self_killed
    }
}

/// Runs for `IMAGE_CACHE_RACE_SECONDS`, 10 by default. `IMAGE_CACHE_RACE_SEED` repeats the random choices, not the
/// scheduler's.
pub fn run(driver: DriverChoice) {
    let from_environment = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = from_environment("IMAGE_CACHE_RACE_SECONDS").unwrap_or(10);
    let seed = from_environment("IMAGE_CACHE_RACE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 20));
    let mut random = Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    for name in ["history", "violations", "kept", "pruned"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let mut group =
        ProcessGroup { directory: directory.path(), driver, children: Vec::new(), next: (seed << 4) & 0xff_ffff };
    (0..PROCESSES).for_each(|_| group.start());

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut killed = BTreeSet::new();
    let (mut stops, mut self_killed) = (0, 0);
    while Instant::now() < end {
        sleep(random.u64(20..300));
        self_killed += group.replace_ended(&mut killed);
        let chosen = random.usize(..PROCESSES);
        group.children[chosen].1.signal(Signal::STOP);
        stops += 1;
        sleep(random.u64(0..30));
        if random.bool() {
            let (number, child) = group.children.swap_remove(chosen);
            child.kill();
            killed.insert(number);
            group.start();
        } else {
            group.children[chosen].1.signal(Signal::CONT);
        }
    }
    // The last child is killed when no other one is left to recover.
    let (last, last_child) = group.children.swap_remove(random.usize(..PROCESSES));
    group.children.iter_mut().for_each(|(_, child)| child.request_end());
    let mut violations = Vec::new();
    for (number, child) in group.children {
        match child.finish() {
            Ok(status) if status.success() => {}
            Ok(status) if status.signal() == Some(SIGKILL) => {
                killed.insert(number);
                self_killed += 1;
            }
            Ok(status) => violations.push(format!("child {number}: {status}")),
            Err(hangs) => violations.push(format!("child {number}: {hangs}")),
        }
    }
    last_child.kill();
    killed.insert(last);
    for file in fs::read_dir(directory.path().join("violations")).unwrap() {
        violations.extend(fs::read_to_string(file.unwrap().path()).unwrap().lines().map(str::to_owned));
    }

    let history = history::read_all(&directory.path().join("history"));
    violations.extend(check_history(&history));
    println!(
        "swept: {} stress, seed {seed}: {seconds} s, {} processes of {} threads, {} kills, {self_killed} of them within a thread's operation, {stops} stops",
        driver_name(driver),
        PROCESSES + killed.len(),
        worker::THREADS,
        killed.len(),
    );
    println!("  {}", summary(&history));
    for target in
        stress_caches(directory.path(), driver, 1, &ViolationLog::new(&directory.path().join("violations/parent")))
    {
        let scratch = Scratch::at(target.path, driver);
        let (more, end_state) = check_end_state(target.name, &scratch, &target.ids, &history, &killed);
        violations.extend(more);
        println!("  {}: {end_state:?}", target.name);
    }
    let count = violations.len();
    violations.truncate(SHOWN);
    assert_eq!(count, 0, "seed {seed}: {count} violations, among them:\n{}", violations.join("\n"));
}

/// Lets the children run. A sleep is right here: any moment is.
fn sleep(milliseconds: u64) {
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
