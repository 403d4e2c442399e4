//! Corruption: whatever bytes, names, times and permissions a cache has, an open repairs what can be repaired, logs it,
//! refuses the rest with a message, and deletes nothing that is not the cache's.
//!
//! Sweeps print how many cases they ran. `IMAGE_CACHE_CORRUPTION=all` runs every case.

mod attributes;
#[path = "../common/checks.rs"]
mod checks;
mod child_process;
#[path = "../common/mod.rs"]
mod common;
mod database;
mod disk;
mod fixture;
mod index_files;
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
    if child_process::run_as_child() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trials = [
        attributes::trials(),
        database::trials(),
        disk::trials(),
        index_files::trials(),
        locked::trials(),
        names::trials(),
        read_only::trials(),
        removed::trials(),
        rows::trials(),
        wal::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
