//! Faults that the first version of this library had, each with its kind: each case was reproduced once. All calls go
//! through the C ABI.

mod c;
mod child;
mod machine;
mod only_readers;
mod operations;
mod tasks;
mod the_host_is_killed;
mod wrong_bytes;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some((task, arguments)) = child::own_task() {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let is_known = [tasks::perform, only_readers::perform, the_host_is_killed::perform, wrong_bytes::perform]
            .iter()
            .any(|perform| perform(&task, &arguments));
        assert!(is_known, "{task} {arguments:?} is no task");
        // A child ends when its parent says so.
        while child::listen().is_some() {}
        return ExitCode::SUCCESS;
    }
    machine::enter_mount_namespace();
    let arguments = Arguments::from_args();
    let trials = [only_readers::trials_of_kind(), the_host_is_killed::trials_of_kind(), wrong_bytes::trials_of_kind()];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
