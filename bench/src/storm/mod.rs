//! A storm: many readers want one cold object at the same time, from an origin that is slow. Ours beside caching servers, on the same
//! origin, in one run: one reader alone, then all, then all while the process that fetches is killed.

mod crowd;
mod http;
mod origin;
mod peers;
mod processes;
pub mod reader;
mod server;

use anyhow::{Result, bail};
use image_cache::{DriverChoice, Durability};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::bench::{Bench, in_binary};
use crate::content::random_bytes;
use crate::machine::load;
use crate::peers::Figures;
use crate::quantity::Quantity;
use crate::storm::crowd::{ARRIVALS, LIMIT, Object, Outcome, PROCESSES, READERS};
use crate::storm::origin::{Origin, SPEED};
use crate::storm::reader::Through;

/// The name for --only.
pub const ROW: &str = "storm-peers";

/// The object's size in bytes.
const SIZE: usize = 64 << 20;

/// The last column: a reader of the origin itself.
const NO_CACHE: &str = "no cache";

/// The figures of a storm, and what they mean.
#[derive(Debug, Serialize)]
pub struct Storm {
    pub scene: String,
    /// The machine's load over a minute, before the first measurement and after the last.
    pub load: [f64; 2],
    pub peers: Vec<Figures>,
}

/// Runs the storm of each peer. The report lists those that fail as skipped.
pub fn measure(bench: &mut Bench) -> Result<Storm> {
    let content = random_bytes(SIZE);
    let object = Object { name: String::new(), size: SIZE as u64, digest: xxh3_64(&content) };
    let origin = Origin::start(content)?;
    let before = load();
    let mut all = Vec::new();
    // First, since the connections that a killed server leaves take some of the line.
    let bare = Run::Alone.of(NO_CACHE, bench, &origin, &Through::Server(origin.address), &object);

    let (cache, directory) = bench.new_cache(DriverChoice::Sqlite, Durability::Full)?;
    let through = Through::Streams { cache: directory, origin: origin.address };
    let measured = storm_of("ours", bench, &origin, &through, &object).and_then(|figures| {
        for run in Run::ALL {
            anyhow::ensure!(
                cache.is_cached(&run.object_for("ours", &object).name)?,
                "an image is not cached at the end"
            );
        }
        Ok(figures)
    });
    keep(bench, &mut all, "ours", measured);
    for recipe in &peers::PEERS {
        let directory = bench.caches.scratch("server");
        let started = recipe.start(&directory, origin.address);
        let measured =
            started.and_then(|server| storm_of(recipe.name, bench, &origin, &Through::Server(server.address), &object));
        keep(bench, &mut all, recipe.name, measured);
    }
    keep(bench, &mut all, NO_CACHE, bare.map(|alone| figures_of(NO_CACHE, &alone, None, None)));

    let scene = format!(
        "{READERS} readers in {PROCESSES} processes arrive within {ARRIVALS} s. They want {} from an origin with {}/s. \
        A reader is given up after {LIMIT} s, and does not try again. The process that fetches is killed after a third.",
        in_binary(SIZE),
        in_binary(SPEED as usize),
    );
    Ok(Storm { scene, load: [before, load()], peers: all })
}

fn keep(bench: &mut Bench, all: &mut Vec<Figures>, who: &str, measured: Result<Figures>) {
    match measured {
        Ok(figures) => all.push(figures),
        Err(error) => bench.report.skip(format!("storm: {who}"), format!("{error:#}")),
    }
}

/// The three runs, each with an object of its own, which is cold.
#[derive(Debug, Clone, Copy)]
enum Run {
    Alone,
    Storm,
    Killed,
}

impl Run {
    const ALL: [Self; 3] = [Self::Alone, Self::Storm, Self::Killed];

    fn object_for(self, who: &str, object: &Object) -> Object {
        let who: String = who.chars().filter(char::is_ascii_alphanumeric).collect();
        Object { name: format!("{who}-{self:?}"), ..object.clone() }
    }

    fn of(self, who: &str, bench: &Bench, origin: &Origin, through: &Through, object: &Object) -> Result<Outcome> {
        let count = if matches!(self, Self::Alone) { 1 } else { READERS };
        let is_killed = matches!(self, Self::Killed);
        let outcome = crowd::run(&bench.program, origin, through, &self.object_for(who, object), count, is_killed)?;
        let failure = outcome.failure.as_ref().map(|failure| format!("; one failed: {failure}")).unwrap_or_default();
        eprintln!("  storm, {who}, {self:?}: {} of {} readers are whole{failure}", outcome.whole, outcome.readers);
        Ok(outcome)
    }
}

fn storm_of(who: &str, bench: &Bench, origin: &Origin, through: &Through, object: &Object) -> Result<Figures> {
    let run = |run: Run| run.of(who, bench, origin, through, object);
    let alone = run(Run::Alone)?;
    if let Some(failure) = &alone.failure {
        bail!("one reader alone fails: {failure}");
    }
    Ok(figures_of(who, &alone, Some(&run(Run::Storm)?), Some(&run(Run::Killed)?)))
}

/// The figures, in the order of the table. Those that a run lacks are not there.
fn figures_of(who: &str, alone: &Outcome, storm: Option<&Outcome>, killed: Option<&Outcome>) -> Figures {
    let mut figures = Vec::new();
    let mut add = |name: &str, value: Option<Quantity>| figures.extend(value.map(|value| (name.to_owned(), value)));
    let count = |count: usize| Some(Quantity::count(count as f64));
    add("one reader alone: done", alone.done.map(Quantity::seconds));
    if let Some(storm) = storm {
        add("all readers: whole images", count(storm.whole));
        add("all readers: requests to the origin", count(storm.taken.requests as usize));
        add("all readers: taken from the origin", Some(Quantity::bytes(storm.taken.bytes as f64)));
        let first_byte = storm.first_byte();
        add("all readers: first byte of a follower, p50", first_byte.map(|(p50, _)| Quantity::seconds(p50)));
        add("all readers: first byte of a follower, worst", first_byte.map(|(_, worst)| Quantity::seconds(worst)));
        add("all readers: all done", storm.done.map(Quantity::seconds));
        let ratio = storm.done.zip(alone.done).map(|(all, one)| all / one);
        add("all readers: all done, divided by one alone", ratio.map(Quantity::count));
    }
    if let Some(killed) = killed {
        add("killed: readers in other processes", count(killed.readers));
        add("killed: whole images there", count(killed.whole));
        add("killed: taken from the origin", Some(Quantity::bytes(killed.taken.bytes as f64)));
        add("killed: all done there", killed.done.map(Quantity::seconds));
    }
    Figures { who: who.to_owned(), figures }
}
