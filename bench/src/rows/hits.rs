//! Reading a small piece of a cached image, and `is_cached`.

use anyhow::{Context as _, Result};
use image_cache::{DriverChoice, ImageCache};

use crate::bench::{Bench, DRIVERS, name_of_driver, with_commas};
use crate::caches::IMAGE_BYTES;
use crate::child;
use crate::floor::Directory;
use crate::measure::{Sample, alternate, quantile};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};

/// Open, read 4 KiB, close.
pub fn hit_once(cache: &ImageCache, name: &str, buffer: &mut [u8]) -> Result<()> {
    let mut reader = cache.open_for_read(name)?;
    anyhow::ensure!(reader.read(buffer)? == buffer.len(), "{name} is shorter than it was written");
    Ok(())
}

pub fn hit(bench: &mut Bench) -> Result<()> {
    const ROUNDS: usize = 100;
    const BATCH: usize = 100;
    for driver in DRIVERS {
        let prepared = bench.caches.prepared(bench.sizes.large, driver)?;
        // A fifth of them: the images that no row reads stay the first that a prune evicts.
        let names = prepared.shuffled_names(prepared.count / 5);
        let images = with_commas(prepared.count);
        prepared.warm(&names)?;
        let directory = Directory::open(&prepared.directory)?;
        let cache = prepared.open()?;
        let mut buffer = [0; IMAGE_BYTES as usize];
        let mut floor_buffer = buffer;
        let half = names.len() / 2;
        let pair = alternate(
            ROUNDS,
            BATCH,
            Sample::Operation,
            |number| hit_once(&cache, &names[number % names.len()], &mut buffer),
            // Another image, so that neither side warms the processor's caches for the other.
            |number| directory.hit(&names[(number + half) % names.len()], &mut floor_buffer),
        )?;
        let (ours, floor) = pair.medians();
        let driver = name_of_driver(driver);
        bench.report.add(Finding::times(
            format!("hit, {images} images, {driver}: p50"),
            ours,
            floor,
            Target::AtMostTimes(2.0),
        ));
        let target = if driver == "sqlite" { Target::AtMostTimes(10.0) } else { Target::None };
        let note =
            format!("floor: its own p50; the bare calls' p99 is {}", Quantity::seconds(quantile(&pair.floor, 0.99)));
        bench.report.add(
            Finding::times(format!("hit, {images} images, {driver}: p99"), quantile(&pair.ours, 0.99), ours, target)
                .note(note),
        );
    }
    Ok(())
}

/// The system calls of hits that wait for a disk or write to the index.
pub fn system_calls(bench: &mut Bench) -> Result<()> {
    const HITS: usize = 1000;
    index_writes(bench)?;
    let row = "hit, sqlite: syncs";
    let prepared = bench.caches.prepared(bench.sizes.counts[0], DriverChoice::Sqlite)?;
    let arguments =
        [prepared.directory.display().to_string(), name_of_driver(DriverChoice::Sqlite).to_owned(), HITS.to_string()];
    let counted =
        child::count_syncs(&bench.program, bench.caches.root(), &arguments).context("counting system calls")?;
    let Some(counted) = counted else {
        bench.report.skip(row, "strace, which counts system calls, is not installed or not permitted");
        return Ok(());
    };
    let per_hit = |calls: usize| calls as f64 / HITS as f64;
    bench.report.add(Finding::new(
        "hit, sqlite: fsync and fdatasync calls per hit",
        Quantity::count(per_hit(counted)),
        Target::AtMost(Quantity::count(0.0)),
    ));
    Ok(())
}

/// How often hits at full speed write to the index.
fn index_writes(bench: &mut Bench) -> Result<()> {
    const HITS: usize = 20_000;
    /// A batch of hits is one transaction, so a hit alone has almost none.
    const FEW: f64 = 0.01;
    let prepared = bench.caches.prepared(bench.sizes.counts[0], DriverChoice::Sqlite)?;
    let (directory, hits) = (prepared.directory.display().to_string(), HITS.to_string());
    let writes: u64 = child::run(&bench.program, &["writes-of-hits", &directory, "sqlite", &hits])?;
    bench.report.add(
        Finding::new(
            "hit, sqlite: index writes per hit",
            Quantity::count(writes as f64 / HITS as f64),
            Target::AtMost(Quantity::count(FEW)),
        )
        .note(format!("{writes} calls in {} hits at full speed", with_commas(HITS))),
    );
    Ok(())
}

pub fn is_cached(bench: &mut Bench) -> Result<()> {
    const ROUNDS: usize = 200;
    const BATCH: usize = 100;
    for driver in DRIVERS {
        let prepared = bench.caches.prepared(bench.sizes.large, driver)?;
        let names = prepared.shuffled_names(2 * BATCH * 10);
        let directory = Directory::open(&prepared.directory)?;
        let cache = prepared.open()?;
        let pair = alternate(
            ROUNDS,
            BATCH,
            Sample::Batch,
            |number| {
                anyhow::ensure!(cache.is_cached(&names[number % names.len()])?);
                Ok(())
            },
            |number| directory.exists(&names[number % names.len()]),
        )?;
        let (ours, floor) = pair.medians();
        let row = format!("is_cached, {}", name_of_driver(driver));
        bench.report.add(Finding::times(row, ours, floor, Target::AtMostTimes(1.5)));
    }
    Ok(())
}
