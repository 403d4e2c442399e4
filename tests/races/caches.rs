//! The caches that the stress works on: one that is only written, read and deleted from, so that an image stays long enough
//! for its hits to matter, and one that is pruned and emptied as well.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_cache::{DriverChoice, Durability, Error, Log, LogLevel, Options};

/// A cache in the stress.
pub struct StressCache {
    pub name: &'static str,
    pub path: PathBuf,
    pub ids: Vec<String>,
    /// Images of these names are never deleted.
    pub steady: usize,
    pub is_pruned: bool,
    /// What a writer may fail with, beside what it asked for: only in one of the caches somebody cleans at once.
    pub losses: &'static [&'static str],
    pub options: Options,
}

/// What no process may see, written down at once, so that it outlives the process.
#[derive(Clone)]
pub struct ViolationLog(Arc<Mutex<File>>);

/// The message of a warning that a fetch or a tee lost its file to a clean.
const LOSS: &str = "lost its file";

impl ViolationLog {
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(File::create(path).unwrap())))
    }

    pub fn add(&self, violation: &str) {
        self.0.lock().unwrap().write_all(format!("{violation}\n").as_bytes()).unwrap();
    }

    /// Takes the value, or what the failure is called; a failure that is not among the expected ones is complained of.
    pub fn expect<T>(&self, what: &str, result: Result<T, Error>, expected: &[&str]) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !expected.contains(&name_of(&error).as_str()) {
                    self.add(&format!("{what}: {error:?}"));
                }
                None
            }
        }
    }

    /// A log that complains of messages that nothing here may cause.
    pub fn log(&self, name: &'static str, may_lose: bool) -> Log {
        let violations = self.clone();
        Log::new(move |level, message| {
            let matters = matches!(level, LogLevel::Error | LogLevel::Warning);
            if matters && !(may_lose && message.contains(LOSS)) {
                violations.add(&format!("{name} logged as {level:?}: {message}"));
            }
        })
    }
}

/// The error's kind.
pub fn name_of(error: &Error) -> String {
    let text = format!("{error:?}");
    text.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// Both caches, in a folder. One process in four waits for the disk.
pub fn stress_caches(folder: &Path, driver: DriverChoice, process: u64, violations: &ViolationLog) -> [StressCache; 2] {
    let durability = if process.is_multiple_of(4) { Durability::Full } else { Durability::None };
    let options =
        |name, may_lose| Options::new().driver(driver).durability(durability).log(violations.log(name, may_lose));
    let ids = |names: [&str; 3]| names.iter().flat_map(|name| (0..2).map(move |n| format!("{name}-{n}"))).collect();
    [
        StressCache {
            name: "kept",
            path: folder.join("kept/cache"),
            ids: ids(["steady", "deleted", "rare"]),
            steady: 2,
            is_pruned: false,
            losses: &[],
            options: options("kept", false),
        },
        StressCache {
            name: "pruned",
            path: folder.join("pruned/cache"),
            ids: ids(["one", "two", "three"]),
            steady: 0,
            is_pruned: true,
            losses: &["Lost"],
            options: options("pruned", true).max_size(150_000),
        },
    ]
}

/// A clean takes what nothing was written to for that long.
pub const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
