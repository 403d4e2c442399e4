//! Opening a cache after the process that had it open was killed.

use anyhow::Result;
use image_cache::{ImageCache, Options};

use crate::bench::{Bench, DRIVERS, name_of_driver, with_commas};
use crate::child;
use crate::measure::{median_of, seconds};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};

pub fn crash(bench: &mut Bench) -> Result<()> {
    for driver in DRIVERS {
        let prepared = bench.caches.prepared(bench.sizes.large, driver)?;
        let directory = prepared.directory.display().to_string();
        let name = name_of_driver(driver);
        let took = median_of(bench.sizes.rounds, || {
            child::run_killed(&bench.program, &["crash", &directory, name])?;
            let (took, cache) = seconds(|| Ok(ImageCache::open(&directory, Options::new().driver(driver))?))?;
            // Removes what the crash left, so that each round finds the same state.
            cache.delete_cached_image(child::LEFT_BY_A_CRASH)?;
            cache.clean(Some(std::time::Duration::ZERO))?;
            Ok(took)
        })?;
        let row = format!("open after a crash, {} images, {name}", with_commas(prepared.count));
        bench.report.add(
            Finding::new(row, Quantity::seconds(took), Target::AtMost(Quantity::seconds(1.0)))
                .note("killed between an image's rename and its index entry: the open stats all files"),
        );
    }
    Ok(())
}
