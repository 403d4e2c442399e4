//! `create`: a new, empty cache. The only command that makes one.

use std::path::PathBuf;

use clap::Args;
use image_cache::LimitMode;
use serde::Serialize;

use crate::cli::Driver;
use crate::exit::{Exit, Failure};
use crate::new_directory;
use crate::open::{Context, check_exists};
use crate::output::{Page, Shown};
use crate::owner;
use crate::units::{parse_size, size};

/// Arguments of `create`.
#[derive(Debug, Args)]
#[command(after_help = "The directory is made, its parent is not. A directory that has other files is
refused. The agents must be able to write to it: --owner names their user.

Examples:
  image-cachectl -C /var/lib/images create --limit 50G --owner glance
  image-cachectl -C /var/lib/images create --driver xattr")]
pub struct Arguments {
    /// Sets a hard limit, for all agents
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    limit: Option<u64>,
    /// Gives the directory to the user and the group of the agents
    #[arg(long, value_name = "USER[:GROUP]", value_parser = owner::parse)]
    owner: Option<(u32, u32)>,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    match check_exists(settings) {
        Err(failure) if failure.exit == Exit::NoCache => {}
        Err(failure) => return Err(failure),
        Ok(()) => {
            let directory = settings.directory.display();
            return Err(Failure::new(Exit::Busy, format!("the directory '{directory}' has a cache already")));
        }
    }
    new_directory::make(&settings.directory, arguments.owner)?;
    context.act_as_owner(settings)?;
    let mut options = context.options(settings)?;
    if let Some(limit) = arguments.limit {
        options = options.max_size(limit).limit_mode(LimitMode::Hard);
    }
    let cache = context.opened(settings, options)?;
    let directory = context.directory(settings);
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    context.output.print(&Created { directory, driver: cache.driver().into(), limit: arguments.limit })?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Created {
    directory: PathBuf,
    driver: Driver,
    limit: Option<u64>,
}

impl Shown for Created {
    fn text(&self, page: &mut Page) {
        let limit = self.limit.map(|limit| format!(", limit {}", size(limit))).unwrap_or_default();
        page.line(format!("Cache created in '{}': driver {}{limit}", self.directory.display(), self.driver.name()));
    }
}
