//! Memory: of open writers, and of the page cache for what they wrote.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use image_cache::{DriverChoice, Durability, Options};

use crate::bench::{Bench, DRIVERS, in_binary, name_of_driver};
use crate::child::{self, Writers};
use crate::content::{pieces, random_bytes};
use crate::floor::Directory;
use crate::measure::alternate_runs;
use crate::quantity::Quantity;
use crate::report::{Finding, Target};
use crate::rows::streams::write_image;

const MIB: f64 = 1024.0 * 1024.0;

pub fn writers(bench: &mut Bench) -> Result<()> {
    for driver in DRIVERS {
        let name = name_of_driver(driver);
        let directory = bench.caches.scratch("writers").display().to_string();
        let writers: Writers = child::run(&bench.program, &["writers", &directory, name])?;
        let each = writers.grown as f64 / writers.count as f64;
        bench.report.add(
            Finding::new(
                format!("memory per open writer, {name}"),
                Quantity::bytes(each),
                Target::AtMost(Quantity::bytes(4.0 * MIB)),
            )
            .note(format!(
                "{} at once, each expects MD5 and SHA-256 and has {} written",
                writers.count,
                in_binary(writers.written)
            )),
        );
    }
    Ok(())
}

/// How much of a large image is in the page cache while it is written.
pub fn page_cache(bench: &mut Bench) -> Result<()> {
    const SAMPLES: usize = 8;
    let length = bench.sizes.ingest;
    let row = format!("page cache grown by writing {}", in_binary(length));
    let (cache, directory) = bench.new_cache_with(Options::new().streaming(true))?;
    let piece = random_bytes(1 << 20);
    let mut writer = cache.begin_write("stream")?;
    let mut most = 0.0_f64;
    for _ in 0..SAMPLES {
        for _ in 0..length / piece.len() / SAMPLES {
            writer.write_chunk(&piece)?;
        }
        let Some(pages) = resident(&directory.join("incomplete").join("stream"))? else {
            bench.report.skip(row, "fincore, of util-linux, is not installed");
            return Ok(());
        };
        most = most.max(pages);
    }
    writer.commit()?;
    most = most.max(resident(&directory.join("stream"))?.context("fincore")?);
    cache.delete_cached_image("stream")?;
    bench.report.add(
        Finding::new(row, Quantity::bytes(most), Target::AtMost(Quantity::bytes(64.0 * MIB)))
            .note("streamed; sampled during the write, and after the commit"),
    );
    drop(cache);
    speed_of_streaming(bench)
}

/// The speed of a streamed image beside that of another one.
fn speed_of_streaming(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let piece = random_bytes(1 << 20);
    let (streaming, _) = bench.new_cache_with(Options::new().streaming(true))?;
    let (usual, _) = bench.new_cache(DriverChoice::Sqlite, Durability::Full)?;
    let root = Directory::open(bench.caches.root())?;
    let write = |cache| {
        root.settle()?;
        Ok(write_image(cache, pieces(&piece, length), |_| Ok(()))?.0)
    };
    let (streamed, buffered) = alternate_runs(bench.sizes.rounds, || write(&streaming), || write(&usual))?;
    let row = format!("... and the speed of streaming, {}", in_binary(length));
    bench
        .report
        .add(Finding::speeds(row, length, streamed, buffered, 0.95).note("floor: the same cache without streaming"));
    Ok(())
}

/// Bytes of a file in the page cache; `None` without fincore.
fn resident(file: &Path) -> Result<Option<f64>> {
    let arguments = ["--bytes", "--noheadings", "--output", "RES"];
    let Ok(output) = Command::new("fincore").args(arguments).arg(file).output() else { return Ok(None) };
    anyhow::ensure!(output.status.success(), "fincore: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok(Some(text.trim().parse().with_context(|| format!("fincore printed '{text}'"))?))
}
