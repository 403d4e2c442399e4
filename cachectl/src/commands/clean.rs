//! `clean`: failed fetches, and what dead and stalled writers left.

use std::time::{Duration, SystemTime};

use clap::Args;
use image_cache::{Holder, ImageCache};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Column, Page, Shown};
use crate::units::{count, duration, parse_duration, size, time};

/// The library's default.
const STALL_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Arguments of `clean`.
#[derive(Debug, Args)]
#[command(after_help = "It removes failed fetches, and incomplete files whose writer is dead, or has
not written for the stall time. It compares the index with the directory as
well. Cached images stay.

Examples:
  image-cachectl clean
  image-cachectl clean --stall-time 2h --dry-run")]
pub struct Arguments {
    /// How long a live writer may write nothing [default: that of the configuration, or 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    stall_time: Option<Duration>,
    /// Shows what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let stall_time = arguments.stall_time.or(context.settings()?.stall_time);
    let cleaned = if arguments.dry_run {
        let files = files(&cache, stall_time.unwrap_or(STALL_TIME))?;
        Cleaned { dry_run: true, removed: files.len() as u64, files: Some(files) }
    } else {
        Cleaned { dry_run: false, removed: cache.clean(stall_time)?, files: None }
    };
    context.output.print(&cleaned)?;
    Ok(Exit::Done)
}

/// What a clean would remove now.
fn files(cache: &ImageCache, stall_time: Duration) -> Result<Vec<File>, Failure> {
    let invalid = cache.list_invalid()?.into_iter().map(|image| File {
        id: image.image_id,
        size: image.size,
        state: "invalid",
        why: image.reason.map_or("it failed".to_owned(), |reason| format!("it failed: {reason}")),
    });
    let now = SystemTime::now();
    let incomplete = cache.list_incomplete()?.into_iter().filter_map(|image| {
        let idle = now.duration_since(time(image.last_modified)).unwrap_or_default();
        let why = match image.holder {
            Holder::DeadWriter => "its writer is dead".to_owned(),
            _ if idle >= stall_time => format!("not written for {}", duration(idle)),
            _ => return None,
        };
        Some(File { id: image.image_id, size: image.size, state: "incomplete", why })
    });
    Ok(invalid.chain(incomplete).collect())
}

#[derive(Debug, Serialize)]
struct Cleaned {
    dry_run: bool,
    removed: u64,
    /// Of a dry run.
    files: Option<Vec<File>>,
}

#[derive(Debug, Serialize)]
struct File {
    id: String,
    size: u64,
    /// `invalid` or `incomplete`.
    state: &'static str,
    why: String,
}

impl Shown for Cleaned {
    fn text(&self, page: &mut Page) {
        if let Some(files) = self.files.as_ref().filter(|files| !files.is_empty()) {
            let columns = [Column::Left("STATE"), Column::Right("SIZE"), Column::Wide("IMAGE")];
            let row = |file: &File| vec![file.state.to_owned(), size(file.size), file.id.clone()];
            page.table(&columns, files.iter().map(row));
        }
        let noun = if self.removed == 1 { "file" } else { "files" };
        let verb = if self.dry_run { "would be removed" } else { "removed" };
        page.line(format!("{} {noun} {verb}", count(self.removed)));
    }
}
