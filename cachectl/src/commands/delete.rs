//! `delete`: cached images, whatever their age.

use clap::Args;
use image_cache::{Error, ImageCache};
use serde::Serialize;

use crate::commands::show::pin_text;
use crate::each::{Problem, each};
use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Column, Page, Shown};
use crate::units::{images, size};

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(after_help = "Programs that have an image open keep its bytes until they close it. Pinned
images stay: exit code 4.

Examples:
  image-cachectl delete bookworm
  image-cachectl delete --all --unused --dry-run")]
pub struct Arguments {
    /// The images' ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
    /// Deletes all cached images
    #[arg(long, conflicts_with = "images")]
    all: bool,
    /// Leaves images that anybody has open
    #[arg(long)]
    unused: bool,
    /// Shows what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let ids = if arguments.all {
        cache.list_cached()?.map(|image| image.image_id).collect()
    } else {
        arguments.images.clone()
    };
    let each = each(context, &ids, |id| {
        let bytes = cache.image_size(id)?;
        let is_deleted =
            if arguments.dry_run { would_be_deleted(&cache, id, arguments)? } else { delete(&cache, id, arguments)? };
        if !is_deleted {
            return Err(Failure::new(Exit::Busy, format!("image '{id}' is in use, and stays")));
        }
        Ok(Deleted { id: id.to_owned(), size: bytes })
    });
    let bytes = each.done.iter().fold(0, |sum: u64, image| sum.saturating_add(image.size));
    context.output.print(&DeletedImages {
        dry_run: arguments.dry_run,
        deleted: each.done,
        bytes,
        failed: each.failed,
    })?;
    Ok(each.exit)
}

fn delete(cache: &ImageCache, id: &str, arguments: &Arguments) -> Result<bool, Failure> {
    if arguments.unused {
        return match cache.delete_unused_image(id) {
            Err(Error::Pinned { .. }) => Err(pinned(cache, id)?),
            deleted => Ok(deleted?),
        };
    }
    match cache.delete_cached_image(id) {
        Err(Error::Pinned { .. }) => Err(pinned(cache, id)?),
        deleted => Ok(deleted.map(|()| true)?),
    }
}

fn would_be_deleted(cache: &ImageCache, id: &str, arguments: &Arguments) -> Result<bool, Failure> {
    if !cache.pins(id)?.is_empty() {
        return Err(pinned(cache, id)?);
    }
    Ok(!arguments.unused || !cache.is_in_use(id)?)
}

/// The failure of an image that is pinned.
fn pinned(cache: &ImageCache, id: &str) -> Result<Failure, Failure> {
    let pins: Vec<_> = cache.pins(id)?.iter().map(pin_text).collect();
    Ok(Failure::new(Exit::Busy, format!("image '{id}' is pinned {}", pins.join(", "))).hint("'unpin' removes pins."))
}

#[derive(Debug, Serialize)]
struct DeletedImages {
    dry_run: bool,
    deleted: Vec<Deleted>,
    /// Their lengths.
    bytes: u64,
    failed: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    id: String,
    size: u64,
}

impl Shown for DeletedImages {
    fn text(&self, page: &mut Page) {
        if self.dry_run && !self.deleted.is_empty() {
            let rows = self.deleted.iter().map(|image| vec![image.id.clone(), size(image.size)]);
            page.table(&[Column::Wide("IMAGE"), Column::Right("SIZE")], rows);
        }
        let verb = if self.dry_run { "would be deleted" } else { "deleted" };
        page.line(format!("{} {verb}, {}", images(self.deleted.len() as u64), size(self.bytes)));
    }
}
