//! Evicting the least recently used images of caches of several sizes.

use anyhow::Result;
use image_cache::{DriverChoice, ImageCache, Options};

use crate::bench::{Bench, name_of_driver, with_commas};
use crate::caches::{IMAGE_BYTES, Prepared, name_of};
use crate::floor::Directory;
use crate::measure::{median, seconds};
use crate::quantity::{Quantity, three_digits};
use crate::report::{Finding, Target};
use crate::rows::growth::PRUNE;

/// The floor's curve.
const UNLINK: &str = "unlink";

pub fn prune(bench: &mut Bench) -> Result<()> {
    // The largest last: it takes longest to make, and a run that is given up has found the rest.
    for count in bench.sizes.counts.clone() {
        let prepared = match bench.caches.prepared(count) {
            Ok(prepared) => prepared,
            Err(error) => {
                bench.report.skip(format!("prune, {} images", with_commas(count)), format!("{error:#}"));
                continue;
            }
        };
        let victims = bench.sizes.victims.min(count / 2);
        with_an_index(bench, &prepared, victims)?;
        bench.caches.replace_oldest(count, victims)?;
        let prepared = bench.caches.prepared(count)?;
        by_scanning(bench, &prepared, victims)?;
        bench.caches.replace_oldest(count, victims)?;
    }
    flatness(bench);
    Ok(())
}

fn opened(prepared: &Prepared, driver: DriverChoice, images: usize) -> Result<ImageCache> {
    let options = Options::new().driver(driver).max_size(images as u64 * IMAGE_BYTES);
    Ok(ImageCache::open(&prepared.directory, options)?)
}

fn prune_once(prepared: &Prepared, driver: DriverChoice, down_to: usize, victims: usize) -> Result<f64> {
    let cache = opened(prepared, driver, down_to)?;
    Directory::open(&prepared.directory)?.settle()?;
    let (took, pruned) = seconds(|| Ok(cache.prune()?))?;
    anyhow::ensure!(pruned.images == victims as u64, "{} images were pruned instead of {victims}", pruned.images);
    Ok(took)
}

/// In several prunes, each with as many bare removals after it.
fn with_an_index(bench: &mut Bench, prepared: &Prepared, victims: usize) -> Result<()> {
    const ROUNDS: usize = 10;
    let plain = Directory::open(&prepared.plain)?;
    let each = victims / ROUNDS;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut by_us = || -> Result<()> {
            let left = prepared.count - (round + 1) * each;
            ours.push(prune_once(prepared, DriverChoice::Sqlite, left, each)? / each as f64);
            Ok(())
        };
        let mut bare = || -> Result<()> {
            let oldest = prepared.first + round * each;
            let names: Vec<_> = (oldest..oldest + each).map(name_of).collect();
            plain.settle()?;
            let (took, ()) = seconds(|| names.iter().try_for_each(|name| plain.remove(name)))?;
            floor.push(took / each as f64);
            Ok(())
        };
        if round % 2 == 0 {
            by_us()?;
            bare()?;
        } else {
            bare()?;
            by_us()?;
        }
    }
    let (ours, floor) = (median(&mut ours), median(&mut floor));
    report(bench, prepared, DriverChoice::Sqlite, victims, ours, floor, "");
    Ok(())
}

/// In one prune, which scans once; the floor is a bare scan, sorted, and the bare removals.
fn by_scanning(bench: &mut Bench, prepared: &Prepared, victims: usize) -> Result<()> {
    let plain = Directory::open(&prepared.plain)?;
    let (scan, order) = seconds(|| plain.scan_and_sort())?;
    plain.settle()?;
    let (removals, ()) = seconds(|| order.iter().take(victims).try_for_each(|(_, name)| plain.remove(name)))?;
    let ours = prune_once(prepared, DriverChoice::Xattr, prepared.count - victims, victims)?;
    let note = format!("floor: a scan and sort ({}), and unlink", Quantity::seconds(scan));
    let per_victim = |seconds: f64| seconds / victims as f64;
    report(bench, prepared, DriverChoice::Xattr, victims, per_victim(ours), per_victim(scan + removals), &note);
    Ok(())
}

fn report(
    bench: &mut Bench,
    prepared: &Prepared,
    driver: DriverChoice,
    victims: usize,
    ours: f64,
    floor: f64,
    note: &str,
) {
    bench.report.point(PRUNE, name_of_driver(driver), prepared.count, ours);
    let name_of_floor = if driver == DriverChoice::Sqlite { UNLINK } else { "scan, unlink" };
    bench.report.point(PRUNE, name_of_floor, prepared.count, floor);
    let row = format!(
        "prune {} of {} images, {}: per victim",
        with_commas(victims),
        with_commas(prepared.count),
        name_of_driver(driver)
    );
    bench.report.add(
        Finding::new(row, Quantity::seconds(ours), Target::AtMostTimes(2.0)).floor(Quantity::seconds(floor)).note(note),
    );
}

/// The cost per victim at each size, against that of the middle one.
fn flatness(bench: &mut Bench) {
    let large = bench.sizes.large;
    let Some(curve) = bench.report.curve(PRUNE, name_of_driver(DriverChoice::Sqlite)).cloned() else { return };
    let Some(&reference) = curve.get(&large) else { return };
    let bare = bench.report.curve(PRUNE, UNLINK).cloned().unwrap_or_default();
    for (&count, &seconds) in curve.iter().filter(|(count, _)| **count != large) {
        let row = format!("prune, sqlite: per victim of {} images, against {}", with_commas(count), with_commas(large));
        let growth_of = |count: &usize| bare.get(count).zip(bare.get(&large)).map(|(one, other)| one / other);
        let note =
            growth_of(&count).map_or_else(String::new, |times| format!("unlink itself: {} x", three_digits(times)));
        bench.report.add(
            Finding::new(row, Quantity::seconds(seconds), Target::Within(0.8, 1.2))
                .floor(Quantity::seconds(reference))
                .note(note),
        );
    }
}
