//! Writing large images, and reading them through a tee.

use std::io::Read;
use std::time::Instant;

use anyhow::Result;
use image_cache::{DriverChoice, Durability, ImageCache};

use crate::bench::{Bench, in_binary};
use crate::content::{pieces, random_bytes};
use crate::floor::Directory;
use crate::measure::alternate_runs;
use crate::quantity::Quantity;
use crate::report::Finding;

pub const CHUNKS: [usize; 2] = [64 << 10, 1 << 20];

/// Writes an image, with `prepare` called before the first chunk, and removes it. Returns the seconds of all of it, and of
/// the commit alone.
pub fn write_image(
    cache: &ImageCache,
    chunks: impl Iterator<Item = impl AsRef<[u8]>>,
    prepare: impl FnOnce(&mut image_cache::Writer) -> image_cache::Result<()>,
) -> Result<(f64, f64)> {
    let began = Instant::now();
    let mut writer = cache.begin_write("stream")?;
    prepare(&mut writer)?;
    for chunk in chunks {
        writer.write_chunk(chunk.as_ref())?;
    }
    let last_chunk = Instant::now();
    writer.commit()?;
    let took = (began.elapsed().as_secs_f64(), last_chunk.elapsed().as_secs_f64());
    cache.delete_cached_image("stream")?;
    Ok(took)
}

pub fn write(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    for durability in [Durability::None, Durability::Full] {
        let (cache, _) = bench.new_cache(DriverChoice::Sqlite, durability)?;
        let bare = Directory::create(&bench.caches.scratch("bare"))?;
        let synced = durability == Durability::Full;
        for chunk in CHUNKS {
            let piece = random_bytes(chunk);
            let mut stalls = Vec::new();
            let (ours, floor) = alternate_runs(
                bench.sizes.rounds,
                || {
                    bare.settle()?;
                    let (took, stall) = write_image(&cache, pieces(&piece, length), |_| Ok(()))?;
                    stalls.push(stall);
                    Ok(took)
                },
                || {
                    bare.settle()?;
                    bare.stream("stream", pieces(&piece, length), synced)
                },
            )?;
            let (word, target) = if synced { ("full", 0.95) } else { ("none", 0.90) };
            let row = format!("write {}, {} chunks, durability {word}", in_binary(length), in_binary(chunk));
            let stall = Quantity::seconds(crate::measure::median(&mut stalls));
            bench
                .report
                .add(Finding::speeds(row, length, ours, floor, target).note(format!("the commit took {stall}")));
        }
    }
    Ok(())
}

pub fn tee(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let (cache, _) = bench.new_cache(DriverChoice::Sqlite, Durability::None)?;
    let bare = Directory::create(&bench.caches.scratch("bare"))?;
    for chunk in CHUNKS {
        let piece = random_bytes(chunk);
        let mut buffer = vec![0; chunk];
        let mut floor_buffer = vec![0; chunk];
        let (ours, floor) = alternate_runs(
            bench.sizes.rounds,
            || {
                bare.settle()?;
                let began = Instant::now();
                let mut tee = cache.tee("stream", Memory { piece: &piece, left: length })?;
                while tee.read(&mut buffer)? > 0 {}
                anyhow::ensure!(tee.is_caching(), "the tee stopped caching");
                drop(tee);
                let took = began.elapsed().as_secs_f64();
                cache.delete_cached_image("stream")?;
                Ok(took)
            },
            || {
                bare.settle()?;
                bare.stream_from("stream", &mut Memory { piece: &piece, left: length }, &mut floor_buffer)
            },
        )?;
        let row = format!("tee of {} from memory, {} reads", in_binary(length), in_binary(chunk));
        bench.report.add(Finding::speeds(row, length, ours, floor, 0.90));
    }
    Ok(())
}

/// A source in memory.
pub struct Memory<'a> {
    pub piece: &'a [u8],
    pub left: usize,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.piece.len()).min(self.left);
        buffer[..length].copy_from_slice(&self.piece[..length]);
        self.left -= length;
        Ok(length)
    }
}
