//! The caches of the stress. One is only written, read and deleted from, so that images live long enough for their hits
//! to matter. The other one is pruned and emptied as well.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_cache::{DriverChoice, Durability, Error, Log, LogLevel, Options};

/// A cache of the stress.
pub struct StressCache {
    pub name: &'static str,
    pub path: PathBuf,
    pub ids: Vec<String>,
    /// The first ids, whose images are never deleted.
    pub steady: usize,
    pub is_pruned: bool,
    /// Errors that a writer may also get: one of the caches is cleaned with stall time 0.
    pub losses: &'static [&'static str],
    pub options: Options,
}

/// What no process may see, written to a file at once, so that it outlives the process.
#[derive(Clone)]
pub struct ViolationLog(Arc<Mutex<File>>);

/// In the warning that a fetch or a tee lost its file to a clean.
const LOSS: &str = "lost its file";

impl ViolationLog {
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Mutex::new(File::create(path).unwrap())))
    }

    pub fn add(&self, violation: &str) {
        self.0.lock().unwrap().write_all(format!("{violation}\n").as_bytes()).unwrap();
    }

    /// Returns the value. An error that is not expected is a violation.
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

    /// A log: a message that nothing in the stress may cause is a violation.
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

/// Both caches, in a directory. One process in four uses durability full.
pub fn stress_caches(
    directory: &Path,
    driver: DriverChoice,
    process: u64,
    violations: &ViolationLog,
) -> [StressCache; 2] {
    let durability = if process.is_multiple_of(4) { Durability::Full } else { Durability::None };
    let options =
        |name, may_lose| Options::new().driver(driver).durability(durability).log(violations.log(name, may_lose));
    let ids = |names: [&str; 3]| names.iter().flat_map(|name| (0..2).map(move |n| format!("{name}-{n}"))).collect();
    [
        StressCache {
            name: "kept",
            path: directory.join("kept/cache"),
            ids: ids(["steady", "deleted", "rare"]),
            steady: 2,
            is_pruned: false,
            losses: &[],
            options: options("kept", false),
        },
        StressCache {
            name: "pruned",
            path: directory.join("pruned/cache"),
            ids: ids(["one", "two", "three"]),
            steady: 0,
            is_pruned: true,
            losses: &["Lost"],
            options: options("pruned", true).max_size(150_000),
        },
    ]
}

/// A clean with this stall time removes every incomplete file.
pub const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
