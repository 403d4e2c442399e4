//! Several processes that hit the same images at the same time.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::Result;

use crate::bench::{Bench, DRIVERS, name_of_driver};
use crate::child::{Competed, compete};
use crate::quantity::Quantity;
use crate::report::{Finding, Target};

const PROCESSES: usize = 4;
const THREADS: usize = 2;

pub fn processes(bench: &mut Bench) -> Result<()> {
    let duration = bench.sizes.seconds;
    let run = |program: &Path, directory: &Path, who: &str, processes: usize, threads: usize, seconds: f64| {
        let arguments = ["compete", &directory.display().to_string(), who, &threads.to_string(), &seconds.to_string()];
        compete(program, processes, &arguments.map(ToOwned::to_owned))
    };
    // Not more than can run at a time.
    let cores = available_parallelism()?.get().min(PROCESSES * THREADS) as f64;
    for driver in DRIVERS {
        let directory = &bench.caches.prepared(bench.sizes.counts[0], driver)?.directory;
        let bare = run(&bench.program, directory, "bare", PROCESSES, THREADS, duration)?;
        let who = name_of_driver(driver);
        // One process alone, before and after, since the machine's speed may change.
        let before = run(&bench.program, directory, who, 1, 1, duration / 2.0)?;
        let many = run(&bench.program, directory, who, PROCESSES, THREADS, duration)?;
        let after = run(&bench.program, directory, who, 1, 1, duration / 2.0)?;
        let row = |what: &str| format!("{PROCESSES} processes x {THREADS} threads, {who}: {what}");
        let errors = Quantity::count(many.errors as f64);
        bench.report.add(Finding::new(row("failed hits"), errors, Target::AtMost(Quantity::count(0.0))));
        bench.report.add(
            Finding::new(row("p99"), Quantity::seconds(many.p99), Target::AtMost(Quantity::seconds(1e-3)))
                .floor(Quantity::seconds(bare.p99))
                .note(format!(
                    "worst {}; floor: the bare calls of as many processes (worst {})",
                    Quantity::seconds(many.worst),
                    Quantity::seconds(bare.worst)
                )),
        );
        let alone = f64::midpoint(before.rate(), after.rate());
        bench.report.add(
            Finding::new(row("hits per core"), Quantity::per_second(many.rate() / cores), Target::AtLeastTimes(0.8))
                .floor(Quantity::per_second(alone))
                .note("floor: one process with one thread, alone"),
        );
    }
    Ok(())
}

impl Competed {
    fn rate(&self) -> f64 {
        self.hits as f64 / self.seconds
    }
}
