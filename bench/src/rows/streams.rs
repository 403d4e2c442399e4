//! Writing large images, and passing them on while they are written.

use std::io::Read;
use std::time::Instant;

use anyhow::Result;
use image_cache::{DriverChoice, Durability, ImageCache};

use crate::bench::{Bench, in_binary};
use crate::floor::Directory;
use crate::measure::alternate_runs;
use crate::quantity::Quantity;
use crate::report::{Finding, Target};

pub const CHUNKS: [usize; 2] = [64 << 10, 1 << 20];

/// Bytes that no file system can make less of, the same at each run.
pub fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A stream of `length` bytes in memory: the same piece again and again.
pub fn pieces(piece: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::repeat_n(piece, length / piece.len())
}

/// Writes an image, with `prepare` called before the first chunk. Seconds for all of it, and for the commit alone; the image
/// is gone afterwards.
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
                    let (took, stall) = write_image(&cache, pieces(&piece, length), |_| Ok(()))?;
                    stalls.push(stall);
                    Ok(took)
                },
                || bare.stream("stream", pieces(&piece, length), synced),
            )?;
            let (word, target) = if synced { ("full", 0.95) } else { ("none", 0.90) };
            let row = format!("write {}, {} chunks, durability {word}", in_binary(length), in_binary(chunk));
            let stall = Quantity::seconds(crate::measure::median(&mut stalls));
            bench.report.add(speeds(row, length, ours, floor, target).note(format!("the commit took {stall}")));
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
                let began = Instant::now();
                let mut tee = cache.tee("stream", Memory { piece: &piece, left: length })?;
                while tee.read(&mut buffer)? > 0 {}
                anyhow::ensure!(tee.is_caching(), "the tee gave caching up");
                drop(tee);
                let took = began.elapsed().as_secs_f64();
                cache.delete_cached_image("stream")?;
                Ok(took)
            },
            || bare.stream_from("stream", &mut Memory { piece: &piece, left: length }, &mut floor_buffer),
        )?;
        let row = format!("tee of {} from memory, {} reads", in_binary(length), in_binary(chunk));
        bench.report.add(speeds(row, length, ours, floor, 0.90));
    }
    Ok(())
}

/// A finding of two times for so many bytes.
pub fn speeds(row: String, length: usize, ours: f64, floor: f64, target: f64) -> Finding {
    let speed = |seconds: f64| Quantity::bytes_per_second(length as f64 / seconds);
    Finding::new(row, speed(ours), Target::AtLeastTimes(target)).floor(speed(floor))
}

/// A source in memory.
struct Memory<'a> {
    piece: &'a [u8],
    left: usize,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.piece.len()).min(self.left);
        buffer[..length].copy_from_slice(&self.piece[..length]);
        self.left -= length;
        Ok(length)
    }
}
