//! `queue`: the images that are to be prefetched.

use clap::{Args, Subcommand};
use image_cache::QueuedImage;
use serde::Serialize;

use crate::commands::list::lines;
use crate::each::{Problem, each};
use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Column, Page, Shown};
use crate::units::{ago, images, rfc3339};

/// Arguments of `queue`.
#[derive(Debug, Args)]
#[command(after_help = "Agents fetch what is queued: this tool has no source of images.

Examples:
  image-cachectl queue add noble bookworm
  image-cachectl queue list")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the queued images, oldest first: the default
    List(List),
    /// Queues images
    Add(Add),
    /// Removes images from the queue
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  image-cachectl queue list --json | jq -r '.images[].id'")]
struct List {
    /// Prints ids only, one a line
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "An image that is queued, cached or being cached already stays as it is.

Example:
  image-cachectl queue add noble bookworm")]
struct Add {
    /// The images' ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  image-cachectl queue remove bookworm
  image-cachectl queue remove --all --dry-run")]
struct Remove {
    /// The images' ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
    /// Removes all images
    #[arg(long, conflicts_with = "images")]
    all: bool,
    /// Shows what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        None => list(context, &List { quiet: false }),
        Some(Command::List(arguments)) => list(context, arguments),
        Some(Command::Add(arguments)) => add(context, arguments),
        Some(Command::Remove(arguments)) => remove(context, arguments),
    }
}

fn list(context: &Context, arguments: &List) -> Result<Exit, Failure> {
    let queue = context.open()?.list_queued()?;
    if arguments.quiet {
        context.output.write(&lines(queue.iter().map(|image| image.image_id.as_str())))?;
    } else {
        let images = queue.iter().map(Queued::from).collect();
        context.output.print(&Queue { images, queue })?;
    }
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Queue {
    images: Vec<Queued>,
    #[serde(skip)]
    queue: Vec<QueuedImage>,
}

#[derive(Debug, Serialize)]
struct Queued {
    id: String,
    queued_at: String,
}

impl From<&QueuedImage> for Queued {
    fn from(image: &QueuedImage) -> Self {
        Self { id: image.image_id.clone(), queued_at: rfc3339(image.queued) }
    }
}

impl Shown for Queue {
    fn text(&self, page: &mut Page) {
        if self.queue.is_empty() {
            return page.line("No image is queued.");
        }
        let rows = self.queue.iter().map(|image| vec![image.image_id.clone(), ago(image.queued)]);
        page.table(&[Column::Wide("IMAGE"), Column::Right("QUEUED")], rows);
    }
}

fn add(context: &Context, arguments: &Add) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let each = each(context, &arguments.images, |id| {
        let state = if cache.queue_image(id)? {
            "queued"
        } else if cache.is_cached(id)? {
            "cached"
        } else if cache.is_queued(id)? {
            "queued_before"
        } else {
            "being_cached"
        };
        Ok(State { id: id.to_owned(), state })
    });
    context.output.print(&Added { images: each.done, failed: each.failed })?;
    Ok(each.exit)
}

#[derive(Debug, Serialize)]
struct Added {
    images: Vec<State>,
    failed: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct State {
    id: String,
    /// `queued`, `queued_before`, `cached` or `being_cached`.
    state: &'static str,
}

impl Shown for Added {
    fn text(&self, page: &mut Page) {
        for State { id, state } in &self.images {
            page.line(match *state {
                "queued" => format!("Image '{id}' is queued."),
                "queued_before" => format!("Image '{id}' was queued already."),
                "cached" => format!("Image '{id}' is cached already."),
                _ => format!("Image '{id}' is being cached already."),
            });
        }
    }
}

fn remove(context: &Context, arguments: &Remove) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let ids = if arguments.all {
        cache.list_queued()?.into_iter().map(|image| image.image_id).collect()
    } else {
        arguments.images.clone()
    };
    let each = each(context, &ids, |id| {
        if !cache.is_queued(id)? {
            return Err(Failure::new(Exit::NotFound, format!("image '{id}' is not queued")));
        }
        if !arguments.dry_run {
            cache.delete_queued_image(id)?;
        }
        Ok(id.to_owned())
    });
    let removed = Unqueued { dry_run: arguments.dry_run, removed: each.done, failed: each.failed };
    context.output.print(&removed)?;
    Ok(each.exit)
}

#[derive(Debug, Serialize)]
struct Unqueued {
    dry_run: bool,
    removed: Vec<String>,
    failed: Vec<Problem>,
}

impl Shown for Unqueued {
    fn text(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be removed" } else { "removed" };
        page.line(format!("{} {verb} from the queue", images(self.removed.len() as u64)));
        if self.dry_run {
            self.removed.iter().for_each(|id| page.line(format!("  {id}")));
        }
    }
}
