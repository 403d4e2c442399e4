//! `report`: a page with charts of the cache.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::files::are_same;
use crate::metrics::history;
use crate::metrics::snapshot::Snapshot;
use crate::open::Context;
use crate::output::{Page, Shown};
use crate::report::{Facts, html};
use crate::target::write;
use crate::units::count;

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "The page is one file, which needs no network. Charts over time need samples,
which 'metrics --history' appends to a file: run it every few minutes, by cron
or by the timer image-cache-metrics.timer.

Example:
  image-cachectl report --html report.html --history history.jsonl")]
pub struct Arguments {
    /// The page, which is replaced by one rename
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// The samples that 'metrics --history' has appended to this file
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    if arguments.history.as_ref().is_some_and(|history| are_same(history, &arguments.html)) {
        return Err(Failure::usage("--html would replace the history: it is the same file"));
    }
    let cache = context.open()?;
    let (samples, skipped) = match &arguments.history {
        None => (Vec::new(), 0),
        Some(path) => {
            let samples = context.as_caller(|| history::read(path, until()))?;
            samples.map_err(|error| Failure::io(&format!("read '{}'", path.display()), &error))?
        }
    };
    if skipped > 0 {
        let lines =
            if skipped == 1 { "line of the history is no sample" } else { "lines of the history are no samples" };
        context.output.message("warning", &format!("{skipped} {lines}"));
    }
    let directory = settings.directory.canonicalize().unwrap_or_else(|_| settings.directory.clone());
    let snapshot = Snapshot::of(&cache, directory.display().to_string())?;
    let images = cache.list_cached()?.collect();
    let written = Written { html: arguments.html.display().to_string(), samples: samples.len() as u64 };
    let page = html(&Facts { snapshot, samples, images });
    write(context, &arguments.html, "write", |target| target.replace(page.as_bytes()))?;
    context.output.print(&written)?;
    Ok(Exit::Done)
}

/// Samples are of this time at the latest. The clock of the host that wrote them may be ahead by a day.
fn until() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs().saturating_add(86_400)
}

#[derive(Debug, Serialize)]
struct Written {
    html: String,
    /// How many samples the charts over time have.
    samples: u64,
}

impl Shown for Written {
    fn text(&self, page: &mut Page) {
        let samples = match self.samples {
            0 => "without a history".to_owned(),
            1 => "with 1 sample".to_owned(),
            number => format!("with {} samples", count(number)),
        };
        page.line(format!("Written: {}, {samples}", self.html));
    }
}
