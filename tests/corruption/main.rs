//! Rotten state: whatever bytes, names, times and rights a cache finds, an open repairs what can be repaired, says so in the
//! log, refuses the rest with a message, and never deletes what it does not own.
//!
//! Sweeps print how many cases they had. `IMAGE_CACHE_CORRUPTION=all` runs every one of them.

mod attributes;
#[path = "../common/checks.rs"]
mod checks;
#[path = "../common/mod.rs"]
mod common;
mod database;
mod disk;
mod fixture;
mod locked;
mod mutation;
mod names;
mod read_only;
mod removed;
mod rows;
mod wal;
mod workspace;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if workspace::run_as_child() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trials = [
        attributes::trials(),
        database::trials(),
        disk::trials(),
        locked::trials(),
        names::trials(),
        read_only::trials(),
        removed::trials(),
        rows::trials(),
        wal::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
