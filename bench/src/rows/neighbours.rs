//! Hits beside a process that does slow work on the same cache.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use image_cache::DriverChoice;

use crate::bench::{Bench, DRIVERS, in_binary, name_of_driver, with_commas};
use crate::caches::Prepared;
use crate::child::Neighbour;
use crate::floor::Directory;
use crate::measure::{Pair, new_latencies, quantile};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};
use crate::rows::hits::hit_once;

/// How much of an image a hit reads.
const READ: usize = 1024;

pub fn neighbours(bench: &mut Bench) -> Result<()> {
    let cleaned = bench.sizes.cleaned;
    let clean = format!("a clean of {}", in_binary(cleaned));
    for driver in DRIVERS {
        let small = bench.caches.prepared(bench.sizes.counts[0], driver)?;
        beside(bench, &small, &clean, &["clean", &cleaned.to_string()])?;
    }
    let indexed = bench.caches.prepared(bench.sizes.large, DriverChoice::Sqlite)?;
    let images = with_commas(indexed.count);
    beside(bench, &indexed, &format!("comparisons of the index with {images} images"), &["compare"])?;
    let scanned = bench.caches.prepared(bench.sizes.large, DriverChoice::Xattr)?;
    beside(bench, &scanned, &format!("scans of {images} images"), &["scan"])?;
    let small = bench.caches.prepared(bench.sizes.counts[0], DriverChoice::Sqlite)?;
    beside(bench, &small, "another program's EXCLUSIVE lock on cache.db", &["lock"])?;
    for driver in DRIVERS {
        let small = bench.caches.prepared(bench.sizes.counts[0], driver)?;
        beside(bench, &small, "commits of 1 KiB", &["commit"])?;
    }
    Ok(())
}

/// Measures hits through one handle, in turns with the bare calls, while a child process does the work.
fn beside(bench: &mut Bench, prepared: &Prepared, what: &str, work: &[&str]) -> Result<()> {
    let driver = name_of_driver(prepared.driver);
    let directory = prepared.directory.display().to_string();
    let names = prepared.shuffled_names(prepared.count / 5);
    prepared.warm(&names)?;
    let cache = prepared.open()?;
    let mut arguments = vec!["neighbour", &directory, driver];
    arguments.extend(work);
    let neighbour = Neighbour::start(&bench.program, &arguments)?;
    let ours = |name: &str, buffer: &mut [u8]| hit_once(&cache, name, buffer);
    let pair = until_it_ends(&neighbour, bench.sizes.seconds, &names, &prepared.directory, ours)?;
    neighbour.end()?;

    let [p50, p999, worst] = figures(&pair.ours);
    let [bare_p50, bare_p999, bare_worst] = figures(&pair.floor);
    bench.report.add(
        Finding::new(format!("hit beside {what}, {driver}: p99.9"), p999, Target::AtMost(Quantity::seconds(1e-3)))
            .floor(bare_p999)
            .note(format!(
                "p50 {p50}, worst {worst}; floor: the bare calls in the same time (p50 {bare_p50}, worst {bare_worst})"
            )),
    );
    Ok(())
}

/// Both sides in turns, until the neighbour ends or the time is over.
fn until_it_ends(
    neighbour: &Neighbour,
    seconds: f64,
    names: &[String],
    directory: &Path,
    ours: impl Fn(&str, &mut [u8]) -> Result<()>,
) -> Result<Pair> {
    let bare = Directory::open(directory)?;
    let mut buffer = [0; READ];
    let mut pair = Pair { ours: new_latencies(), floor: new_latencies() };
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    // Another image for each, so that neither side warms the processor's caches for the other.
    for two in names.chunks_exact(2).cycle() {
        if neighbour.has_ended() || Instant::now() >= end {
            break;
        }
        let began = Instant::now();
        ours(&two[0], &mut buffer)?;
        let between = Instant::now();
        bare.hit(&two[1], &mut buffer)?;
        for (side, took) in [(&mut pair.ours, between - began), (&mut pair.floor, between.elapsed())] {
            side.record(u64::try_from(took.as_nanos())?).context("a latency")?;
        }
    }
    Ok(pair)
}

/// The median, the quantile of 99.9 %, and the worst.
fn figures(latencies: &crate::measure::Latencies) -> [Quantity; 3] {
    [0.5, 0.999, 1.0].map(|part| Quantity::seconds(quantile(latencies, part)))
}
