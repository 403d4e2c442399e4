//! A child process of the random roles: threads that act until the standard input ends, or the process is killed.
//!
//! At the line `pause` each thread ends what it has open, and waits. The process then compares its descriptors and threads with those
//! before the first open of the cache, and reports. At the next line it goes on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

use image_cache::{DriverChoice, Durability, ImageCache, Options};

use crate::images::images;
use crate::reports::{Doing, Ends, Violations};
use crate::resources;
use crate::worker::Worker;

pub const THREADS: usize = 3;

/// The handles of a process, each with its own rooms.
const HANDLES: usize = 2;

/// Descriptors of an idle handle: directories, lock files, and the SQLite driver's files, of which it opens some later.
const DESCRIPTORS_OF_A_HANDLE: usize = 24;

/// A process that its parent forgot, or that the machine suspended, ends by itself.
const LONGEST_LIFE: u32 = 3 * 3600;

pub struct Process {
    pub handles: RwLock<Vec<ImageCache>>,
    pub violations: Violations,
    pub doing: Doing,
    pub ends: Ends,
    gate: Gate,
    directory: PathBuf,
    options: Options,
}

/// What the threads wait at between two actions.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    is_over: bool,
    waiting: usize,
}

/// Half of the images fit.
pub fn options(driver: DriverChoice, is_durable: bool) -> Options {
    let all: u64 = images().iter().map(|image| image.size).sum();
    let durability = if is_durable { Durability::Full } else { Durability::None };
    Options::new().driver(driver).durability(durability).max_size(all / 2)
}

/// Runs the process with this number. Every number has other random choices.
pub fn run(directory: &Path, driver: DriverChoice, number: u64) {
    // SAFETY: the call takes a number.
    unsafe { nix::libc::alarm(LONGEST_LIFE) };
    let violations = Violations::new(&directory.join(format!("violations/{number}")));
    let options = options(driver, number % 8 == 5).log(violations.log());
    let process = Arc::new(Process {
        handles: RwLock::default(),
        doing: Doing::create(&directory.join(format!("doing/{number}"))),
        ends: Ends::open(&directory.join("ends")),
        gate: Gate::default(),
        directory: directory.join("cache"),
        options,
        violations,
    });
    let before = resources::descriptors();
    process.open();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let process = Arc::clone(&process);
            std::thread::spawn(move || {
                let mut worker = Worker::new(&process, thread, number * 16 + thread as u64);
                while process.gate.pass(&mut worker) {
                    worker.act();
                }
            })
        })
        .collect();
    for line in io::stdin().lines() {
        if line.unwrap() == "pause" {
            process.gate.close();
            println!("{}", process.report(&before));
        } else {
            process.gate.open();
        }
    }
    // The parent closes it, or has died.
    process.gate.end();
    for thread in threads {
        thread.join().unwrap();
    }
    process.handles.write().unwrap().clear();
}

impl Process {
    fn open(&self) {
        let mut handles = self.handles.write().unwrap();
        while handles.len() < HANDLES {
            let opened = ImageCache::open(&self.directory, self.options.clone());
            let Some(cache) = self.violations.expect("open", opened, |_| false) else { break };
            handles.push(cache);
        }
    }

    /// Nothing is open except the handles. Closes and opens those, too. Returns the descriptors with and without handles, and the memory.
    fn report(&self, before: &[String]) -> String {
        let open = resources::descriptors();
        if open.len() > before.len() + HANDLES * DESCRIPTORS_OF_A_HANDLE {
            self.violations.add(&format!("idle handles have {} descriptors: {open:#?}", open.len()));
        }
        let streams = open.iter().filter(|line| line.contains("/incomplete/") || line.contains("/streams/")).count();
        if streams > 0 {
            self.violations.add(&format!("{streams} descriptors of streams are open without a stream: {open:#?}"));
        }
        self.handles.write().unwrap().clear();
        let closed = resources::descriptors();
        if closed != before {
            self.violations
                .add(&format!("descriptors are left after the close: {closed:#?}, before the open: {before:#?}"));
        }
        let threads = resources::threads();
        if threads != THREADS + 1 {
            self.violations.add(&format!("{threads} threads are left, {} are this test's", THREADS + 1));
        }
        let memory = resources::memory();
        self.open();
        format!("{} {} {memory}", open.len(), closed.len())
    }
}

impl Gate {
    /// Between two actions. Waits while the gate is closed, with nothing open. False when the thread is to end.
    fn pass(&self, worker: &mut Worker<'_>) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.is_closed || state.is_over {
            drop(state);
            worker.close_all();
            state = self.state.lock().unwrap();
            state.waiting += 1;
            self.changed.notify_all();
            while state.is_closed && !state.is_over {
                state = self.changed.wait(state).unwrap();
            }
            state.waiting -= 1;
        }
        !state.is_over
    }

    /// Returns when all threads wait.
    fn close(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_closed = true;
        while state.waiting < THREADS {
            state = self.changed.wait_timeout(state, Duration::from_secs(1)).unwrap().0;
        }
    }

    fn open(&self) {
        self.state.lock().unwrap().is_closed = false;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().unwrap().is_over = true;
        self.changed.notify_all();
    }
}
