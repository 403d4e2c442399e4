//! Caching small images, where the fixed cost of a commit dominates.

use anyhow::Result;
use image_cache::{Durability, ImageCache};

use crate::bench::{Bench, DRIVERS, name_of_driver};
use crate::caches::name_of;
use crate::floor::Directory;
use crate::measure::{Sample, alternate, quantile};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};

pub const SMALL: [u8; 1024] = [0x5A; 1024];

pub fn commit_once(cache: &ImageCache, name: &str) -> Result<()> {
    let mut writer = cache.begin_write(name)?;
    writer.write_chunk(&SMALL)?;
    writer.commit()?;
    Ok(())
}

pub fn commit(bench: &mut Bench) -> Result<()> {
    for durability in [Durability::Full, Durability::None] {
        let synced = durability == Durability::Full;
        // A commit with syncs takes as long as a hundred without.
        let (rounds, batch) = if synced { (30, 10) } else { (40, 50) };
        for driver in DRIVERS {
            let (cache, _) = bench.new_cache(driver, durability)?;
            let from = Directory::create(&bench.caches.scratch("bare-incomplete"))?;
            let to = Directory::create(&bench.caches.scratch("bare"))?;
            let pair = alternate(
                rounds,
                batch,
                Sample::Operation,
                |number| commit_once(&cache, &name_of(number)),
                |number| from.commit(&name_of(number), &SMALL, &to, synced),
            )?;
            let (ours, floor) = pair.medians();
            let (word, target) = if synced { ("full", 2.0) } else { ("none", 2.5) };
            let tails = [&pair.ours, &pair.floor].map(|side| Quantity::seconds(quantile(side, 0.99)));
            bench.report.add(
                Finding::times(
                    format!("commit of 1 KiB, durability {word}, {}", name_of_driver(driver)),
                    ours,
                    floor,
                    Target::AtMostTimes(target),
                )
                .note(format!("p99 {}, floor's {}", tails[0], tails[1])),
            );
        }
    }
    Ok(())
}
