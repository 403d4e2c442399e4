//! The fault sweep: each call of an operation fails in each way that it can, once and from then on.
//!
//! The operation reports the outcome truly, holds no resource after the close, and works after the fault.
//!
//! `make test-crash` makes all faults. `make test` leaves out those that have an equal:
//!
//! - Without durability, faults of a call that the operation makes with durability full as well, at the same place among
//!   its calls. Calls beside one that the two do not share are swept, and all of an operation on unsynced images: what it left
//!   undone shows in what it does without a sync afterwards.
//! - All faults of streams with the SQLite driver or without durability: they differ in the publish only, which is a commit's.
//! - Of an operation that extends another one ([`extended_by`]), faults of a call that the other one makes as well, at the same
//!   place. Calls beside one that the two do not share are swept, and all that may change files: what they leave undone
//!   differs.
//! - With the xattr driver, in the same way those of a call that the operation makes with SQLite as well.
//! - `EDQUOT`: the library treats it like `ENOSPC` (`Error::is_no_space`), and SQLite like `EIO`.
//! - `ENOLCK`: the library treats it like `EIO`, and SQLite like `EACCES` (`sqliteErrorFromPosixError`).
//! - One signal at a call: three signals in a row begin with it.
//! - Failures from a call on, where the same failures from an earlier call on are made, and no call in between may have changed
//!   files: as for kills, what the operation has done by then is the same. Each of these calls fails once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use image_cache::{DriverChoice, Durability};
use libtest_mimic::{Completion, Failed};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::calls::{self, Kind};
use crate::checks::{CheckResult, INDEX_FILES};
use crate::child::{self, Report};
use crate::configuration::Configuration;
use crate::counters::COUNTERS;
use crate::differences::differing;
use crate::expected::Expected;
use crate::fixture::{Fixture, copy_tree};
use crate::kill::MAX_CALLS;
use crate::operations::{self, Operation, Outcome};
use crate::promises::{Checked, check_all};
use crate::registers::Call;
use crate::state::State;
use crate::streams;
use crate::sweep::{Stop, completed, is_in_full};
use crate::tracer::{Decision, End, Event, trace};
use crate::workspace::Workspace;

/// Bytes that may stay in use beyond the baseline: the standard library allocates some things once.
const ONE_TIME_BYTES: i64 = 1024;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    Error(Errno),
    Short,
}

/// How often it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repetition {
    Once,
    /// Three signals in a row interrupt the same call.
    Thrice,
    /// Every later call that can fail in this way fails, until the operation returns.
    Always,
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    /// The number of the call in the operation.
    at: usize,
    what: FaultKind,
    when: Repetition,
}

/// Sweeps one operation.
pub fn sweep(operation: &Operation, configuration: Configuration) -> Result<Completion, Failed> {
    completed(try_sweep(operation, configuration))
}

fn try_sweep(operation: &Operation, configuration: Configuration) -> Result<(), Stop> {
    let sweep = Sweep::new(operation, configuration)?;
    let (calls, baseline) = sweep.run(None)?;
    // Otherwise the sweep has no failing close to check.
    if operation.name == "commit" && !baseline.closes_before_publishing {
        return Err("the file is not closed before it is published, so that its errors are not reported".into());
    }
    let is_swept = without_equals(operation, configuration, &calls)?;
    let mut violations = Vec::new();
    // Those that were made from a call on, since the last one that may have changed files.
    let mut lasting = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let faults = if is_swept[at] { faults_of(call) } else { Vec::new() };
        for (what, when) in faults {
            if when == Repetition::Always {
                if lasting.contains(&what) && !is_in_full() {
                    continue;
                }
                lasting.push(what);
            }
            let (_, observed) = sweep.run(Some(Fault { at, what, when }))?;
            COUNTERS.faults.add(1);
            if let Err(violation) = sweep.check(&observed, &baseline) {
                let child = format!("{} {}", observed.stdout, observed.stderr).replace('\n', " ");
                let fault = format!("{what:?} {when:?} at call {at}, {}", call.name());
                violations.push(format!("{fault}: {violation}; the child printed: {child}"));
            }
        }
        if calls::may_change_files(call) {
            lasting.clear();
        }
    }
    if violations.is_empty() {
        return Ok(());
    }
    Err(format!("{} violations, among them:\n{}", violations.len(), some_of(&violations)).into())
}

/// For each call of the operation whether its faults are made.
fn without_equals(operation: &Operation, configuration: Configuration, calls: &[Call]) -> Result<Vec<bool>, Stop> {
    let mut is_swept = vec![true; calls.len()];
    if is_in_full() {
        return Ok(is_swept);
    }
    let differing_from = |other, configuration| -> Result<_, Stop> {
        let (others, _) = Sweep::new(other, configuration)?.run(None)?;
        Ok(differing(calls, &others))
    };
    if configuration.durability == Durability::None && operation.fixture != Fixture::Restarted {
        is_swept = differing_from(operation, Configuration { durability: Durability::Full, ..configuration })?;
    }
    let with_sqlite = Configuration { driver: DriverChoice::Sqlite, ..configuration };
    // Streams are swept with the xattr driver only.
    let has_equal = !configuration.is_sqlite() && !operation.is_stream() && operation.is_swept(with_sqlite);
    let equals = [
        extended_by(operation).map(|extended| (extended, configuration)),
        has_equal.then_some((operation, with_sqlite)),
    ];
    for (equal, configuration) in equals.into_iter().flatten() {
        let differs = differing_from(equal, configuration)?;
        for (at, call) in calls.iter().enumerate() {
            is_swept[at] &= differs[at] || calls::may_change_files(call);
        }
    }
    Ok(is_swept)
}

/// The operation that makes most of this one's calls, for the same reasons.
fn extended_by(operation: &Operation) -> Option<&'static Operation> {
    let extended = match operation.name {
        "open_after_a_crash" | "open_after_a_restart" | "open_of_a_new_directory" => "open",
        "open_with_a_damaged_index" => "open_of_a_new_directory",
        "commit_of_a_queued_image" | "commit_of_an_inspected_image" | "prefetch" | "tee" | "import" => "commit",
        "commit_of_a_refused_image" => "commit_of_wrong_bytes",
        "refused_stream" => "stream",
        "export_bytes" => "export",
        "read_and_ask_for_hits" => "read",
        "delete_unused" => "delete",
        "make_room" | "prune_beside_pins" => "prune",
        "pin_again" => "pin",
        other if streams::is_fetch(operation) && other != "stream" => "stream",
        _ => return None,
    };
    operations::find(extended)
}

fn some_of(violations: &[String]) -> String {
    violations.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn faults_of(call: &Call) -> Vec<(FaultKind, Repetition)> {
    let mut faults = Vec::new();
    for errno in calls::errors(call) {
        if !is_in_full() && [Errno::EDQUOT, Errno::ENOLCK].contains(errno) {
            continue;
        }
        let is_signal = *errno == Errno::EINTR;
        if !is_signal || is_in_full() {
            faults.push((FaultKind::Error(*errno), Repetition::Once));
        }
        faults.push((FaultKind::Error(*errno), if is_signal { Repetition::Thrice } else { Repetition::Always }));
    }
    if calls::can_be_short(call) {
        faults.extend([(FaultKind::Short, Repetition::Once), (FaultKind::Short, Repetition::Always)]);
    }
    faults
}

/// One operation with its workspace.
struct Sweep<'a> {
    operation: &'a Operation,
    configuration: Configuration,
    workspace: Workspace,
    checked: Checked,
}

/// What one run showed.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is observed on its own")]
struct Observation {
    end: End,
    stdout: String,
    stderr: String,
    /// The image's files whose sync or close failed.
    failed: Vec<ImageFile>,
    wrong: Option<String>,
    closes_before_publishing: bool,
    /// Whether a sync of the index failed, and of any other file.
    has_failed_index: bool,
    has_failed_sync: bool,
    errno: Option<Errno>,
    /// Whether the file system refuses every change.
    refuses_changes: bool,
}

/// A file that must not be a cached image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ImageFile {
    path: PathBuf,
    inode: u64,
}

impl<'a> Sweep<'a> {
    fn new(operation: &'a Operation, configuration: Configuration) -> Result<Self, Stop> {
        let workspace = Workspace::new()?;
        operation.fixture.build(&workspace.path("fixture"), configuration);
        Ok(Self { operation, configuration, workspace, checked: Checked::default() })
    }

    /// Runs the operation, with a fault or without: its calls, and what they showed. Copies the directory to `returned`
    /// when the operation has returned.
    fn run(&self, fault: Option<Fault>) -> Result<(Vec<Call>, Observation), Stop> {
        let directory = self.workspace.empty("cache")?;
        let returned = self.workspace.empty("returned")?;
        copy_tree(&self.workspace.path("fixture"), &directory)?;
        let mut calls = Vec::new();
        let mut seen = 0;
        let mut hits = 0;
        let mut copied = Ok(());
        let (mut failed, mut wrong) = (Vec::new(), None);
        let (mut closes_before_publishing, mut has_failed_index, mut has_failed_sync) = (false, false, false);
        let incomplete = directory.join("incomplete");
        let arguments = child::arguments_and_verify(self.operation, &directory, self.configuration);
        let traced = trace(&arguments, |process, event| {
            seen += 1;
            let Event::Call(call) = event else {
                copied = copy_tree(&directory, &returned);
                return Decision::Continue;
            };
            if seen > MAX_CALLS {
                return Decision::Kill;
            }
            // No other process is there to wait for.
            if calls::is_sleep(call) {
                return Decision::Skip;
            }
            let Some(kind) = calls::kind(call) else { return Decision::Continue };
            let ended =
                matches!(kind, Kind::Sync | Kind::Close).then(|| image_file(process, call, &directory)).flatten();
            if kind == Kind::Sync && ended.as_ref().is_some_and(|file| failed.iter().any(|(_, known)| known == file)) {
                wrong = Some("a sync that failed was tried again".to_owned());
            }
            closes_before_publishing |=
                kind == Kind::Close && ended.as_ref().is_some_and(|file| file.path.parent() == Some(&incomplete));
            let at = calls.len();
            calls.push(*call);
            let Some(fault) = fault.filter(|fault| fault.applies_to(at, call, &calls, hits)) else {
                return Decision::Continue;
            };
            hits += 1;
            match fault.what {
                FaultKind::Short => Decision::Shorten,
                FaultKind::Error(errno) => {
                    if kind == Kind::Sync {
                        let failed = if is_index(process, call) { &mut has_failed_index } else { &mut has_failed_sync };
                        *failed = true;
                    }
                    // An interrupted close has not failed: the next one reports the error.
                    let is_failure = kind == Kind::Sync || errno != Errno::EINTR;
                    failed.extend(ended.filter(|_| is_failure).map(|file| (kind, file)));
                    Decision::Fail(errno)
                }
            }
        })?;
        copied?;
        if traced.end == End::NotPermitted {
            return Err(Stop::NotPermitted);
        }
        let errno = fault.and_then(|fault| if let FaultKind::Error(errno) = fault.what { Some(errno) } else { None });
        // With these errors no name can be removed.
        let refuses_changes = fault.is_some_and(|fault| fault.when == Repetition::Always)
            && errno.is_some_and(|errno| [Errno::EIO, Errno::EACCES].contains(&errno));
        // A file that is closed after its publish can lose nothing more.
        failed
            .retain(|(kind, file): &(Kind, ImageFile)| *kind == Kind::Sync || file.path.parent() == Some(&incomplete));
        let failed = failed.into_iter().map(|(_, file)| file).collect();
        Ok((
            calls,
            Observation {
                end: traced.end,
                stdout: traced.stdout,
                stderr: traced.stderr,
                failed,
                wrong,
                closes_before_publishing,
                has_failed_index,
                has_failed_sync,
                errno,
                refuses_changes,
            },
        ))
    }

    fn check(&self, observed: &Observation, baseline: &Observation) -> CheckResult {
        if observed.end != End::Exited(0) {
            return Err(format!("it ended with {:?}", observed.end));
        }
        if let Some(wrong) = &observed.wrong {
            return Err(wrong.clone());
        }
        let report = Report::parse(&observed.stdout).ok_or("no report")?;
        let baseline = Report::parse(&baseline.stdout).ok_or("no report without a fault")?;
        self.check_report(&report, &baseline, observed.errno)?;
        self.check_success(&report, observed)?;
        let mut returned = Expected::after_report(self.operation, report.outcome);
        for file in &observed.failed {
            // Where no name can be changed, an image that cannot be withdrawn stays.
            if !observed.refuses_changes {
                self.check_is_not_cached(file)?;
            }
            self.check_is_marked(file)?;
            returned = returned.without(&file.path.file_name().unwrap_or_default().to_string_lossy());
        }
        if observed.refuses_changes && observed.stderr.contains("which could not be synced, stays") {
            returned = returned.or_not_withdrawn(self.operation);
        }
        self.check_promises("returned", &returned)
            .map_err(|what| format!("when the operation had returned: {what}"))?;
        let mut after_fault = Expected::after_report(self.operation, Some(Outcome::Done));
        after_fault.add(self.operation.effects.iter().filter(|effect| effect.is_read()));
        self.check_promises("cache", &after_fault).map_err(|what| format!("after the fault: {what}"))
    }

    /// An error names the operation, the path and the reason; no resource leaks.
    fn check_report(&self, report: &Report, baseline: &Report, errno: Option<Errno>) -> CheckResult {
        if report.outcome.is_none() {
            // Or the directory's parent, which is synced when the directory is new.
            let directory = self.workspace.path("");
            // A file of the caller's may have no name that can be read.
            let is_of_the_caller = report.error.contains("'file descriptor ");
            let names_something = is_of_the_caller
                || report.error.contains(directory.to_string_lossy().trim_end_matches('/'))
                || self.operation.effects.iter().any(|effect| report.error.contains(&format!("'{}'", effect.id())));
            if !names_something || !report.error.starts_with("cannot ") {
                return Err("the error does not say what was tried on what".to_owned());
            }
            if let (Some(reported), Some(errno)) = (report.os_error, errno)
                && reported != errno as i32
            {
                return Err(format!("the error's number is {reported}"));
            }
        }
        if report.descriptors != 0 {
            return Err(format!("{} descriptors leak", report.descriptors));
        }
        if report.bytes > baseline.bytes + ONE_TIME_BYTES {
            return Err(format!("{} bytes leak, without a fault {}", report.bytes, baseline.bytes));
        }
        Ok(())
    }

    /// No success is reported for bytes that are not on the disk; and a signal is no failure.
    fn check_success(&self, report: &Report, observed: &Observation) -> CheckResult {
        // A close returns nothing: it withdraws what it cannot sync. (And SQLite ignores a failed sync of a directory.)
        let reports = self.operation.caches_one() && self.operation.name != "close_with_pending_hits";
        if observed.has_failed_sync && reports && report.outcome == Some(Outcome::Done) {
            return Err("it reports success though a sync failed".to_owned());
        }
        let has_failed_sync = observed.has_failed_sync || observed.has_failed_index;
        if observed.errno == Some(Errno::EINTR) && !has_failed_sync && report.outcome != Some(Outcome::Done) {
            return Err("it fails for a signal".to_owned());
        }
        Ok(())
    }

    /// An image whose sync failed, and which could not be withdrawn, has the mark: the next start of the host drops it.
    fn check_is_marked(&self, file: &ImageFile) -> CheckResult {
        let path = self.workspace.path("returned").join(file.path.file_name().unwrap_or_default());
        if path.exists() && !matches!(xattr::get(&path, "user.image_cache.unsynced"), Ok(Some(_))) {
            return Err(format!("{} stays without a mark, though its sync failed", path.display()));
        }
        Ok(())
    }

    /// A sync or a close that failed is final.
    fn check_is_not_cached(&self, file: &ImageFile) -> CheckResult {
        let final_path = self.workspace.path("cache").join(file.path.file_name().unwrap_or_default());
        let standing = fs::metadata(&final_path).map(|metadata| metadata.ino()).ok();
        if standing == Some(file.inode) {
            return Err(format!("{} is cached, though its sync or close failed", final_path.display()));
        }
        Ok(())
    }

    fn check_promises(&self, name: &str, expected: &Expected) -> CheckResult {
        let (directory, fixture, scratch) =
            (self.workspace.path(name), self.workspace.path("fixture"), self.workspace.path("scratch"));
        fs::create_dir_all(&scratch).map_err(|error| error.to_string())?;
        let state = State::of(&directory, &fixture, &scratch).map_err(|error| error.to_string())?;
        if self.checked.is_new(state, expected) {
            check_all(&directory, &fixture, &scratch, self.configuration, expected)?;
        }
        Ok(())
    }
}

impl Fault {
    /// Whether the fault applies to the last of `calls`; `hits` is how often it did before.
    fn applies_to(&self, at: usize, call: &Call, calls: &[Call], hits: usize) -> bool {
        let is_possible = match self.what {
            FaultKind::Error(errno) => calls::errors(call).contains(&errno),
            FaultKind::Short => calls::can_be_short(call),
        };
        let is_due = match self.when {
            Repetition::Once => at == self.at,
            Repetition::Thrice => at >= self.at && hits < 3 && calls[self.at].number == call.number,
            Repetition::Always => at >= self.at,
        };
        is_possible && is_due
    }
}

fn is_index(process: Pid, call: &Call) -> bool {
    let path = fs::read_link(format!("/proc/{process}/fd/{}", call.descriptor())).unwrap_or_default();
    path.file_name().is_some_and(|name| INDEX_FILES.iter().any(|index| name == *index))
}

/// The image's file that the call acts on.
fn image_file(process: Pid, call: &Call, directory: &Path) -> Option<ImageFile> {
    let link = PathBuf::from(format!("/proc/{process}/fd/{}", call.descriptor()));
    let path = fs::read_link(&link).ok()?;
    let metadata = fs::metadata(&link).ok()?;
    let name = path.file_name()?.to_str()?;
    // A pin whose sync failed may be made again.
    let is_pin = path.starts_with(directory.join(".image_cache/pins"));
    let is_image = metadata.is_file() && path.starts_with(directory) && !is_pin && !INDEX_FILES.contains(&name);
    is_image.then(|| ImageFile { path: path.clone(), inode: metadata.ino() })
}
