//! `metrics`: numbers for Prometheus.

use std::path::PathBuf;

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::files::are_same;
use crate::metrics::exposition::{Format, text};
use crate::metrics::families::families;
use crate::metrics::history::{KEPT, Sample, WAIT, append};
use crate::metrics::snapshot::Snapshot;
use crate::open::Context;
use crate::target::write;

/// Arguments of `metrics`.
#[derive(Debug, Args)]
#[command(after_help = "docs/metrics.md lists the metrics. Counters are those of all processes, and grow
over restarts.

Examples: what there is; a file for node_exporter, and a sample for 'report'
  image-cachectl metrics
  image-cachectl metrics --textfile image_cache.prom --history history.jsonl")]
pub struct Arguments {
    /// Replaces this file by one rename, instead of printing; Prometheus wants a name that ends in .prom
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    textfile: Option<PathBuf>,
    /// Appends a sample to this file, which 'report' draws
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The format
    #[arg(long, value_enum, default_value_t, conflicts_with = "json")]
    format: Format,
}

/// Runs it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let settings = context.settings()?;
    if let (Some(textfile), Some(history)) = (&arguments.textfile, &arguments.history)
        && are_same(textfile, history)
    {
        return Err(Failure::usage("--textfile would replace the history: it is the same file"));
    }
    let cache = context.open()?;
    let directory = settings.directory.canonicalize().unwrap_or_else(|_| settings.directory.clone());
    let snapshot = Snapshot::of(&cache, directory.display().to_string())?;
    drop(cache);
    let shown = if context.output.json {
        let json = serde_json::to_string_pretty(&snapshot);
        json.map_err(|error| Failure::new(Exit::Failed, format!("cannot write the JSON: {error}")))? + "\n"
    } else {
        text(&families(&snapshot), arguments.format)
    };
    match &arguments.textfile {
        None => context.output.write(&shown)?,
        Some(path) => {
            write(context, path, "write", |target| target.replace(shown.as_bytes()))?;
        }
    }
    // Last: who locks the history does not stop the metrics.
    if let Some(history) = &arguments.history {
        write(context, history, "append to", |target| append(target, &Sample::from(&snapshot), KEPT, WAIT))?;
    }
    Ok(Exit::Done)
}
