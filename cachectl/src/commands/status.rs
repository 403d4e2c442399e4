//! `status`: what the cache has, and what bounds it.

use clap::Args;
use image_cache::ImageCache;
use serde::Serialize;

use crate::cli::Driver;
use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::{count, images, percent, size};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  image-cachectl -C /var/lib/images status
  image-cachectl -C /var/lib/images status --json | jq .limit.bytes")]
pub struct Arguments {}

/// Runs it.
pub fn run(context: &Context, _: &Arguments) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    let cache = context.open()?;
    let directory = settings.directory.canonicalize().unwrap_or_else(|_| settings.directory.clone());
    context.output.print(&Status::of(&cache, directory.display().to_string())?)?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Status {
    directory: String,
    driver: Driver,
    images: u64,
    bytes: u64,
    allocated: u64,
    pinned: u64,
    incomplete: Group,
    invalid: Group,
    deleted: u64,
    queued: u64,
    limit: Limit,
    disk: Disk,
    next_victim_idle: u64,
}

/// Images that are not cached.
#[derive(Debug, Serialize)]
struct Group {
    images: u64,
    allocated: u64,
}

#[derive(Debug, Serialize)]
struct Limit {
    /// `None`: there is none.
    bytes: Option<u64>,
    hard: bool,
    /// What counts for it.
    used: u64,
}

#[derive(Debug, Serialize)]
struct Disk {
    free: u64,
    min_free: u64,
    free_inodes: u64,
}

impl Status {
    fn of(cache: &ImageCache, directory: String) -> Result<Self, Failure> {
        let (usage, statistics) = (cache.usage()?, cache.statistics()?);
        let group = |images: usize, allocated| Group { images: images as u64, allocated };
        Ok(Self {
            directory,
            driver: cache.driver().into(),
            images: statistics.images,
            bytes: statistics.bytes,
            allocated: usage.cached,
            pinned: usage.pinned,
            incomplete: group(cache.list_incomplete()?.len(), usage.incomplete),
            invalid: group(cache.list_invalid()?.len(), usage.invalid),
            deleted: usage.deleted,
            queued: cache.list_queued()?.len() as u64,
            limit: Limit {
                bytes: (usage.limit != u64::MAX).then_some(usage.limit),
                hard: usage.is_hard,
                used: if usage.is_hard { usage.total() } else { statistics.bytes },
            },
            disk: Disk { free: usage.free, min_free: usage.min_free, free_inodes: usage.free_inodes },
            next_victim_idle: statistics.next_victim_idle,
        })
    }
}

impl Shown for Status {
    fn text(&self, page: &mut Page) {
        let group = |group: &Group| match group.images {
            0 => "none".to_owned(),
            number => format!("{}, {} on the disk", images(number), size(group.allocated)),
        };
        let failed = match self.invalid.images {
            0 => String::new(),
            _ => ": see 'list --invalid'".to_owned(),
        };
        let limit = match self.limit.bytes {
            None => "none: 'limit set SIZE' makes one that holds for all".to_owned(),
            Some(bytes) => {
                let used = percent(self.limit.used, bytes).map(|used| format!(", {used} used")).unwrap_or_default();
                format!("{}, {}{used}", size(bytes), if self.limit.hard { "hard" } else { "soft" })
            }
        };
        let floor = match self.disk.min_free {
            0 => String::new(),
            bytes => format!(", of which {} stay free", size(bytes)),
        };
        let inodes = match self.disk.free_inodes {
            0 => String::new(),
            number => format!("; {} inodes free", count(number)),
        };
        let disk = format!("{} free{floor}{inodes}", size(self.disk.free));
        let mut facts = vec![
            ("Directory", self.directory.clone()),
            ("Driver", self.driver.name().to_owned()),
            ("Cached", format!("{}, {}, {} on the disk", images(self.images), size(self.bytes), size(self.allocated))),
            ("Pinned", if self.pinned > 0 { format!("{} on the disk", size(self.pinned)) } else { "none".to_owned() }),
            ("Being cached", group(&self.incomplete)),
            ("Failed", group(&self.invalid) + &failed),
            ("Queued", if self.queued > 0 { images(self.queued) } else { "none".to_owned() }),
            ("Limit", limit),
            ("Disk", disk),
        ];
        if self.deleted > 0 {
            facts.push(("Deleted, open", format!("{} on the disk", size(self.deleted))));
        }
        // 0 also if no image can be evicted.
        if self.next_victim_idle > 0 {
            let idle = crate::units::duration(std::time::Duration::from_secs(self.next_victim_idle));
            facts.push(("Evicted next", format!("an image that was accessed {idle} ago")));
        }
        page.facts(&facts);
    }
}
