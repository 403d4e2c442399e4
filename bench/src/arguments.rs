//! The command line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;
use regex_lite::Regex;

pub const USAGE: &str = "\
Compares image-cache with the bare system calls that it must make, and prints a table. The exit code is 0 even if a
target is missed.

  --quick            small sizes, about a minute: 1,000 and 10,000 images, files of 64 MiB
  --only PATTERN     only the rows whose name matches the regular expression (see --rows)
  --rows             print the rows' names
  --directory DIR    where the caches are created; the file system to measure [the working directory]
  --json FILE        write all figures there
  --peers            measure Glance and the cacache crate as well, on the same work; and 100 readers of a slow origin,
                     through this library, Traffic Server, Varnish and nginx
  --picture FILE     write the growth curves there, as SVG
  --environment DIR  where the Python environment with Glance is created, or exists [in the caches' directory]
";

/// What this process does.
pub enum Task {
    Measure,
    ListRows,
    Help,
    /// A row started it as a child process.
    WorkAsChild(Vec<String>),
}

/// The parsed options.
pub struct Arguments {
    pub task: Task,
    pub quick: bool,
    pub only: Option<Regex>,
    pub directory: PathBuf,
    pub json: Option<PathBuf>,
    pub peers: bool,
    pub picture: Option<PathBuf>,
    pub environment: Option<PathBuf>,
}

impl Arguments {
    pub fn parse() -> Result<Self> {
        let mut arguments = Self {
            task: Task::Measure,
            quick: false,
            only: None,
            directory: std::env::current_dir().context("the working directory")?,
            json: None,
            peers: false,
            picture: None,
            environment: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("quick") => arguments.quick = true,
                Long("only") => {
                    let pattern = parser.value()?.string()?;
                    arguments.only = Some(Regex::new(&pattern).with_context(|| format!("--only {pattern}"))?);
                }
                Long("rows") => arguments.task = Task::ListRows,
                Long("directory") => arguments.directory = parser.value()?.into(),
                Long("json") => arguments.json = Some(parser.value()?.into()),
                Long("peers") => arguments.peers = true,
                Long("picture") => arguments.picture = Some(parser.value()?.into()),
                Long("environment") => arguments.environment = Some(parser.value()?.into()),
                Long("child") => {
                    let work = parser.raw_args()?.map(|text| text.to_string_lossy().into_owned());
                    arguments.task = Task::WorkAsChild(work.collect());
                }
                Short('h') | Long("help") => arguments.task = Task::Help,
                other => bail!("{}\n\n{USAGE}", other.unexpected()),
            }
        }
        Ok(arguments)
    }

    pub fn wants(&self, row: &str) -> bool {
        self.only.as_ref().is_none_or(|pattern| pattern.is_match(row))
    }
}
