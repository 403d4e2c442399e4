//! `limit`: what the cache may take up.

use clap::{Args, Subcommand};
use image_cache::{ImageCache, LimitMode, Usage};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::plan::{Goal, Plan};
use crate::units::{parse_size, percent, size};

/// Arguments of `limit`.
#[derive(Debug, Args)]
#[command(after_help = "A hard limit is kept in the directory, and holds for all agents at once:
images are evicted for what is written. Without one, each agent has its own
limit, to which it prunes; this tool has 'max-size' of the configuration. What
stays free on the file system (the floor) is each program's own setting too:
'min-free' of the configuration, or --min-free of 'prune' and 'make-room'.

Examples:
  image-cachectl limit show
  image-cachectl limit set 50G --dry-run
  image-cachectl limit remove")]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the limit, what is used of it, and the floor: the default
    Show(Show),
    /// Sets a hard limit, and evicts down to it
    Set(Set),
    /// Removes the hard limit: each agent then has its own
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  image-cachectl limit show --json | jq .used")]
struct Show {}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  image-cachectl limit set 50G --dry-run")]
struct Set {
    /// The limit, such as 50G or 1.5TiB
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    bytes: u64,
    /// Shows what would be evicted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  image-cachectl limit remove")]
struct Remove {}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        None | Some(Command::Show(_)) => print(context, &context.open()?, None),
        Some(Command::Set(set)) if set.dry_run => {
            let cache = context.open()?;
            let usage = cache.usage()?;
            // A hard limit counts blocks, whatever the present one counts.
            let goal = Goal { lengths: 0, blocks: usage.total().saturating_sub(set.bytes) };
            let plan = Plan::new(&cache, goal)?;
            print(context, &cache, Some((set.bytes, plan)))
        }
        Some(Command::Set(set)) => {
            let cache = context.open_with(|options| Ok(options.max_size(set.bytes).limit_mode(LimitMode::Hard)))?;
            check(&cache, Some(set.bytes))?;
            print(context, &cache, None)
        }
        Some(Command::Remove(_)) => {
            let cache = context.open_with(|options| Ok(options.limit_mode(LimitMode::Soft)))?;
            check(&cache, None)?;
            print(context, &cache, None)
        }
    }
}

/// A handle that may not write opens the cache, and leaves the limit as it is.
fn check(cache: &ImageCache, limit: Option<u64>) -> Result<(), Failure> {
    let usage = cache.usage()?;
    if usage.is_hard == limit.is_some() && limit.is_none_or(|limit| limit == usage.limit) {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "the limit stays as it is: this user may not write to the cache"))
}

fn print(context: &Context, cache: &ImageCache, planned: Option<(u64, Plan)>) -> Result<Exit, Failure> {
    let usage = cache.usage()?;
    let used = if usage.is_hard { usage.total() } else { cache.cache_size()? };
    context.output.print(&State::new(&usage, used, planned))?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct State {
    dry_run: bool,
    /// `None`: there is none. Of a dry run: the present one.
    limit: Option<u64>,
    hard: bool,
    used: u64,
    free: u64,
    min_free: u64,
    plan: Option<Plan>,
    #[serde(skip)]
    planned: Option<u64>,
}

impl State {
    fn new(usage: &Usage, used: u64, planned: Option<(u64, Plan)>) -> Self {
        let (planned, plan) = planned.unzip();
        Self {
            dry_run: plan.is_some(),
            limit: (usage.limit != u64::MAX).then_some(usage.limit),
            hard: usage.is_hard,
            used,
            free: usage.free,
            min_free: usage.min_free,
            plan,
            planned,
        }
    }
}

impl Shown for State {
    fn text(&self, page: &mut Page) {
        if let (Some(plan), Some(bytes)) = (&self.plan, self.planned) {
            page.line(format!("The limit would be {}, hard", size(bytes)));
            return plan.text(page);
        }
        let limit = match (self.limit, self.hard) {
            (None, _) => "none".to_owned(),
            (Some(bytes), true) => format!("{}, hard: for all agents", size(bytes)),
            (Some(bytes), false) => format!("{}, soft: 'prune' of this configuration", size(bytes)),
        };
        let part = self.limit.and_then(|limit| percent(self.used, limit));
        let part = part.map(|part| format!(", {part}")).unwrap_or_default();
        page.facts(&[
            ("Limit", limit),
            ("Used", format!("{}{part}", size(self.used))),
            ("Floor", if self.min_free > 0 { format!("{} stay free", size(self.min_free)) } else { "none".to_owned() }),
            ("Disk", format!("{} free", size(self.free))),
        ]);
        if self.limit.is_some_and(|limit| self.used > limit) {
            page.warning("The limit is missed: what is left is pinned, in use, or being cached; or was not pruned.");
        }
    }
}
