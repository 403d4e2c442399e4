//! Compares image-cache with the bare system calls that it must make (the floor), in turns, in one run.
//!
//! `rows` has the measurements, `measure` the clock, `floor` the bare calls, `peers` other caches on the same work.

mod arguments;
mod bench;
#[path = "../../src/format/builders.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod builders;
mod caches;
mod child;
mod child_work;
mod content;
mod floor;
mod machine;
mod measure;
mod output;
mod peers;
mod picture;
mod piped_child;
mod quantity;
mod random;
mod report;
mod rows;
mod storm;
mod waiting;

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::arguments::{Arguments, Task, USAGE};
use crate::bench::{Bench, Sizes};
use crate::caches::Caches;
use crate::machine::Machine;
use crate::report::Report;

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    match &arguments.task {
        Task::Measure => return measure(&arguments),
        Task::WorkAsChild(work) => return child_work::work(work),
        Task::Help => print!("{USAGE}"),
        Task::ListRows => {
            for row in rows::ALL {
                println!("{}", row.name);
            }
            println!("{} (with --peers)\n{} (with --peers)", peers::ROW, storm::ROW);
        }
    }
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<()> {
    let machine = Machine::describe(&arguments.directory);
    machine.print();
    if arguments.quick {
        println!(
            "Small sizes: the fixed cost of an operation weighs more than in a full run. The targets are for a full run."
        );
    }
    let mut bench = Bench {
        sizes: if arguments.quick { Sizes::quick() } else { Sizes::full() },
        caches: Caches::new(&arguments.directory)?,
        report: Report::default(),
        program: std::env::current_exe().context("this program")?,
    };
    for row in rows::ALL.iter().filter(|row| arguments.wants(row.name)) {
        let began = Instant::now();
        // A row that fails must not end the run.
        if let Err(error) = (row.run)(&mut bench) {
            bench.report.skip(row.name, format!("{error:#}"));
        }
        eprintln!("  {}: {:.1} s", row.name, began.elapsed().as_secs_f64());
    }
    let peers = if arguments.peers && arguments.wants(peers::ROW) {
        peers::measure(&mut bench, arguments.environment.as_deref())
    } else {
        Vec::new()
    };
    let storm = if arguments.peers && arguments.wants(storm::ROW) {
        storm::measure(&mut bench).map_err(|error| bench.report.skip(storm::ROW, format!("{error:#}"))).ok()
    } else {
        None
    };

    if !bench.report.findings.is_empty() || !bench.report.skipped.is_empty() {
        output::print(&bench.report);
    }
    if !peers.is_empty() {
        output::print_peers("the same work", &peers);
    }
    if let Some(storm) = &storm {
        output::print_storm(storm);
    }
    if let Some(file) = &arguments.json {
        output::write_json(file, arguments.quick, &machine, &bench.report, &peers, storm.as_ref())?;
    }
    if let Some(file) = &arguments.picture {
        picture::draw(file, &bench.report)?;
    }
    Ok(())
}
