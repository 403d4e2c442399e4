//! Reading a large image from the page cache.

use std::time::Instant;

use anyhow::Result;
use image_cache::{DriverChoice, Durability};

use crate::bench::{Bench, in_binary};
use crate::content::{pieces, random_bytes};
use crate::floor::Directory;
use crate::measure::alternate_runs;
use crate::report::Finding;
use crate::rows::streams::CHUNKS;

pub fn read(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let (cache, path) = bench.new_cache(DriverChoice::Sqlite, Durability::None)?;
    let mut writer = cache.begin_write("stream")?;
    let piece = random_bytes(1 << 20);
    for chunk in pieces(&piece, length) {
        writer.write_chunk(chunk)?;
    }
    writer.commit()?;
    let directory = Directory::open(&path)?;
    for chunk in CHUNKS {
        let buffer = std::cell::RefCell::new(vec![0; chunk]);
        let (ours, floor) = alternate_runs(
            // More rounds, since the times are short and vary with the processor's caches.
            4 * bench.sizes.rounds,
            || {
                let mut buffer = buffer.borrow_mut();
                let began = Instant::now();
                let mut reader = cache.open_for_read("stream")?;
                while reader.read(&mut buffer)? > 0 {}
                drop(reader);
                Ok(began.elapsed().as_secs_f64())
            },
            || directory.read("stream", &mut buffer.borrow_mut()),
        )?;
        let row = format!("read {}, {} at a time", in_binary(length), in_binary(chunk));
        bench.report.add(Finding::speeds(row, length, ours, floor, 0.97));
    }
    cache.delete_cached_image("stream")?;
    Ok(())
}
