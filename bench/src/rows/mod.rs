//! The rows, in the order in which they are measured and printed.

mod commits;
mod crash;
mod digests;
pub mod growth;
pub mod hits;
mod memory;
mod processes;
mod prune;
mod reads;
pub mod streams;

use anyhow::Result;

use crate::bench::Bench;

/// One measurement, which may find several figures.
pub struct Row {
    pub name: &'static str,
    pub run: fn(&mut Bench) -> Result<()>,
}

const fn row(name: &'static str, run: fn(&mut Bench) -> Result<()>) -> Row {
    Row { name, run }
}

/// Prune comes after what looks at the same caches: it evicts what was never used, and so leaves the order as it was.
pub const ALL: &[Row] = &[
    row("hit", hits::hit),
    row("hit-calls", hits::system_calls),
    row("is-cached", hits::is_cached),
    row("commit", commits::commit),
    row("write", streams::write),
    row("digest", digests::digest),
    row("read", reads::read),
    row("tee", streams::tee),
    row("growth", growth::growth),
    row("prune", prune::prune),
    row("crash", crash::crash),
    row("processes", processes::processes),
    row("writer-memory", memory::writers),
    row("page-cache", memory::page_cache),
];
