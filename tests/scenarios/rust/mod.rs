//! Runs scenarios over the safe Rust API. `tests/scenarios/README.md` describes their language.

mod cache;
mod disk;
mod files;
mod line;
mod read_write;
mod source;
mod stream;
mod tee;
mod words;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use image_cache::{DriverChoice, ImageCache, Reader, Writer};

pub use disk::{become_able_to_mount, has_user_attributes};

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

/// What a run of one scenario gave.
pub struct Report {
    pub transcript: String,
    pub outcome: Outcome,
    /// Mismatches with the library's messages. They are not part of the transcript.
    pub failures: String,
}

/// Why an operation has no result.
enum Stop {
    BadLine(&'static str),
    Skipped(&'static str),
}

/// An operation's result for the transcript, and a detail for the failure message.
#[derive(Default)]
struct Output {
    result: String,
    detail: String,
}

type OperationResult = Result<Output, Stop>;

struct OpenCache {
    cache: ImageCache,
    log_messages: Arc<AtomicU64>,
}

enum Handle {
    Cache(OpenCache),
    Writer(Writer),
    Reader(Reader),
    Tee(Box<tee::OpenTee>),
    Stream(Box<stream::OpenStream>),
}

/// The state of a running scenario.
struct Scenario {
    driver: DriverChoice,
    /// The scenario's own directory. Its subdirectory `cache` is the cache.
    root: PathBuf,
    handles: BTreeMap<String, Handle>,
    selected: Option<String>,
    fetches: BTreeMap<String, source::Script>,
    in_namespace: bool,
}

/// The driver's name on the command line and in transcripts.
pub fn driver_name(driver: DriverChoice) -> &'static str {
    match driver {
        DriverChoice::Sqlite => "sqlite",
        DriverChoice::Xattr => "xattr",
        DriverChoice::XattrOrSqlite => "xattr_or_sqlite",
    }
}

/// A scenario's name is its file's name without `.scenario`.
pub fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A scenario that runs longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Runs a scenario file.
pub fn run(path: &Path, driver: DriverChoice) -> Report {
    let root = tempfile::Builder::new().prefix("scenario-").tempdir().expect("a temporary directory");
    fs::create_dir(root.path().join("cache")).expect("a directory for the cache");
    let scenario_root = root.path().to_owned();
    let file = path.to_owned();
    let (sender, receiver) = mpsc::channel();
    // A mount namespace belongs to a thread. The scenario's mounts end with its thread.
    thread::spawn(move || sender.send(run_in_thread(scenario_root, &file, driver)));
    receiver.recv_timeout(TIMEOUT).unwrap_or_else(|error| Report {
        transcript: String::new(),
        outcome: Outcome::Failed,
        failures: format!("{}: its thread panicked or timed out: {error}\n", path.display()),
    })
}

fn run_in_thread(root: PathBuf, path: &Path, driver: DriverChoice) -> Report {
    let title = format!("{} ({})", name_of(path), driver_name(driver));
    let transcript = format!("scenario {title}\n");
    let mut report = Report { transcript, outcome: Outcome::Passed, failures: String::new() };
    let mut scenario = Scenario {
        driver,
        root,
        handles: BTreeMap::new(),
        selected: None,
        fetches: BTreeMap::new(),
        in_namespace: false,
    };
    let lines = fs::read_to_string(path).unwrap_or_else(|error| {
        report.outcome = Outcome::Failed;
        report.failures = format!("{}: {error}\n", path.display());
        String::new()
    });
    for (line, number) in lines.lines().zip(1..) {
        if !line.is_empty() && !line.starts_with('#') {
            line::run(&mut scenario, &mut report, path, number, line);
        }
        if matches!(report.outcome, Outcome::Skipped(_)) {
            break;
        }
    }
    scenario.close_everything();

    // Writing to a String cannot fail.
    let _ = match &report.outcome {
        Outcome::Passed => writeln!(report.transcript, "passed {title}\n"),
        Outcome::Failed => writeln!(report.transcript, "FAILED {title}\n"),
        Outcome::Skipped(reason) => writeln!(report.transcript, "SKIPPED {title}: {reason}\n"),
    };
    report
}

impl Scenario {
    /// Resolves a path of the scenario, which is relative to the cache's directory.
    fn path(&self, word: &[u8]) -> PathBuf {
        self.root.join("cache").join(OsStr::from_bytes(word))
    }

    /// The selected cache.
    fn cache(&self) -> Result<&ImageCache, Stop> {
        self.selected_handle().map(|handle| &handle.cache)
    }

    fn selected_handle(&self) -> Result<&OpenCache, Stop> {
        match self.selected.as_ref().and_then(|name| self.handles.get(name)) {
            Some(Handle::Cache(handle)) => Ok(handle),
            _ => Err(Stop::BadLine("no cache is selected")),
        }
    }

    fn writer(&mut self, name: &[u8]) -> Result<&mut Writer, Stop> {
        match self.handles.get_mut(words::text(name)?) {
            Some(Handle::Writer(writer)) => Ok(writer),
            _ => Err(Stop::BadLine("no writer of that name is open")),
        }
    }

    fn reader(&mut self, name: &[u8]) -> Result<&mut Reader, Stop> {
        match self.handles.get_mut(words::text(name)?) {
            Some(Handle::Reader(reader)) => Ok(reader),
            _ => Err(Stop::BadLine("no reader of that name is open")),
        }
    }

    fn tee(&mut self, name: &[u8]) -> Result<&mut tee::OpenTee, Stop> {
        match self.handles.get_mut(words::text(name)?) {
            Some(Handle::Tee(tee)) => Ok(tee),
            _ => Err(Stop::BadLine("no tee of that name is open")),
        }
    }

    fn stream(&mut self, name: &[u8]) -> Result<&mut stream::OpenStream, Stop> {
        match self.handles.get_mut(words::text(name)?) {
            Some(Handle::Stream(stream)) => Ok(stream),
            _ => Err(Stop::BadLine("no stream of that name is open")),
        }
    }

    /// Stores a call's handle under its name, or reports the call's failure.
    fn insert(&mut self, name: String, opened: image_cache::Result<Handle>) -> Output {
        match opened {
            Ok(handle) => {
                self.handles.insert(name, handle);
                Output::ok("")
            }
            Err(error) => Output::failed(&error),
        }
    }

    /// Checks that no open handle has the name.
    fn unused_name(&self, word: &[u8]) -> Result<String, Stop> {
        let name = words::text(word)?;
        if self.handles.contains_key(name) {
            return Err(Stop::BadLine("the name is in use"));
        }
        Ok(name.to_owned())
    }

    /// Closes the handles that are still open. Caches come last.
    fn close_everything(&mut self) {
        let handles = std::mem::take(&mut self.handles);
        let (caches, others): (Vec<_>, Vec<_>) =
            handles.into_values().partition(|handle| matches!(handle, Handle::Cache(_)));
        for handle in others {
            if let Handle::Writer(writer) = handle {
                writer.abort("the scenario ended");
            }
        }
        drop(caches);
    }
}

impl Output {
    fn ok(values: &str) -> Self {
        let space = if values.is_empty() { "" } else { " " };
        Self { result: format!("OK{space}{values}"), detail: String::new() }
    }

    fn failed(error: &image_cache::Error) -> Self {
        Self { result: status_of(error).to_owned(), detail: error.to_string() }
    }

    /// The output of a library call. `format` formats its value.
    fn of<T>(outcome: image_cache::Result<T>, format: impl FnOnce(T) -> String) -> Self {
        match outcome {
            Ok(value) => Self::ok(&format(value)),
            Err(error) => Self::failed(&error),
        }
    }

    /// The output of a library call without a value.
    fn status(outcome: image_cache::Result<()>) -> Self {
        Self::of(outcome, |()| String::new())
    }

    /// The output of a system call that the scenario itself made.
    fn system<E: std::fmt::Display>(outcome: Result<(), E>) -> Self {
        match outcome {
            Ok(()) => Self::ok(""),
            Err(error) => Self { result: "FAILED".to_owned(), detail: error.to_string() },
        }
    }

    fn just(result: impl Into<String>) -> Self {
        Self { result: result.into(), detail: String::new() }
    }

    fn with_bytes(mut self, data: &[u8]) -> Self {
        let _ = write!(self.result, " {}", words::fingerprint(data)); // writing to a String cannot fail
        self
    }
}

/// The name of the error's C status, without `IMAGE_CACHE_ERROR_`.
fn status_of(error: &image_cache::Error) -> &'static str {
    use image_cache::Error;
    match error {
        Error::InvalidArgument(_) => "INVALID_ARGUMENT",
        Error::InvalidImageId { .. } => "INVALID_IMAGE_ID",
        Error::NotFound { .. } => "NOT_FOUND",
        Error::AlreadyCached(_) => "ALREADY_CACHED",
        Error::BeingCached(_) => "BEING_CACHED",
        Error::DigestMismatch { .. } => "DIGEST_MISMATCH",
        Error::SizeMismatch { .. } | Error::Empty(_) => "SIZE_MISMATCH",
        error if error.is_no_space() => "NO_SPACE",
        Error::System { .. } | Error::MissingParent { .. } | Error::Damaged { .. } => "IO",
        Error::Refused { .. } => "REFUSED",
        Error::Pinned { .. } => "PINNED",
        Error::NoMemory { .. } => "NO_MEMORY",
        Error::TimedOut { .. } => "TIMED_OUT",
        Error::Index { .. } => "INDEX",
        Error::Unsupported(_) => "UNSUPPORTED",
        Error::Lost { .. } => "LOST",
        Error::Source { .. } => "SOURCE",
        Error::Forked { .. } => "FORKED",
        _ => "INTERNAL",
    }
}
