//! What the child processes of the random roles write, so that it outlives them: violations, and what each thread is doing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use image_cache::{Error, Log, LogLevel, StreamRole};

/// The room for what one thread is doing, in bytes.
const SLOT: usize = 160;

/// What no process may see, written to a file at once.
#[derive(Clone)]
pub struct Violations(Arc<Mutex<File>>);

impl Violations {
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(File::options().create(true).append(true).open(path).unwrap())))
    }

    pub fn add(&self, violation: &str) {
        self.0.lock().unwrap().write_all(format!("{violation}\n").as_bytes()).unwrap();
    }

    /// Returns the value. Any failure is a violation, except those that are expected.
    pub fn expect<T>(&self, what: &str, result: Result<T, Error>, is_expected: impl Fn(&Error) -> bool) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !is_expected(&error) {
                    self.add(&format!("{what}: {error}"));
                }
                None
            }
        }
    }

    /// A log. Errors are of calls that cannot return one: nothing here causes any.
    pub fn log(&self) -> Log {
        let violations = self.clone();
        Log::new(move |level, message| {
            if level == LogLevel::Error {
                violations.add(&format!("logged as an error: {message}"));
            }
        })
    }
}

/// What each thread of one process is doing, and the how manieth action that is.
pub struct Doing(File);

impl Doing {
    pub fn create(path: &Path) -> Self {
        Self(File::create(path).unwrap())
    }

    pub fn note(&self, thread: usize, number: u64, action: &str) {
        let mut line = format!("{number} {action}");
        line.truncate(SLOT);
        self.0.write_all_at(format!("{line:SLOT$}").as_bytes(), (thread * SLOT) as u64).unwrap();
    }

    /// How many actions a line of [`Self::read`] counts.
    pub fn number(line: &str) -> u64 {
        line.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// What the threads noted last.
    pub fn read(path: &Path) -> Vec<String> {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.chunks(SLOT).map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect()
    }
}

/// How streams of all processes ended: one line each.
pub struct Ends(File);

impl Ends {
    pub fn open(path: &Path) -> Self {
        Self(File::options().create(true).append(true).open(path).unwrap())
    }

    pub fn note(&self, role: StreamRole, how: &str) {
        (&self.0).write_all(format!("{role:?} {how}\n").as_bytes()).unwrap();
    }

    /// How many of each kind there were.
    pub fn count(path: &Path) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }
}
