//! Random roles: processes over one directory do anything that streams can meet, while they are stopped, killed and replaced. At times,
//! and at the end, all of them pause, and what is left is checked.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use image_cache::DriverChoice;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::end_state;
use crate::processes::{LONGEST, Process};
use crate::reports::{Doing, Ends};
use crate::{driver_name, from_environment};

const PROCESSES: usize = 8;

/// The first ones are never killed, so that leaks add up in them.
const OLD: usize = 2;

/// How much the memory of an old process may grow after its first pause, in KiB. Its threads have 6 MiB of buffers.
const GROWTH: u64 = 32 << 10;

/// The time between two pauses.
const PAUSE_AFTER: Duration = Duration::from_secs(20);

/// How many violations are printed.
const SHOWN: usize = 30;

struct Member {
    process: Process,
    number: u64,
    /// When it is continued, if it is stopped.
    stopped_until: Option<Instant>,
    /// What its threads do, and since when.
    doing: Vec<(String, Instant)>,
    /// Its memory at each pause, in KiB.
    memory: Vec<u64>,
}

struct Controller {
    directory: TempDir,
    driver: DriverChoice,
    random: Rng,
    members: Vec<Member>,
    next: u64,
    violations: Vec<String>,
    kills: u64,
    stops: u64,
    pauses: u64,
    actions: u64,
    slowest: (Duration, String),
}

/// Runs for `IMAGE_CACHE_ROLES_SECONDS`, 6 by default. `IMAGE_CACHE_ROLES_SEED` repeats the random choices, not the scheduler's.
pub fn run(driver: DriverChoice) {
    let seconds = from_environment("IMAGE_CACHE_ROLES_SECONDS").unwrap_or(6);
    let seed = from_environment("IMAGE_CACHE_ROLES_SEED").unwrap_or_else(|| fastrand::u64(..1 << 20));
    let mut controller = Controller::new(driver, seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut next_pause = Instant::now() + PAUSE_AFTER.min(Duration::from_secs(seconds) / 2);
    while Instant::now() < end && controller.violations.is_empty() {
        controller.disturb();
        if Instant::now() >= next_pause {
            controller.pause();
            next_pause = Instant::now() + PAUSE_AFTER;
        }
    }
    if controller.violations.is_empty() {
        controller.pause();
    }
    controller.finish(seconds, seed);
}

impl Controller {
    fn new(driver: DriverChoice, seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["violations", "doing"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let mut controller = Self {
            directory,
            driver,
            random: Rng::with_seed(seed),
            members: Vec::new(),
            next: seed << 20,
            violations: Vec::new(),
            kills: 0,
            stops: 0,
            pauses: 0,
            actions: 0,
            slowest: (Duration::ZERO, String::new()),
        };
        (0..PROCESSES).for_each(|_| controller.start(PROCESSES));
        controller
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Each process has its own number, a replacement too.
    fn start(&mut self, place: usize) {
        let (directory, number) = (self.directory.path().to_str().unwrap(), self.next.to_string());
        let process = Process::start(&["roles", directory, driver_name(self.driver), &number]);
        let member = Member { process, number: self.next, stopped_until: None, doing: Vec::new(), memory: Vec::new() };
        self.members.insert(place.min(self.members.len()), member);
        self.next += 1;
    }

    /// Kills or stops a process, continues those whose time has come, and checks all.
    fn disturb(&mut self) {
        // A sleep is right here: any moment is.
        thread::sleep(Duration::from_millis(self.random.u64(5..120)));
        let now = Instant::now();
        for member in &mut self.members {
            if member.stopped_until.is_some_and(|until| until <= now) {
                member.resume();
            }
        }
        let chosen = self.random.usize(..PROCESSES);
        match self.random.u32(..10) {
            0..2 if chosen >= OLD => {
                let member = self.members.remove(chosen);
                member.process.kill();
                self.read_violations(member.number);
                for name in ["violations", "doing"] {
                    fs::remove_file(self.path(&format!("{name}/{}", member.number))).unwrap_or_default();
                }
                self.kills += 1;
                self.start(chosen);
            }
            0..9 => {
                // Sometimes, half of them.
                let count = if self.random.u32(..15) == 0 { PROCESSES / 2 } else { 1 };
                for number in 0..count {
                    let member = &mut self.members[(chosen + number) % PROCESSES];
                    member.process.signal(Signal::STOP);
                    member.stopped_until = Some(now + Duration::from_millis(self.random.u64(5..900)));
                    self.stops += 1;
                }
            }
            _ => {}
        }
        self.check_members();
    }

    /// No process ends by itself, and no thread does the same for too long.
    fn check_members(&mut self) {
        for member in &mut self.members {
            if let Some(status) = member.process.has_ended() {
                self.violations.push(format!("process {} ended by itself: {status}", member.number));
                assert_eq!(status.signal(), None, "process {} was killed by another program", member.number);
            }
            let doing = Doing::read(&self.directory.path().join(format!("doing/{}", member.number)));
            for (thread, now) in doing.into_iter().enumerate() {
                match member.doing.get_mut(thread) {
                    None => member.doing.push((now, Instant::now())),
                    Some((before, since)) if *before != now => {
                        self.actions += Doing::number(&now).saturating_sub(Doing::number(before));
                        if since.elapsed() > self.slowest.0 {
                            self.slowest = (since.elapsed(), before.clone());
                        }
                        (*before, *since) = (now, Instant::now());
                    }
                    Some((_, since)) if since.elapsed() < LONGEST => {}
                    Some((before, _)) => {
                        let states = member.process.thread_states();
                        self.violations.push(format!("process {} hangs in '{before}':\n{states}", member.number));
                    }
                }
            }
        }
        for place in 0..self.members.len() {
            self.read_violations(self.members[place].number);
        }
    }

    fn read_violations(&mut self, number: u64) {
        // A process that died early has none.
        let text = fs::read_to_string(self.path(&format!("violations/{number}"))).unwrap_or_default();
        self.violations.extend(text.lines().map(|line| format!("process {number}: {line}")));
    }

    /// Has all processes end what they have open, checks what is left, and has them go on.
    fn pause(&mut self) {
        self.pauses += 1;
        for member in &mut self.members {
            member.resume();
            member.process.send("pause");
        }
        let deadline = Instant::now() + LONGEST;
        for (place, member) in self.members.iter_mut().enumerate() {
            let reply = match member.process.reply_until(deadline) {
                Ok(reply) => reply,
                Err(hangs) => {
                    let doing = Doing::read(&self.directory.path().join(format!("doing/{}", member.number)));
                    self.violations.push(format!("{hangs}\nits threads do {doing:?}"));
                    continue;
                }
            };
            let memory = reply.split(' ').nth(2).unwrap().parse().unwrap();
            member.memory.push(memory);
            let first = member.memory[0];
            if place < OLD && memory > first + GROWTH {
                self.violations.push(format!("the memory of process {place} grew from {first} to {memory} KiB"));
            }
        }
        if self.violations.is_empty() {
            self.violations.extend(end_state::check_idle(&self.path("cache"), self.driver).err());
        }
        self.check_members();
        self.members.iter_mut().for_each(|member| member.process.send("go"));
    }

    fn finish(mut self, seconds: u64, seed: u64) {
        let memory: Vec<_> = self.members.iter().take(OLD).map(|member| quarters(&member.memory)).collect();
        for member in std::mem::take(&mut self.members) {
            if !self.violations.is_empty() {
                let doing = Doing::read(&self.path(&format!("doing/{}", member.number)));
                println!("  process {} at the end: {doing:?}", member.number);
                // It is killed. Others are not waited for.
                continue;
            }
            self.violations.extend(member.process.finish().err());
            self.read_violations(member.number);
        }
        if self.violations.is_empty() {
            self.violations.extend(end_state::check_closed(&self.path("cache"), self.driver).err());
        }
        // Each look at the processes reads them again.
        self.violations.sort();
        self.violations.dedup();
        println!(
            "swept: {} roles, seed {seed}: {seconds} s, {PROCESSES} processes, {} kills, {} stops, {} pauses, at least {} actions, {} violations",
            driver_name(self.driver),
            self.kills,
            self.stops,
            self.pauses,
            self.actions,
            self.violations.len(),
        );
        println!(
            "  the slowest action took {:?}: {}; memory of the old processes over the time, in KiB: {memory:?}",
            self.slowest.0, self.slowest.1
        );
        println!("  streams by their last role: {:?}", Ends::count(&self.path("ends")));
        let count = self.violations.len();
        self.violations.truncate(SHOWN);
        assert_eq!(count, 0, "seed {seed}: {count} violations, among them:\n{}", self.violations.join("\n"));
    }
}

/// The first and the last value, and those at the quarters.
fn quarters(values: &[u64]) -> Vec<u64> {
    let last = values.len().saturating_sub(1);
    (0..=4).filter_map(|quarter| values.get(last * quarter / 4)).copied().collect()
}

impl Member {
    fn resume(&mut self) {
        if self.stopped_until.take().is_some() {
            self.process.signal(Signal::CONT);
            // Its threads could not act meanwhile.
            self.doing.clear();
        }
    }
}
