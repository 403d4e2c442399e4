//! The process that is traced: it plays one operation, and says what came of it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use image_cache::{DriverChoice, Durability};

use crate::operations::{self, Operation, Stage};
use crate::scene::Manner;
use crate::tracer;

/// The first argument of a test program that is to be such a process.
pub const ARGUMENT: &str = "--operation";

/// This program, as the process that plays an operation in `directory`.
pub fn command(operation: &Operation, directory: &std::path::Path, manner: Manner) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([ARGUMENT, operation.name]).arg(directory).args([manner.driver_name(), manner.durability_name()]);
    command
}

/// The whole life of the process, if its arguments say that it is one.
pub fn play() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let [_, first, name, directory, driver, durability] = &arguments[..] else { return None };
    if first != ARGUMENT {
        return None;
    }
    let manner = Manner {
        driver: if driver == "sqlite" { DriverChoice::Sqlite } else { DriverChoice::Xattr },
        durability: if durability == "full" { Durability::Full } else { Durability::None },
    };
    let operation = operations::find(name.to_str()?).expect("an operation of that name");
    let mut stage = Stage::new(PathBuf::from(directory), manner);
    (operation.get_ready)(&mut stage).expect("getting ready");
    tracer::begin();
    let acted = (operation.act)(&mut stage);
    tracer::end();
    println!("{acted:?}");
    Some(ExitCode::SUCCESS)
}
