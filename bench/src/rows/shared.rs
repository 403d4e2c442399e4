//! Streams: one fetch for all readers, beside a tee, a bare read and a single fetch.

use std::time::{Duration, Instant};

use anyhow::Result;
use image_cache::{Algorithm, DriverChoice, Durability, ImageCache, Stream};
use md5::Md5;

use crate::bench::{Bench, in_binary, with_commas};
use crate::child::{Fetched, stream_together};
use crate::content::{self, random_bytes};
use crate::floor::Directory;
use crate::measure::alternate_runs;
use crate::quantity::Quantity;
use crate::report::{Finding, Target};
use crate::rows::streams::{CHUNKS, Memory};
use crate::waiting;

/// A source in memory, of a piece that repeats.
fn from_memory(piece: &[u8], length: usize) -> impl FnMut(u64, &mut [u8]) -> std::io::Result<usize> + '_ {
    move |offset, buffer| {
        let at = offset as usize;
        let within = at % piece.len();
        let count = buffer.len().min(piece.len() - within).min(length - at);
        buffer[..count].copy_from_slice(&piece[within..within + count]);
        Ok(count)
    }
}

fn to_its_end<S: image_cache::RangeSource>(stream: &mut Stream<S>, buffer: &mut [u8]) -> Result<()> {
    while stream.read(buffer)? > 0 {}
    Ok(())
}

pub fn fast_source(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let (cache, _) = bench.new_cache(DriverChoice::Sqlite, Durability::None)?;
    let bare = Directory::create(&bench.caches.scratch("bare"))?;
    for chunk in CHUNKS {
        let piece = random_bytes(chunk);
        let buffer = std::cell::RefCell::new(vec![0; chunk]);
        let (ours, floor) = alternate_runs(
            bench.sizes.rounds,
            || {
                bare.settle()?;
                stream_once(&cache, &piece, length, &mut buffer.borrow_mut(), None)
            },
            || {
                bare.settle()?;
                let began = Instant::now();
                let mut tee = cache.tee("stream", Memory { piece: &piece, left: length })?;
                while tee.read(&mut buffer.borrow_mut())? > 0 {}
                drop(tee);
                let took = began.elapsed().as_secs_f64();
                cache.delete_cached_image("stream")?;
                Ok(took)
            },
        )?;
        let row = format!("stream of {} from memory, {} reads", in_binary(length), in_binary(chunk));
        bench.report.add(Finding::speeds(row, length, ours, floor, 0.90).note("floor: our tee"));
    }
    let piece = random_bytes(1 << 20);
    let mut buffer = vec![0; 1 << 20];
    let hex = content::digest::<Md5>(&piece, length);
    let (ours, floor) = alternate_runs(
        bench.sizes.rounds,
        || {
            bare.settle()?;
            stream_once(&cache, &piece, length, &mut buffer, Some(&hex))
        },
        || {
            let began = Instant::now();
            anyhow::ensure!(content::digest::<Md5>(&piece, length) == hex, "another digest");
            Ok(began.elapsed().as_secs_f64())
        },
    )?;
    let row = format!("stream of {} from memory, with MD5", in_binary(length));
    bench.report.add(Finding::speeds(row, length, ours, floor, 0.95).note("floor: the hash alone"));
    Ok(())
}

fn stream_once(cache: &ImageCache, piece: &[u8], length: usize, buffer: &mut [u8], md5: Option<&str>) -> Result<f64> {
    let began = Instant::now();
    let mut stream = cache.stream("stream", from_memory(piece, length))?;
    stream.expect_size(length as u64)?;
    if let Some(hex) = md5 {
        stream.expect_digest(Algorithm::Md5, hex)?;
    }
    to_its_end(&mut stream, buffer)?;
    drop(stream);
    let took = began.elapsed().as_secs_f64();
    cache.delete_cached_image("stream")?;
    Ok(took)
}

/// Followers of a fetch whose bytes are in the page cache.
pub fn followers(bench: &mut Bench) -> Result<()> {
    let length = bench.sizes.stream;
    let (cache, path) = bench.new_cache(DriverChoice::Sqlite, Durability::None)?;
    let other = ImageCache::open(&path, image_cache::Options::new().max_size(u64::MAX))?;
    let piece = random_bytes(1 << 20);
    let chunk = 1 << 20;
    let mut first = cache.stream("stream", from_memory(&piece, length + chunk))?;
    let mut buffer = vec![0; chunk];
    for _ in 0..length / chunk {
        anyhow::ensure!(first.read(&mut buffer)? == chunk, "a short piece");
    }
    let directory = Directory::open(&path.join("incomplete"))?;
    let buffer = std::cell::RefCell::new(buffer);
    let (ours, floor) = alternate_runs(
        4 * bench.sizes.rounds,
        || {
            let mut buffer = buffer.borrow_mut();
            let began = Instant::now();
            let mut stream = other.stream("stream", from_memory(&piece, length + chunk))?;
            let mut left = length;
            while left > 0 {
                left -= stream.read(&mut buffer)?;
            }
            Ok(began.elapsed().as_secs_f64())
        },
        || directory.read("stream", &mut buffer.borrow_mut()),
    )?;
    let row = format!("follow {} in the page cache", in_binary(length));
    bench.report.add(Finding::speeds(row, length, ours, floor, 0.95));
    drop(first);
    Ok(())
}

/// The processes of the readers.
const PROCESSES: usize = 8;

/// Readers in 8 processes want one cold image, and the source is the bottleneck: 12 MiB/s.
pub fn storm(bench: &mut Bench) -> Result<()> {
    let size = bench.sizes.stream.min(64 << 20);
    let directory = |bench: &mut Bench| bench.new_cache(DriverChoice::Sqlite, Durability::Full).map(|(_, path)| path);
    let path = directory(bench)?;
    let single = stream_together(&bench.program, &path, 1, 1, size)?;
    let path = directory(bench)?;
    let hundred = stream_together(&bench.program, &path, PROCESSES, 100 / PROCESSES, size)?;
    add_storm(bench, &format!("{} readers of {}", hundred.whole, in_binary(size)), &hundred, &single);
    // The copies to all readers take more than the source with the whole size.
    let small = size / 16;
    let path = directory(bench)?;
    let thousand = stream_together(&bench.program, &path, PROCESSES, 1000 / PROCESSES, small)?;
    add_bytes(bench, &format!("{} readers of {}", with_commas(thousand.whole), in_binary(small)), &thousand);
    Ok(())
}

/// A thousand readers wait for one call of a source.
pub fn wait(bench: &mut Bench) -> Result<()> {
    const WAIT: Duration = Duration::from_secs(5);
    let (_, path) = bench.new_cache(DriverChoice::Sqlite, Durability::Full)?;
    let load = waiting::load(&bench.program, &path, PROCESSES, 1000 / PROCESSES, WAIT)?;
    bench.report.add(
        Finding::new(
            "1,000 readers that wait for a source: of a processor",
            Quantity::count(load),
            Target::AtMost(Quantity::count(0.01)),
        )
        .note(format!("in {PROCESSES} processes, over {} s in which all of them wait", WAIT.as_secs())),
    );
    Ok(())
}

fn add_bytes(bench: &mut Bench, what: &str, fetched: &Fetched) {
    let bytes = Quantity::bytes(fetched.bytes as f64);
    let once = Target::AtMost(Quantity::bytes(fetched.size as f64));
    bench.report.add(Finding::new(format!("{what}: fetched"), bytes, once));
}

fn add_storm(bench: &mut Bench, what: &str, fetched: &Fetched, single: &Fetched) {
    add_bytes(bench, what, fetched);
    let done = Finding::times(format!("{what}: all done"), fetched.seconds, single.seconds, Target::AtMostTimes(1.02));
    bench.report.add(done.note("floor: one reader"));
    let [p50, worst] = fetched.first_byte;
    for (which, seconds, target) in [("p50", p50, 0.005), ("worst", worst, 0.025)] {
        let target = Target::AtMost(Quantity::seconds(target));
        bench.report.add(Finding::new(format!("{what}: first byte, {which}"), Quantity::seconds(seconds), target));
    }
}
