//! `pin` and `unpin`: what is neither evicted nor deleted.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::commands::show::{holder_of, pin_text};
use crate::each::{Problem, each};
use crate::exit::{Exit, Failure};
use crate::image::end;
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::parse_duration;

/// The holder of pins that name none.
const HOLDER: &str = "image-cachectl";

/// Longer than any clock counts.
const WITHOUT_END: Duration = Duration::from_secs(u64::MAX >> 1);

/// Arguments of `pin`.
#[derive(Debug, Args)]
#[command(after_help = "An image can have many pins, one a holder. A second pin of the same holder
replaces its time. If the cache has a limit, at most half of it can be pinned.

Examples:
  image-cachectl pin noble --for 7d
  image-cachectl pin noble --holder 'boot storm of Monday' --for 3d")]
pub struct Pinning {
    /// The images' ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// For how long, such as 2h or 7d [default: until it is unpinned]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    time: Option<Duration>,
    /// Who has it pinned
    #[arg(long, value_name = "NAME", default_value = HOLDER)]
    holder: String,
}

/// Arguments of `unpin`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  image-cachectl unpin noble
  image-cachectl unpin noble --holder 'boot storm of Monday'
  image-cachectl unpin noble --all-holders --dry-run")]
pub struct Unpinning {
    /// The images' ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Whose pin is removed
    #[arg(long, value_name = "NAME", default_value = HOLDER)]
    holder: String,
    /// Removes the pins of all holders
    #[arg(long, conflicts_with = "holder")]
    all_holders: bool,
    /// Shows what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs `pin`.
pub fn pin(context: &Context, arguments: &Pinning) -> Result<Exit, Failure> {
    if arguments.time == Some(Duration::ZERO) {
        return Err(Failure::usage("a pin cannot last for 0 seconds").hint("Leave out --for to pin without an end."));
    }
    let cache = context.open()?;
    let each = each(context, &arguments.images, |id| {
        cache.pin(id, &arguments.holder, Some(arguments.time.unwrap_or(WITHOUT_END)))?;
        let pins = cache.pins(id)?;
        let pin = pins.iter().find(|pin| pin.holder == arguments.holder.as_bytes());
        let (until, text) = pin.map_or((None, "not any more".to_owned()), |pin| (end(pin.until), pin_text(pin)));
        Ok(Pinned { id: id.to_owned(), holder: arguments.holder.clone(), until, text })
    });
    context.output.print(&PinnedImages { pinned: each.done, failed: each.failed })?;
    Ok(each.exit)
}

#[derive(Debug, Serialize)]
struct PinnedImages {
    pinned: Vec<Pinned>,
    failed: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Pinned {
    id: String,
    holder: String,
    until: Option<String>,
    #[serde(skip)]
    text: String,
}

impl Shown for PinnedImages {
    fn text(&self, page: &mut Page) {
        for Pinned { id, text, .. } in &self.pinned {
            page.line(format!("Image '{id}' is pinned {text}."));
        }
    }
}

/// Runs `unpin`.
pub fn unpin(context: &Context, arguments: &Unpinning) -> Result<Exit, Failure> {
    let cache = context.open()?;
    let each = each(context, &arguments.images, |id| {
        // Fails for an image that is not cached.
        cache.image_size(id)?;
        let pins = cache.pins(id)?;
        let is_meant = |holder: &[u8]| arguments.all_holders || holder == arguments.holder.as_bytes();
        let meant: Vec<_> = pins.iter().filter(|pin| is_meant(&pin.holder)).collect();
        if meant.is_empty() {
            let others: Vec<_> = pins.iter().map(|pin| format!("'{}'", holder_of(pin))).collect();
            let by = if arguments.all_holders { String::new() } else { format!(" by '{}'", arguments.holder) };
            let failure = Failure::new(Exit::NotFound, format!("image '{id}' is not pinned{by}"));
            return Err(if others.is_empty() {
                failure
            } else {
                failure.hint(format!("It is pinned by {}: use --holder.", others.join(", ")))
            });
        }
        if !arguments.dry_run {
            meant.iter().try_for_each(|pin| cache.unpin(id, &pin.holder))?;
        }
        Ok(Unpinned { id: id.to_owned(), holders: meant.iter().map(|pin| holder_of(pin)).collect() })
    });
    context.output.print(&UnpinnedImages { dry_run: arguments.dry_run, unpinned: each.done, failed: each.failed })?;
    Ok(each.exit)
}

#[derive(Debug, Serialize)]
struct UnpinnedImages {
    dry_run: bool,
    unpinned: Vec<Unpinned>,
    failed: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Unpinned {
    id: String,
    holders: Vec<String>,
}

impl Shown for UnpinnedImages {
    fn text(&self, page: &mut Page) {
        let verb = if self.dry_run { "would be removed" } else { "is removed" };
        for Unpinned { id, holders } in &self.unpinned {
            for holder in holders {
                page.line(format!("The pin of image '{id}' by '{holder}' {verb}."));
            }
        }
    }
}
