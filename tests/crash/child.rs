//! The traced child process: it runs one operation and prints the outcome.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image_cache::{DriverChoice, Durability, Error, ImageCache};

use crate::configuration::Configuration;
use crate::fixture::{bytes_of, cache_image};
use crate::forks::{self, Inherited};
use crate::operations::{self, Operation, OperationResult, Outcome};
use crate::resources::Resources;
use crate::setup::Setup;
use crate::tracer;

/// The last argument of a child process that goes on after the operation.
const VERIFY: &str = "--verify";
/// The last argument of a child process that prints the result of the operation only.
const REPORT: &str = "--report";
/// The last argument of a child process that forks beside the operation.
const FORK: &str = "--fork";

/// An image that is cached and deleted after the fault.
const AFTERWARDS: &str = "afterwards";

/// The arguments of a child process that runs an operation in `directory`.
pub fn arguments(operation: &Operation, directory: &Path, configuration: Configuration) -> Vec<OsString> {
    let names = [configuration.driver_name(), configuration.durability_name()];
    [OsStr::new(operation.name), directory.as_os_str()]
        .into_iter()
        .chain(names.map(OsStr::new))
        .map(OsString::from)
        .collect()
}

/// The same. Then the child uses the cache, closes it, prints what leaks, and runs the operation again.
pub fn arguments_and_verify(operation: &Operation, directory: &Path, configuration: Configuration) -> Vec<OsString> {
    let mut arguments = arguments(operation, directory, configuration);
    arguments.push(VERIFY.into());
    arguments
}

/// The same. The child prints the outcome.
pub fn arguments_and_report(operation: &Operation, directory: &Path, configuration: Configuration) -> Vec<OsString> {
    let mut arguments = arguments(operation, directory, configuration);
    arguments.push(REPORT.into());
    arguments
}

/// The same. While the operation runs, another thread forks.
pub fn arguments_and_fork(operation: &Operation, directory: &Path, configuration: Configuration) -> Vec<OsString> {
    let mut arguments = arguments(operation, directory, configuration);
    arguments.push(FORK.into());
    arguments
}

/// What the child process printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The outcome of the operation; `None` for an error.
    pub outcome: Option<Outcome>,
    /// The error's message.
    pub error: String,
    pub os_error: Option<i32>,
    /// Descriptors and bytes that are in use after the close, and were not before the open.
    pub descriptors: i64,
    pub bytes: i64,
}

impl Report {
    pub fn parse(output: &str) -> Option<Self> {
        let mut report = Self::default();
        for line in output.lines() {
            let (key, value) = line.split_once(' ')?;
            match key {
                "done" => report.outcome = Some(Outcome::Done),
                "not-all" => report.outcome = Some(Outcome::Partial),
                "error" => value.clone_into(&mut report.error),
                "os-error" => report.os_error = Some(value.parse().ok()?),
                "descriptors" => report.descriptors = value.parse().ok()?,
                "bytes" => report.bytes = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(report)
    }
}

/// The child process.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let [name, directory, driver, durability, rest @ ..] = arguments else { panic!("other arguments") };
    let configuration = Configuration {
        driver: if driver == "sqlite" { DriverChoice::Sqlite } else { DriverChoice::Xattr },
        durability: if durability == "full" { Durability::Full } else { Durability::None },
    };
    let operation = name.to_str().and_then(operations::find).expect("an operation of that name");
    let directory = PathBuf::from(directory);
    let before = Resources::now();
    let mut setup = Setup::new(directory.clone(), configuration);
    (operation.prepare)(&mut setup).expect("preparing");
    if rest.first().is_some_and(|argument| argument == FORK) {
        let inherited = Inherited::of(operation, setup.cache.as_ref());
        let fork = || forks::fork_when_told(operation, &directory, configuration, inherited);
        let (result, forked) = tracer::traced_beside(|| (operation.run)(&mut setup), fork);
        print_result(result);
        forked.expect("the child of the fork ends well");
        return ExitCode::SUCCESS;
    }
    let result = tracer::traced(|| (operation.run)(&mut setup));
    if rest.first().is_some_and(|argument| argument == REPORT) {
        print_result(result);
        for message in setup.take_messages() {
            eprintln!("{message}");
        }
    } else if rest.first().is_some_and(|argument| argument == VERIFY) {
        print_result(setup.settled(result));
        for message in setup.take_messages() {
            eprintln!("{message}");
        }
        if operation.is_within_a_limit() {
            // What follows caches further images.
            operations::set_limit(&directory, u64::MAX);
        }
        if let Some(cache) = &setup.cache {
            exercise(cache).expect("the cache works after the fault");
        }
        drop(setup);
        let (descriptors, bytes) = Resources::now().since(before);
        println!("descriptors {descriptors}\nbytes {bytes}");
        repeat(operation, directory, configuration);
    }
    ExitCode::SUCCESS
}

fn print_result(result: OperationResult) {
    match result {
        Ok(Outcome::Done) => println!("done -"),
        Ok(Outcome::Partial) => println!("not-all -"),
        Err(error) => {
            println!("error {error}");
            if let Some(os_error) = error.os_error() {
                println!("os-error {os_error}");
            }
        }
    }
}

/// Every call of an agent; leaves no image behind.
fn exercise(cache: &ImageCache) -> Result<(), Error> {
    cache_image(cache, AFTERWARDS)?;
    let mut bytes = Vec::new();
    cache.open_for_read(AFTERWARDS)?.read_to_end(&mut bytes).expect("an image can be read");
    assert!(bytes == bytes_of(AFTERWARDS), "wrong bytes were served");
    assert_eq!(cache.hit_count(AFTERWARDS)?, 1);
    let listed: Vec<_> = cache.list_cached()?.collect();
    assert!(listed.iter().any(|image| image.image_id == AFTERWARDS));
    assert_eq!(cache.cache_size()?, listed.iter().map(|image| image.size).sum::<u64>());
    cache.delete_cached_image(AFTERWARDS)?;
    assert!(cache.queue_image(AFTERWARDS)?);
    cache.delete_queued_image(AFTERWARDS)
}

/// The operation works after the fault.
fn repeat(operation: &Operation, directory: PathBuf, configuration: Configuration) {
    let mut setup = Setup::new(directory, configuration);
    setup.is_repeat = true;
    let again = (operation.prepare)(&mut setup).and_then(|()| (operation.run)(&mut setup));
    assert!(matches!(again, Ok(Outcome::Done) | Err(Error::AlreadyCached(_))), "again: {again:?}");
}
