//! `prune` and `make-room`: the least recently accessed images are evicted.

use clap::Args;
use image_cache::{ImageCache, Options, Pruned};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::plan::{Goal, Plan};
use crate::settings::Floor;
use crate::units::{images, parse_size, size};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(after_help = "Pinned images, images that anybody has open, and empty ones stay. If the limit
is missed only for them, the exit code is 0.

Examples: down to the limit, and to another size
  image-cachectl prune
  image-cachectl prune --to 20G --dry-run")]
pub struct Pruning {
    /// Evicts until the rest has at most so many bytes [default: the limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    to: Option<u64>,
    /// Evicts until so much is free on the file system, such as 10G, 5% or 10G,5%
    #[arg(long, value_name = "FLOOR", value_parser = Floor::parse)]
    min_free: Option<Floor>,
    /// Shows what would be evicted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Arguments of `make-room`.
#[derive(Debug, Args)]
#[command(after_help = "If there can be no room within the limit, nothing is evicted, and the exit code
is 6. If less is free than the floor already, images are evicted in any case.
Another program may take the room before the image is added.

Example:
  image-cachectl make-room 40G --dry-run")]
pub struct MakingRoom {
    /// The size of the image for which room is made
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    bytes: u64,
    /// What stays free on the file system beside it, such as 10G, 5% or 10G,5%
    #[arg(long, value_name = "FLOOR", value_parser = Floor::parse)]
    min_free: Option<Floor>,
    /// Shows what would be evicted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Runs `prune`.
pub fn prune(context: &Context, arguments: &Pruning) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let floor = arguments.min_free.unwrap_or(settings.min_free);
    let cache = context.open_with(|options| with_floor(options, floor))?;
    let limit = cache.usage()?.limit;
    if arguments.to.is_none() && limit == u64::MAX && floor == Floor::default() {
        return Err(Failure::usage("the cache has no limit").hint(
            "Give one with --to SIZE, as 'max-size' in the configuration, or for all agents with 'limit set SIZE'.",
        ));
    }
    let limit = arguments.to.unwrap_or(limit);
    if arguments.dry_run {
        let plan = Plan::new(&cache, Goal::of(&cache, Some(limit), 0)?)?;
        return print_plan(context, plan);
    }
    let pruned = cache.prune_to(limit)?;
    let Goal { lengths, blocks } = Goal::of(&cache, Some(limit), 0)?;
    let below_floor = is_below_floor(&cache)?;
    print(context, pruned, lengths.max(blocks), below_floor)
}

/// Runs `make-room`.
pub fn make_room(context: &Context, arguments: &MakingRoom) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let floor = arguments.min_free.unwrap_or(settings.min_free);
    let cache = context.open_with(|options| with_floor(options, floor))?;
    if arguments.dry_run {
        return dry_room(context, &cache, arguments.bytes);
    }
    print(context, cache.make_room(arguments.bytes)?, 0, false)
}

fn dry_room(context: &Context, cache: &ImageCache, bytes: u64) -> Result<Exit, Failure> {
    let plan = Plan::new(cache, Goal::of(cache, None, bytes)?)?;
    if plan.missing > 0 {
        return Err(Failure::new(
            Exit::NoRoom,
            format!("room for {} cannot be made: {} would be missing", size(bytes), size(plan.missing)),
        )
        .hint(if is_below_floor(cache)? {
            "Less is free than the floor: images would be evicted all the same."
        } else {
            "Nothing would be evicted."
        }));
    }
    print_plan(context, plan)
}

/// Whether less is free than must stay free, which an eviction can change.
fn is_below_floor(cache: &ImageCache) -> Result<bool, Failure> {
    let usage = cache.usage()?;
    Ok(usage.free < usage.min_free)
}

fn with_floor(options: Options, floor: Floor) -> Result<Options, image_cache::Error> {
    options.min_free(floor.bytes, floor.percent)
}

fn print(context: &Context, pruned: Pruned, missing: u64, below_floor: bool) -> Result<Exit, Failure> {
    let Pruned { images, bytes } = pruned;
    let evicted = Evicted { dry_run: false, images, bytes, missing, below_floor, plan: None };
    context.output.print(&evicted)?;
    Ok(Exit::Done)
}

fn print_plan(context: &Context, plan: Plan) -> Result<Exit, Failure> {
    let evicted = Evicted {
        dry_run: true,
        images: plan.evicted.len() as u64,
        bytes: plan.bytes(),
        missing: plan.missing,
        below_floor: false,
        plan: Some(plan),
    };
    context.output.print(&evicted)?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Evicted {
    dry_run: bool,
    images: u64,
    bytes: u64,
    /// How many bytes the limit or the floor is missed by.
    missing: u64,
    /// Whether less is free than the floor.
    #[serde(skip)]
    below_floor: bool,
    /// Of a dry run.
    plan: Option<Plan>,
}

impl Shown for Evicted {
    fn text(&self, page: &mut Page) {
        if let Some(plan) = &self.plan {
            return plan.text(page);
        }
        page.line(format!("{} evicted, {}", images(self.images), size(self.bytes)));
        if self.missing > 0 {
            let (bounds, is_full) = if self.below_floor {
                ("floor", "what else is on the disk is not the cache's, or it is pinned, in use, or being cached")
            } else {
                ("limit", "what is left is pinned, in use, or being cached")
            };
            page.warning(&format!("The {bounds} is missed by {}: {is_full}.", size(self.missing)));
        }
    }
}
