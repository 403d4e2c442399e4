//! image-cachectl: shows and steers a cache of virtual-machine images.
//!
//! `cli` has the arguments, `commands` one file for each command. `open` finds and opens the cache, `settings` says how, `output` prints,
//! `exit` has the exit codes.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// They panic when the output is closed: see `output`.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod commands;
mod conversion;
mod counters;
mod doctor;
mod each;
mod exit;
mod files;
mod image;
mod kept_driver;
mod manual;
mod metrics;
mod new_directory;
mod open;
mod output;
mod owner;
mod plan;
mod progress;
mod report;
mod settings;
mod stop;
mod target;
mod trusted_path;
mod units;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::open::Context;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print().and_then(|()| io::stdout().flush());
            if error.use_stderr() {
                return Exit::Usage.into();
            }
            // Help to a closed pipe is of interest to nobody.
            return match printed.map_err(|error| output::closed_or_failed(&error)) {
                Err(failure) if failure.exit != Exit::OutputClosed => {
                    output::Output { json: false, no_color: false }.failure(&failure);
                    failure.exit.into()
                }
                _ => Exit::Done.into(),
            };
        }
    };
    let context = Context::new(cli.global);
    let exit = commands::run(&context, &cli.command).unwrap_or_else(|failure| {
        context.output.failure(&failure);
        failure.exit
    });
    exit.into()
}
