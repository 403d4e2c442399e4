//! The cost of operations as the number of images grows, and of those that read all images.

use anyhow::Result;
use image_cache::DriverChoice;

use crate::bench::{Bench, DRIVERS, name_of_driver, with_commas};
use crate::caches::{IMAGE_BYTES, Prepared};
use crate::child::{self, Listed};
use crate::floor::Directory;
use crate::measure::{latencies, median_of, quantile, seconds};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};
use crate::rows::hits::hit_once;

/// Names of the curves.
pub const HIT: &str = "hit";
pub const IS_CACHED: &str = "is_cached";
pub const SIZE: &str = "cache size";
pub const OPEN: &str = "open";
pub const LIST: &str = "list, per image";
pub const PRUNE: &str = "prune, per victim";

/// The name of the floor's curve.
const BARE: &str = "bare calls";

pub fn growth(bench: &mut Bench) -> Result<()> {
    for count in bench.sizes.counts.clone() {
        for driver in DRIVERS {
            let Some(prepared) = bench.prepared_or_skip("growth", count, driver) else { continue };
            opens(bench, &prepared)?;
            small_operations(bench, &prepared)?;
            size(bench, &prepared)?;
            list(bench, &prepared)?;
        }
    }
    Ok(())
}

fn opens(bench: &mut Bench, prepared: &Prepared) -> Result<()> {
    let took = median_of(9, || {
        let (took, cache) = seconds(|| prepared.open())?;
        drop(cache);
        Ok(took)
    })?;
    bench.report.point(OPEN, name_of_driver(prepared.driver), prepared.count, took);
    if prepared.count == bench.sizes.largest {
        let target = target_of(prepared, Target::AtMost(Quantity::seconds(0.010)));
        bench.report.add(Finding::new(row("open, closed before", prepared), Quantity::seconds(took), target));
    }
    Ok(())
}

fn small_operations(bench: &mut Bench, prepared: &Prepared) -> Result<()> {
    const OPERATIONS: usize = 3000;
    let who = name_of_driver(prepared.driver);
    let cache = prepared.open()?;
    let names = prepared.shuffled_names((prepared.count / 5).min(OPERATIONS));
    prepared.warm(&names)?;
    let mut buffer = [0; IMAGE_BYTES as usize];
    let hits = latencies(OPERATIONS, |number| hit_once(&cache, &names[number % names.len()], &mut buffer))?;
    bench.report.point(HIT, who, prepared.count, quantile(&hits, 0.5));
    let queries = latencies(OPERATIONS, |number| {
        cache.is_cached(&names[number % names.len()])?;
        Ok(())
    })?;
    bench.report.point(IS_CACHED, who, prepared.count, quantile(&queries, 0.5));
    if prepared.driver == DriverChoice::Sqlite {
        let directory = Directory::open(&prepared.directory)?;
        let hits = latencies(OPERATIONS, |number| directory.hit(&names[number % names.len()], &mut buffer))?;
        bench.report.point(HIT, BARE, prepared.count, quantile(&hits, 0.5));
        let queries = latencies(OPERATIONS, |number| directory.exists(&names[number % names.len()]))?;
        bench.report.point(IS_CACHED, BARE, prepared.count, quantile(&queries, 0.5));
    }
    Ok(())
}

fn size(bench: &mut Bench, prepared: &Prepared) -> Result<()> {
    let cache = prepared.open()?;
    let operations = if prepared.driver == DriverChoice::Sqlite { 1000 } else { 3 };
    let sizes = latencies(operations, |_| {
        anyhow::ensure!(cache.cache_size()? == prepared.count as u64 * IMAGE_BYTES, "the cache has another size");
        Ok(())
    })?;
    let took = quantile(&sizes, 0.5);
    bench.report.point(SIZE, name_of_driver(prepared.driver), prepared.count, took);
    if prepared.count == bench.sizes.largest {
        let target = target_of(prepared, Target::AtMost(Quantity::seconds(20e-6)));
        bench.report.add(Finding::new(row("cache size", prepared), Quantity::seconds(took), target));
    }
    Ok(())
}

/// In a child process, to measure its memory.
fn list(bench: &mut Bench, prepared: &Prepared) -> Result<()> {
    let arguments = ["list", &prepared.directory.display().to_string(), name_of_driver(prepared.driver)];
    let mut growths = Vec::new();
    let took = median_of(3, || {
        let listed: Listed = child::run(&bench.program, &arguments)?;
        anyhow::ensure!(listed.images == prepared.count, "{} images were listed", listed.images);
        growths.push(listed.peak_growth as f64);
        Ok(listed.seconds)
    })?;
    let per_image = took / prepared.count as f64;
    bench.report.point(LIST, name_of_driver(prepared.driver), prepared.count, per_image);
    if prepared.count == bench.sizes.largest {
        let speed = target_of(prepared, Target::AtLeast(Quantity::per_second(500_000.0)));
        let memory = Target::AtMost(Quantity::bytes(256.0 * prepared.count as f64));
        bench.report.add(Finding::new(row("list", prepared), Quantity::per_second(1.0 / per_image), speed));
        let peak = Quantity::bytes(crate::measure::median(&mut growths));
        bench.report.add(Finding::new(row("... and the peak of its memory", prepared), peak, memory));
    }
    Ok(())
}

fn row(what: &str, prepared: &Prepared) -> String {
    format!("{what}, {} images, {}", with_commas(prepared.count), name_of_driver(prepared.driver))
}

/// Operations on all images have a target with an index only.
fn target_of(prepared: &Prepared, target: Target) -> Target {
    if prepared.driver == DriverChoice::Sqlite { target } else { Target::None }
}
