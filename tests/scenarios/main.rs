//! Runs every scenario of `cases/` on both drivers, and compares the transcripts with those of the C runner in `c/`.
//!
//! The environment variable `IMAGE_CACHE_SCENARIO_C` names the C runner. Without it, this test builds it with `cc`.

#[path = "rust/mod.rs"]
mod runner;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use runner::{Outcome, Report, driver_name, name_of, run};
use tempfile::TempDir;

const DRIVERS: [DriverChoice; 2] = [DriverChoice::Sqlite, DriverChoice::Xattr];

fn main() -> io::Result<ExitCode> {
    let may_mount = runner::become_able_to_mount();
    let arguments = Arguments::from_args();
    let has_attributes = runner::has_user_attributes(tempfile::tempdir()?.path());
    // A run reports each skipped test. cargo-nextest reads the listing, so the listing must know them beforehand.
    let must_list_skipped = arguments.list && !(may_mount && has_attributes);

    let files = scenario_files()?;
    let mut trials = Vec::new();
    for driver in DRIVERS {
        for file in files.clone() {
            let name = format!("{}::{}", driver_name(driver), name_of(&file));
            let skipped = must_list_skipped && matches!(run(&file, driver).outcome, Outcome::Skipped(_));
            let trial = Trial::ignorable_test(name, move || passes(&run(&file, driver)));
            trials.push(trial.with_ignored_flag(skipped));
        }
        let files = files.clone();
        let name = format!("{}::the_c_program_prints_the_same_transcripts", driver_name(driver));
        trials.push(Trial::test(name, move || same_as_c(&files, driver)));
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn scenario_files() -> io::Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/cases");
    let mut files: Vec<_> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "scenario"));
    files.sort_unstable();
    assert!(!files.is_empty(), "there are no scenarios");
    Ok(files)
}

fn passes(report: &Report) -> Result<Completion, Failed> {
    match report.outcome {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Outcome::Failed => Err(format!("{}\n{}", report.failures, report.transcript).into()),
    }
}

/// The Rust API and the C ABI give the same transcripts, byte for byte.
fn same_as_c(files: &[PathBuf], driver: DriverChoice) -> Result<(), Failed> {
    let program = CRunner::find_or_build()?;
    let output = Command::new(&program.path).arg(driver_name(driver)).args(files).output()?;
    let theirs = String::from_utf8(output.stdout)?;
    let ours = transcripts(files, driver);
    if ours == theirs && output.status.success() {
        return Ok(());
    }
    let first_difference = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
    let failures = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: the first difference is {first_difference:#?}\n{failures}", output.status).into())
}

fn transcripts(files: &[PathBuf], driver: DriverChoice) -> String {
    let reports: Vec<_> = files.iter().map(|file| run(file, driver)).collect();
    let count = |is: fn(&Outcome) -> bool| reports.iter().filter(|report| is(&report.outcome)).count();
    let totals = format!(
        "{} passed, {} failed, {} skipped\n",
        count(|outcome| *outcome == Outcome::Passed),
        count(|outcome| *outcome == Outcome::Failed),
        count(|outcome| matches!(outcome, Outcome::Skipped(_))),
    );
    reports.into_iter().map(|report| report.transcript).chain([totals]).collect()
}

/// The C runner, and the temporary directory if this test built it.
struct CRunner {
    path: OsString,
    _directory: Option<TempDir>,
}

impl CRunner {
    fn find_or_build() -> io::Result<Self> {
        match env::var_os("IMAGE_CACHE_SCENARIO_C") {
            Some(path) => Ok(Self { path, _directory: None }),
            None => Self::build(),
        }
    }

    /// Builds it and links it with the shared library beside this test.
    fn build() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = tempfile::tempdir()?;
        let program = directory.path().join("scenario");
        let built = env::current_exe()?.with_file_name("libimage_cache.so");
        let library = directory.path().join(env!("IMAGE_CACHE_SONAME"));
        symlink(&built, &library)?;
        let mut run_path = OsString::from("-Wl,-rpath,");
        run_path.push(directory.path());
        let sources = c_sources(&root.join("tests/scenarios/c"))?;
        let status = Command::new("cc")
            .args(["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I"])
            .arg(root.join("include"))
            .args(sources)
            .arg("-o")
            .arg(&program)
            .args([library.as_os_str(), &run_path])
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("cc: {status}")));
        }
        Ok(Self { path: program.into(), _directory: Some(directory) })
    }
}

fn c_sources(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources: Vec<_> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    Ok(sources)
}
