//! Evicting the least recently used images, from caches of several sizes.

use anyhow::Result;
use image_cache::DriverChoice;

use crate::bench::{Bench, DRIVERS, name_of_driver, open_with_limit, with_commas};
use crate::caches::{IMAGE_BYTES, Prepared, name_of};
use crate::floor::Directory;
use crate::measure::{in_turns, median, seconds};
use crate::quantity::{Quantity, three_digits};
use crate::report::{Finding, Target};
use crate::rows::growth::PRUNE;

/// The floor's curve.
const UNLINK: &str = "unlink";

pub fn prune(bench: &mut Bench) -> Result<()> {
    // The largest cache takes longest to create, so it comes last: an interrupted run has the others' figures.
    for count in bench.sizes.counts.clone() {
        let victims = bench.sizes.victims.min(count / 2);
        for driver in DRIVERS {
            let Some(prepared) = bench.prepared_or_skip("prune", count, driver) else { continue };
            match driver {
                DriverChoice::Xattr => by_scanning(bench, &prepared, victims)?,
                _ => with_an_index(bench, &prepared, victims)?,
            }
            bench.caches.replace_oldest(count, driver, victims)?;
        }
    }
    flatness(bench);
    Ok(())
}

fn prune_once(prepared: &Prepared, down_to: usize, victims: usize) -> Result<f64> {
    let cache = open_with_limit(&prepared.directory, prepared.driver, down_to as u64 * IMAGE_BYTES)?;
    Directory::open(&prepared.directory)?.sync_file_system()?;
    let (took, pruned) = seconds(|| Ok(cache.prune()?))?;
    anyhow::ensure!(pruned.images == victims as u64, "{} images were pruned instead of {victims}", pruned.images);
    Ok(took)
}

/// In several prunes, each in turn with as many bare removals.
fn with_an_index(bench: &mut Bench, prepared: &Prepared, victims: usize) -> Result<()> {
    const ROUNDS: usize = 10;
    let plain = Directory::open(&prepared.plain)?;
    let each = victims / ROUNDS;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    in_turns(
        ROUNDS,
        |round| {
            let left = prepared.count - (round + 1) * each;
            ours.push(prune_once(prepared, left, each)? / each as f64);
            Ok(())
        },
        |round| {
            let oldest = prepared.first + round * each;
            let names: Vec<_> = (oldest..oldest + each).map(name_of).collect();
            plain.sync_file_system()?;
            let (took, ()) = seconds(|| names.iter().try_for_each(|name| plain.remove(name)))?;
            floor.push(took / each as f64);
            Ok(())
        },
    )?;
    let (ours, floor) = (median(&mut ours), median(&mut floor));
    report(bench, prepared, victims, ours, floor, "");
    Ok(())
}

/// In one prune, which scans once. The floor is a bare scan and sort, and the bare removals.
fn by_scanning(bench: &mut Bench, prepared: &Prepared, victims: usize) -> Result<()> {
    let plain = Directory::open(&prepared.plain)?;
    let (scan, order) = seconds(|| plain.scan_and_sort())?;
    plain.sync_file_system()?;
    let (removals, ()) = seconds(|| order.iter().take(victims).try_for_each(|(_, name)| plain.remove(name)))?;
    let ours = prune_once(prepared, prepared.count - victims, victims)?;
    let note = format!("floor: a scan and sort ({}), and unlink", Quantity::seconds(scan));
    let per_victim = |seconds: f64| seconds / victims as f64;
    report(bench, prepared, victims, per_victim(ours), per_victim(scan + removals), &note);
    Ok(())
}

fn report(bench: &mut Bench, prepared: &Prepared, victims: usize, ours: f64, floor: f64, note: &str) {
    bench.report.point(PRUNE, name_of_driver(prepared.driver), prepared.count, ours);
    let name_of_floor = if prepared.driver == DriverChoice::Sqlite { UNLINK } else { "scan, unlink" };
    bench.report.point(PRUNE, name_of_floor, prepared.count, floor);
    let row = format!(
        "prune {} of {} images, {}: per victim",
        with_commas(victims),
        with_commas(prepared.count),
        name_of_driver(prepared.driver)
    );
    bench.report.add(Finding::times(row, ours, floor, Target::AtMostTimes(3.0)).note(note));
}

/// The cost per victim at each size, divided by that of the large cache.
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
        bench.report.add(Finding::times(row, seconds, reference, Target::Within(0.8, 1.2)).note(note));
    }
}
