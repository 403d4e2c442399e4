//! `generate`: the files beside the program, for an installation: manual pages and completions. Installations call it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::{Generator as _, Shell};

use crate::cli::Cli;
use crate::commands::completions::script;
use crate::exit::{Exit, Failure};
use crate::manual;

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  image-cachectl generate build/tool")]
pub struct Arguments {
    /// The directory, which gets man1/, bash/, zsh/ and fish/
    directory: PathBuf,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    generate(&arguments.directory).map_err(|error| Failure::io("write the files", &error))?;
    Ok(Exit::Done)
}

fn generate(directory: &Path) -> io::Result<()> {
    let subdirectory = |name: &str| {
        let path = directory.join(name);
        fs::create_dir_all(&path).map(|()| path)
    };
    let man1 = subdirectory("man1")?;
    for (name, page) in manual::pages(Cli::command())? {
        fs::write(man1.join(name), page)?;
    }
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        fs::write(subdirectory(name)?.join(shell.file_name("image-cachectl")), script(shell))?;
    }
    Ok(())
}
