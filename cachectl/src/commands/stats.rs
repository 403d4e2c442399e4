//! `stats`: what all processes have counted since the cache was created.

use clap::Args;

use crate::counters::Counters;
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
    context.output.print(&Counters::from(&context.open()?.statistics()?))?;
    Ok(Exit::Done)
}

impl Shown for Counters {
    fn text(&self, page: &mut Page) {
        let failed = self.failures.sum();
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
            let reasons: Vec<_> = self.failures.reasons().into_iter().filter(|reason| reason.images > 0).collect();
            let widest = reasons.iter().map(|reason| reason.words.len()).max().unwrap_or(0);
            for reason in reasons {
                page.line(format!("  {:widest$}  {}", reason.words, count(reason.images)));
            }
        }
    }
}
