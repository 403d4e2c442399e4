//! The rows, in the order of measurement and output.

mod bounds;
pub mod commits;
mod crash;
mod digests;
pub mod growth;
pub mod hits;
mod in_and_out;
mod memory;
mod neighbours;
mod processes;
mod prune;
mod reads;
mod shared;
pub mod streams;
mod verify;

use anyhow::Result;

use crate::bench::Bench;

/// One measurement, of one or more figures.
pub struct Row {
    pub name: &'static str,
    pub run: fn(&mut Bench) -> Result<()>,
}

const fn row(name: &'static str, run: fn(&mut Bench) -> Result<()>) -> Row {
    Row { name, run }
}

/// Prune comes after the rows that read the same caches. It evicts images that no row has read.
pub const ALL: &[Row] = &[
    row("hit", hits::hit),
    row("hit-calls", hits::system_calls),
    row("is-cached", hits::is_cached),
    row("commit", commits::commit),
    row("bounds", bounds::commit),
    row("make-room", bounds::make_room),
    row("write", streams::write),
    row("digest", digests::digest),
    row("verify", verify::verify),
    row("inspect", in_and_out::inspect),
    row("export", in_and_out::export),
    row("import", in_and_out::import),
    row("read", reads::read),
    row("tee", streams::tee),
    row("stream", shared::fast_source),
    row("follow", shared::followers),
    row("storm", shared::storm),
    row("wait", shared::wait),
    row("growth", growth::growth),
    row("neighbours", neighbours::neighbours),
    row("prune", prune::prune),
    row("crash", crash::crash),
    row("processes", processes::processes),
    row("writer-memory", memory::writers),
    row("page-cache", memory::page_cache),
];
