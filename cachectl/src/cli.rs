//! The command line. Help texts, completions and manual pages are made from it.

#![allow(clippy::doc_markdown, reason = "comments on arguments are the help texts")]

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use image_cache::DriverChoice;
use serde::{Deserialize, Serialize};

use crate::commands;

/// The heading of the options that every command has.
const GLOBAL: &str = "Options of all commands";

/// Shows and steers a local cache of virtual-machine images, beside the agents that use it
#[derive(Debug, Parser)]
#[command(
    name = "image-cachectl",
    version,
    max_term_width = 80,
    disable_help_subcommand = true,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "The help of each command ends in an example: image-cachectl COMMAND --help

Examples: what is in the cache, and which images are evicted next
  image-cachectl -C /var/lib/images status
  image-cachectl -C /var/lib/images list --sort accessed"
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = GLOBAL)]
pub struct Global {
    /// The cache's directory
    #[arg(short = 'C', long, global = true, value_name = "DIRECTORY", env = "IMAGE_CACHE_DIR", hide_env_values = true)]
    pub directory: Option<PathBuf>,
    /// The configuration file [default: /etc/image-cache.toml]
    #[arg(long, global = true, value_name = "FILE", env = "IMAGE_CACHE_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The driver [default: the directory's own]
    #[arg(long, global = true, value_enum)]
    pub driver: Option<Driver>,
    /// Prints JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Prints no colours; the variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Draws no progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Prints what the library does to stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Prints the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Prints this help
    // The short form for both names: a page of the other one has half as much.
    #[arg(short, long, global = true, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// Where metadata is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// In a SQLite database in the directory
    Sqlite,
    /// In extended attributes of the images
    Xattr,
}

impl Driver {
    /// The library's choice.
    pub fn choice(self) -> DriverChoice {
        match self {
            Self::Sqlite => DriverChoice::Sqlite,
            Self::Xattr => DriverChoice::Xattr,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Xattr => "xattr",
        }
    }
}

impl From<image_cache::DriverKind> for Driver {
    fn from(kind: image_cache::DriverKind) -> Self {
        match kind {
            image_cache::DriverKind::Sqlite => Self::Sqlite,
            image_cache::DriverKind::Xattr => Self::Xattr,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows what the cache has, and what bounds it
    Status(commands::status::Arguments),
    /// Lists images: cached, being cached, or failed
    List(commands::list::Arguments),
    /// Shows one image: state, digest, who has it pinned or open
    Show(commands::show::Arguments),
    /// Shows hits, misses, evictions and failures since the cache was created
    Stats(commands::stats::Arguments),
    /// Caches a file, or stdin
    Add(commands::add::Arguments),
    /// Copies a cached image to a file, or to stdout
    Export(commands::export::Arguments),
    /// Lists and changes the images that agents are to prefetch
    Queue(commands::queue::Arguments),
    /// Keeps images from being evicted and deleted
    Pin(commands::pin::Pinning),
    /// Removes pins
    Unpin(commands::pin::Unpinning),
    /// Deletes cached images
    Delete(commands::delete::Arguments),
    /// Evicts the least recently accessed images down to the limit
    Prune(commands::prune::Pruning),
    /// Evicts until an image of a size fits
    MakeRoom(commands::prune::MakingRoom),
    /// Removes failed fetches, and what dead and stalled writers left
    Clean(commands::clean::Arguments),
    /// Compares images with their digests
    Verify(commands::verify::Arguments),
    /// Shows, sets or removes the limit
    Limit(commands::limit::Arguments),
    /// Creates a new, empty cache
    Create(commands::create::Arguments),
    /// Changes the driver, and keeps hits and order
    Convert(commands::convert::Arguments),
    /// Finds what is wrong with a cache, and explains what to do
    Doctor(commands::doctor::Arguments),
    /// Prints metrics for Prometheus
    Metrics(commands::metrics::Arguments),
    /// Writes a page with charts of the cache
    Report(commands::report::Arguments),
    /// Takes hits and last accesses over from the database of a Glance
    TakeOver(commands::take_over::Arguments),
    /// Prints the completions of a shell
    Completions(commands::completions::Arguments),
    /// Writes manual pages and completions, for an installation
    #[command(hide = true)]
    Generate(commands::generate::Arguments),
}
