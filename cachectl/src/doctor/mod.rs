//! `doctor`: examines a cache's directory, and explains what is wrong with it. It reads the files themselves, not through the library, so
//! it works when the cache cannot be opened, and it changes nothing: no name, mode, time or attribute.
//!
//! One file for each group of checks, which add to the findings what they find. `kind` has the list of all findings.

mod access;
mod clock;
mod database;
mod driver;
mod file_system;
pub mod finding;
pub mod fix;
pub mod foreign;
mod index;
mod kernel;
pub mod kind;
mod locks;
mod processes;
pub mod reading;
mod scan;
mod space;
mod writers;

use std::path::Path;
use std::time::Duration;

use finding::Findings;
use scan::Scan;

/// How a directory is examined.
#[derive(Debug, Clone)]
pub struct Examination<'a> {
    pub directory: &'a Path,
    /// How long a live writer may write nothing.
    pub stall_time: Duration,
    /// The name of the database, where the directory has no record of it.
    pub database: Option<&'a str>,
}

/// Examines a directory.
pub fn examine(examination: &Examination<'_>) -> Findings {
    let mut findings = Findings::default();
    kernel::check(&mut findings);
    let Some(scan) = Scan::of(examination, &mut findings) else { return findings };
    file_system::check(&scan, &mut findings);
    access::check(&scan, &mut findings);
    if findings.has(&kind::NO_CACHE) {
        return findings;
    }
    kernel::check_file_system(&scan, &mut findings);
    space::check(&scan, &mut findings);
    driver::check(&scan, &mut findings);
    index::check(&scan, examination, &mut findings);
    writers::check(&scan, examination, &mut findings);
    processes::check(&scan, &mut findings);
    clock::check(&scan, &mut findings);
    findings
}
