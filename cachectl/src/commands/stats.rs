//! `stats`: what all processes have counted since the cache was created.

use clap::Args;
use image_cache::Statistics;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::units::{count, images, percent, size};

/// Arguments of `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Agents write their counters at most once a second.

Example: the hit ratio
  image-cachectl stats --json | jq '.hits / (.hits + .misses)'")]
pub struct Arguments {}

/// Runs it.
pub fn run(context: &Context, _: &Arguments) -> Result<Exit, Failure> {
    context.output.print(&Stats::from(&context.open()?.statistics()?))?;
    Ok(Exit::Done)
}

#[derive(Debug, Serialize)]
struct Stats {
    hits: u64,
    misses: u64,
    bytes_served: u64,
    commits: u64,
    failures: Failures,
    evictions: u64,
    evicted_bytes: u64,
    streams_followed: u64,
    bytes_not_fetched: u64,
    verified: u64,
    found_damaged: u64,
}

/// Images that were not cached, by their reasons.
#[derive(Debug, Serialize)]
struct Failures {
    aborted_by_call: u64,
    closed_early: u64,
    wrong_digest: u64,
    wrong_size: u64,
    no_space: u64,
    lost: u64,
    source_failed: u64,
    other: u64,
}

impl Failures {
    fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("aborted by the agent", self.aborted_by_call),
            ("closed before the end", self.closed_early),
            ("wrong digest", self.wrong_digest),
            ("wrong size", self.wrong_size),
            ("no space", self.no_space),
            ("file lost", self.lost),
            ("source failed", self.source_failed),
            ("other", self.other),
        ]
    }
}

impl From<&Statistics> for Stats {
    fn from(counted: &Statistics) -> Self {
        Self {
            hits: counted.hits,
            misses: counted.misses,
            bytes_served: counted.bytes_served,
            commits: counted.commits,
            failures: Failures {
                aborted_by_call: counted.aborted_by_call,
                closed_early: counted.closed_early,
                wrong_digest: counted.wrong_digest,
                wrong_size: counted.wrong_size,
                no_space: counted.no_space,
                lost: counted.lost,
                source_failed: counted.source_failed,
                other: counted.other_failures,
            },
            evictions: counted.evictions,
            evicted_bytes: counted.evicted_bytes,
            streams_followed: counted.streams_followed,
            bytes_not_fetched: counted.bytes_not_fetched,
            verified: counted.verified,
            found_damaged: counted.found_damaged,
        }
    }
}

impl Shown for Stats {
    fn text(&self, page: &mut Page) {
        let failures = self.failures.named();
        let failed: u64 = failures.iter().map(|(_, number)| number).sum();
        let ratio = percent(self.hits, self.hits.saturating_add(self.misses));
        page.facts(&[
            ("Hits", format!("{}{}", count(self.hits), ratio.map(|ratio| format!(", {ratio}")).unwrap_or_default())),
            ("Misses", count(self.misses)),
            ("Served", size(self.bytes_served)),
            ("Cached", images(self.commits)),
            ("Not cached", images(failed)),
            ("Evicted", format!("{}, {}", images(self.evictions), size(self.evicted_bytes))),
            (
                "Fetches shared",
                format!("by {} streams, {} not fetched", count(self.streams_followed), size(self.bytes_not_fetched)),
            ),
            ("Verified", format!("{} intact, {} damaged", images(self.verified), count(self.found_damaged))),
        ]);
        if failed > 0 {
            page.gap();
            page.heading("Not cached, because");
            let named: Vec<_> = failures.into_iter().filter(|(_, number)| *number > 0).collect();
            let widest = named.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, number) in named {
                page.line(format!("  {name:widest$}  {}", count(number)));
            }
        }
    }
}
