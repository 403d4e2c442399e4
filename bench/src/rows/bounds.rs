//! What bounds cost: a commit within a hard limit against one without, and room that is made against a prune.

use anyhow::{Result, ensure};
use image_cache::{Durability, ImageCache, LimitMode, Options};

use crate::bench::{Bench, DRIVERS, name_of_driver};
use crate::caches::name_of;
use crate::measure::{Sample, alternate, in_turns, median, quantile, seconds};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};
use crate::rows::commits::{SMALL, commit_once};

/// Larger than anything that is written here.
const AMPLE: u64 = 1 << 40;

pub fn commit(bench: &mut Bench) -> Result<()> {
    for durability in [Durability::Full, Durability::None] {
        let is_full = durability == Durability::Full;
        let (rounds, batch) = if is_full { (30, 10) } else { (40, 50) };
        for driver in DRIVERS {
            let mut open = |name: &str, mode| -> Result<ImageCache> {
                let options = Options::new().driver(driver).durability(durability).max_size(AMPLE).limit_mode(mode);
                Ok(ImageCache::open(bench.caches.scratch(name), options)?)
            };
            let (hard, soft) = (open("hard", LimitMode::Hard)?, open("soft", LimitMode::Soft)?);
            let pair = alternate(
                rounds,
                batch,
                Sample::Operation,
                |number| commit_once(&hard, &name_of(number)),
                |number| commit_once(&soft, &name_of(number)),
            )?;
            let (ours, floor) = pair.medians();
            let word = if is_full { "full" } else { "none" };
            let row = format!("commit of 1 KiB, hard limit, durability {word}, {}", name_of_driver(driver));
            let tails = [&pair.ours, &pair.floor].map(|side| Quantity::seconds(quantile(side, 0.99)));
            let note = format!("floor: a soft limit; p99 {}, floor's {}", tails[0], tails[1]);
            bench.report.add(Finding::times(row, ours, floor, Target::AtMostTimes(1.3)).note(note));
        }
    }
    Ok(())
}

pub fn make_room(bench: &mut Bench) -> Result<()> {
    const IMAGES: usize = 2000;
    const ROUNDS: usize = 10;
    const EACH: usize = IMAGES / ROUNDS / 2;
    const BYTES: u64 = SMALL.len() as u64;
    for driver in DRIVERS {
        let mut open = |name: &str| -> Result<ImageCache> {
            let options = Options::new().driver(driver).durability(Durability::None).max_size(IMAGES as u64 * BYTES);
            let cache = ImageCache::open(bench.caches.scratch(name), options)?;
            (0..IMAGES).try_for_each(|number| commit_once(&cache, &name_of(number)))?;
            Ok(cache)
        };
        let (room, pruned) = (open("room")?, open("pruned")?);
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        in_turns(
            ROUNDS,
            |round| {
                let wanted = ((round + 1) * EACH) as u64 * BYTES;
                let (took, pruned) = seconds(|| Ok(room.make_room(wanted)?))?;
                ensure!(pruned.images == EACH as u64, "{} images were evicted", pruned.images);
                ours.push(took / EACH as f64);
                Ok(())
            },
            |round| {
                let left = (IMAGES - (round + 1) * EACH) as u64 * BYTES;
                let (took, pruned) = seconds(|| Ok(pruned.prune_to(left)?))?;
                ensure!(pruned.images == EACH as u64, "{} images were evicted", pruned.images);
                floor.push(took / EACH as f64);
                Ok(())
            },
        )?;
        let row = format!("make_room of {IMAGES} images, {}: per victim", name_of_driver(driver));
        let (ours, floor) = (median(&mut ours), median(&mut floor));
        bench.report.add(Finding::times(row, ours, floor, Target::AtMostTimes(1.2)).note("floor: prune"));
    }
    Ok(())
}
