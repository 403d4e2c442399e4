//! The commands, one file each. Each has its arguments, with the help that ends in an example, and
//! `run(context, arguments) -> Result<Exit, Failure>`.

pub mod add;
pub mod clean;
pub mod completions;
pub mod convert;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod export;
pub mod generate;
pub mod limit;
pub mod list;
pub mod metrics;
pub mod pin;
pub mod prune;
pub mod queue;
pub mod report;
pub mod show;
pub mod stats;
pub mod status;
pub mod take_over;
pub mod verify;

use crate::cli::Command;
use crate::exit::{Exit, Failure};
use crate::open::Context;

/// Runs a command.
pub fn run(context: &Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Status(arguments) => status::run(context, arguments),
        Command::List(arguments) => list::run(context, arguments),
        Command::Show(arguments) => show::run(context, arguments),
        Command::Stats(arguments) => stats::run(context, arguments),
        Command::Add(arguments) => add::run(context, arguments),
        Command::Export(arguments) => export::run(context, arguments),
        Command::Queue(arguments) => queue::run(context, arguments),
        Command::Pin(arguments) => pin::pin(context, arguments),
        Command::Unpin(arguments) => pin::unpin(context, arguments),
        Command::Delete(arguments) => delete::run(context, arguments),
        Command::Prune(arguments) => prune::prune(context, arguments),
        Command::MakeRoom(arguments) => prune::make_room(context, arguments),
        Command::Clean(arguments) => clean::run(context, arguments),
        Command::Verify(arguments) => verify::run(context, arguments),
        Command::Limit(arguments) => limit::run(context, arguments),
        Command::Create(arguments) => create::run(context, arguments),
        Command::Convert(arguments) => convert::run(context, arguments),
        Command::Doctor(arguments) => doctor::run(context, arguments),
        Command::Metrics(arguments) => metrics::run(context, arguments),
        Command::Report(arguments) => report::run(context, arguments),
        Command::TakeOver(arguments) => take_over::run(context, arguments),
        Command::Completions(arguments) => completions::run(context, arguments),
        Command::Generate(arguments) => generate::run(arguments),
    }
}
