//! `completions`: what a shell needs to complete the arguments.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::open::Context;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  image-cachectl completions bash > /etc/bash_completion.d/image-cachectl
  image-cachectl completions zsh > ~/.zfunc/_image-cachectl
  image-cachectl completions fish | source")]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    context.output.write(&script(arguments.shell))?;
    Ok(Exit::Done)
}

/// The script of a shell.
pub fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "image-cachectl", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    // clap_complete 4.6 writes the hyphen of the program's name in two ways for bash, so that no command would be completed.
    if shell == Shell::Bash { script.replace("image__subcmd__cachectl", "image__cachectl") } else { script }
}
