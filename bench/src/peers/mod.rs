//! Other caches on the same work: Glance's and the cacache crate, one after the other.

mod compared;
mod glance;
mod in_rust;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::bench::{Bench, DRIVERS, name_of_driver};
use crate::peers::compared::Work;
use crate::peers::in_rust::{Cacache, Ours};
use crate::quantity::Quantity;

/// The name for --only.
pub const ROW: &str = "peers";

/// The figures of one peer.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub who: String,
    pub figures: Vec<(String, Quantity)>,
}

/// Measures all peers. The report lists those that fail as skipped.
pub fn measure(bench: &mut Bench, environment: Option<&Path>) -> Vec<Figures> {
    let work = Work::of(&bench.sizes);
    let mut all = Vec::new();
    for driver in DRIVERS {
        let who = format!("ours {}", name_of_driver(driver));
        let directory = bench.caches.scratch("peer");
        let measured = compared::measure(&who, &work, &directory, &|directory| Ours::open(directory, driver));
        keep(bench, &mut all, &who, measured);
    }
    let directory = bench.caches.scratch("peer");
    let measured = compared::measure("cacache", &work, &directory, &|directory| Ok(Cacache::new(directory)));
    keep(bench, &mut all, "cacache", measured);

    match glance::install(&environment.map_or_else(|| bench.caches.scratch("environment"), Path::to_owned)) {
        Err(error) => bench.report.skip("Glance", format!("{error:#}")),
        Ok(python) => {
            for driver in DRIVERS {
                let who = format!("Glance {}", name_of_driver(driver));
                let directory = bench.caches.scratch("glance");
                let measured = glance::measure(&python, &who, name_of_driver(driver), &work, &directory);
                keep(bench, &mut all, &who, measured);
            }
        }
    }
    all
}

fn keep(bench: &mut Bench, all: &mut Vec<Figures>, who: &str, measured: Result<compared::Measured>) {
    match measured {
        Ok(measured) => {
            // Our curves come from the rows, with more images.
            if !who.starts_with("ours") {
                for (operation, images, seconds) in measured.points {
                    bench.report.point(&operation, who, images, seconds);
                }
            }
            all.push(measured.figures);
        }
        Err(error) => bench.report.skip(who, format!("{error:#}")),
    }
}
