//! The record of all operations: each thread of each process writes a line before an operation and one after it. Each
//! line is one write, so the last operations of a killed process are known to have begun.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::content::Version;

/// The point of an operation at which a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Begun,
    /// A reader is open.
    Opened,
    /// A reader has read all, and is about to close.
    Closing,
    Outlives,
    Ended,
}

/// An operation, as far as the record has it.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    /// The number of the process that performed it.
    pub process: u64,
    /// One of `commit`, `read`, `delete`, `prune`, `delete_all`, `query_hits`, or an action that is only counted.
    pub action: String,
    /// The cache and the image.
    pub image: String,
    /// The version of a commit or a read.
    pub version: Option<Version>,
    pub begun: u64,
    pub opened: Option<u64>,
    pub closing: bool,
    /// A read whose cache's handle closes before it. It waits for nobody, so its hit may stay unwritten.
    pub outlives: bool,
    /// `None` where its process was killed in it.
    pub ended: Option<u64>,
    pub succeeded: bool,
    /// Bytes or images, depending on the action.
    pub count: u64,
}

/// The record of one thread.
pub struct Recorder {
    file: File,
    next: u64,
}

/// An operation that was begun.
pub struct Begun {
    number: u64,
    action: &'static str,
    image: String,
}

impl Recorder {
    pub fn new(path: &Path) -> Self {
        Self { file: File::create(path).unwrap(), next: 0 }
    }

    pub fn begin(&mut self, action: &'static str, image: &str, version: Option<Version>) -> Begun {
        let begun = Begun { number: self.next, action, image: image.to_owned() };
        self.next += 1;
        self.note(&begun, Phase::Begun, version, true, 0);
        begun
    }

    pub fn opened(&mut self, begun: &Begun) {
        self.note(begun, Phase::Opened, None, true, 0);
    }

    pub fn closing(&mut self, begun: &Begun, version: Version, bytes: usize) {
        self.note(begun, Phase::Closing, Some(version), true, bytes as u64);
    }

    /// The handle of the reader's cache closes before the reader.
    pub fn outlives(&mut self, begun: &Begun) {
        self.note(begun, Phase::Outlives, None, true, 0);
    }

    pub fn end(&mut self, begun: &Begun, version: Option<Version>, succeeded: bool, count: u64) {
        self.note(begun, Phase::Ended, version, succeeded, count);
    }

    fn note(&mut self, begun: &Begun, phase: Phase, version: Option<Version>, succeeded: bool, count: u64) {
        let phase = match phase {
            Phase::Begun => "begun",
            Phase::Opened => "opened",
            Phase::Closing => "closing",
            Phase::Outlives => "outlives",
            Phase::Ended => "ended",
        };
        let Begun { number, action, image } = begun;
        let version = version.map_or(0, |version| version.0);
        let line = format!("{number} {phase} {action} {image} {version} {succeeded} {count} {}\n", now());
        self.file.write_all(line.as_bytes()).unwrap();
    }
}

/// The clock that all processes share, in nanoseconds.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap()
}

/// Reads all records in a directory.
pub fn read_all(directory: &Path) -> Vec<Operation> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of_one_thread = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let (process, _) = name.split_once('-').unwrap();
        operations(process.parse().unwrap(), &fs::read_to_string(&path).unwrap())
    };
    files.flat_map(of_one_thread).collect()
}

fn operations(process: u64, text: &str) -> Vec<Operation> {
    let mut operations: BTreeMap<u64, Operation> = BTreeMap::new();
    // A kill can cut the last line short, where the write crosses a page. The process did nothing after it, so the line
    // is dropped.
    let whole_lines = text.rfind('\n').map_or("", |end| &text[..=end]);
    for line in whole_lines.split_inclusive('\n') {
        let words: Vec<_> = line.split(' ').collect();
        let [number, phase, action, image, version, succeeded, count, time] = words[..] else {
            panic!("a malformed line: {line:?}");
        };
        let time = time.trim_end().parse().unwrap();
        let operation = operations.entry(number.parse().unwrap()).or_default();
        match phase {
            "begun" => {
                operation.process = process;
                action.clone_into(&mut operation.action);
                image.clone_into(&mut operation.image);
                operation.begun = time;
            }
            "opened" => operation.opened = Some(time),
            "closing" => operation.closing = true,
            "outlives" => operation.outlives = true,
            _ => {
                operation.ended = Some(time);
                operation.succeeded = succeeded == "true";
            }
        }
        if version != "0" {
            operation.version = Some(Version(version.parse().unwrap()));
        }
        operation.count = operation.count.max(count.parse().unwrap());
    }
    operations.into_values().collect()
}

/// The clock of the cache's access times, in nanoseconds.
pub fn wall_clock() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap()
}
