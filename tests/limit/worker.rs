//! A process of the run: threads that do anything with a few images, until the standard input ends.

use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;
use image_cache::{DriverChoice, Durability, Error, ImageCache, Options};

use crate::controller::{FLOOR, LIMIT};

const THREADS: u64 = 4;
const IMAGES: u64 = 24;

/// What the threads have done, so that a run in which nothing happens fails.
#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    refused: AtomicU64,
    reads: AtomicU64,
}

/// Prints "ready", and at the end the counts.
pub fn run(directory: &Path, driver: DriverChoice, seed: u64) {
    let durability = if seed.is_multiple_of(2) { Durability::None } else { Durability::Full };
    let options = Options::new().driver(driver).durability(durability).min_free(FLOOR, 0).unwrap();
    let cache = ImageCache::open(directory, options).unwrap();
    let (is_over, counts) = (AtomicBool::new(false), Counts::default());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (cache, is_over, counts) = (&cache, &is_over, &counts);
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed * THREADS + number);
                while !is_over.load(Ordering::Relaxed) {
                    step(cache, &mut random, counts);
                }
            });
        }
        println!("ready");
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        is_over.store(true, Ordering::Relaxed);
    });
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!("{} {} {}", count(&counts.commits), count(&counts.refused), count(&counts.reads));
}

fn step(cache: &ImageCache, random: &mut Rng, counts: &Counts) {
    let number = random.u64(0..IMAGES);
    let id = number.to_string();
    match random.u8(0..20) {
        0..=6 => write(cache, random, counts, number),
        7..=9 => tee(cache, random, counts, number),
        10..=12 => stream(cache, random, number),
        13..=17 => read(cache, random, counts, number),
        18 => drop(cache.delete_cached_image(&id)),
        _ => match random.u8(0..4) {
            0 => drop(cache.prune()),
            1 => drop(cache.clean(None)),
            2 => drop(cache.make_room(random.u64(0..8 << 20))),
            _ => drop(cache.usage()),
        },
    }
}

/// Images from an empty one to 6 MiB.
fn length(random: &mut Rng) -> usize {
    let most = *random.choice(&[1, 4096, 100_000, 1 << 20, 6 << 20]).unwrap();
    random.usize(0..=most)
}

/// An image's number determines its bytes.
fn bytes(number: u64, offset: usize, length: usize) -> Vec<u8> {
    const RUN: usize = 512;
    let end = offset + length;
    let mut bytes = Vec::with_capacity(length);
    while offset + bytes.len() < end {
        let at = offset + bytes.len();
        let run_end = (at / RUN + 1) * RUN;
        #[allow(clippy::cast_possible_truncation, reason = "a byte")]
        let byte = (usize::try_from(number).unwrap() * 37 + at / RUN) as u8;
        bytes.resize(run_end.min(end) - offset, byte);
    }
    bytes
}

fn write(cache: &ImageCache, random: &mut Rng, counts: &Counts, number: u64) {
    let Ok(mut writer) = cache.begin_write(&number.to_string()) else { return };
    let length = length(random);
    let result = (|| {
        if random.bool() {
            let is_too_large = random.u8(0..8) == 0;
            writer.expect_size(if is_too_large { LIMIT } else { length as u64 })?;
        }
        let mut at = 0;
        while at < length {
            let chunk = random.usize(1..=1 << 20).min(length - at);
            writer.write_chunk(&bytes(number, at, chunk))?;
            at += chunk;
        }
        Ok(())
    })();
    match result {
        Ok(()) if random.u8(0..8) > 0 => {
            if writer.commit().is_ok() {
                counts.commits.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(()) => writer.abort("for the test"),
        Err(Error::NoRoom { .. }) => {
            counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        Err(_) => {}
    }
}

fn tee(cache: &ImageCache, random: &mut Rng, counts: &Counts, number: u64) {
    let all = bytes(number, 0, length(random));
    let Ok(mut tee) = cache.tee(&number.to_string(), &all[..]) else { return };
    if random.bool() {
        let _ = tee.expect_size(all.len() as u64);
    }
    let mut delivered = Vec::new();
    std::io::Read::read_to_end(&mut tee, &mut delivered).unwrap();
    assert!(delivered == all, "a tee of image {number} delivered other bytes");
    if tee.is_caching() {
        counts.commits.fetch_add(1, Ordering::Relaxed);
    }
}

/// All streams of an image agree on its size.
fn stream(cache: &ImageCache, random: &mut Rng, number: u64) {
    let number = number + 100;
    let size = usize::try_from(number).unwrap() * 104_729 % (4 << 20);
    let source = move |offset: u64, buffer: &mut [u8]| {
        let offset = usize::try_from(offset).unwrap();
        let length = buffer.len().min(size.saturating_sub(offset));
        buffer[..length].copy_from_slice(&bytes(number, offset, length));
        Ok(length)
    };
    let Ok(mut stream) = cache.stream(&number.to_string(), source) else { return };
    if random.bool() {
        let _ = stream.expect_size(size as u64);
    }
    let leaves_at = if random.u8(0..4) == 0 { random.usize(0..=size) } else { size };
    let (mut at, mut buffer) = (0, vec![0; 200_000]);
    while let Ok(length) = stream.read(&mut buffer) {
        assert!(
            buffer[..length] == bytes(number, at, length),
            "a stream of image {number} delivered wrong bytes at {at}"
        );
        at += length;
        if length == 0 || at >= leaves_at {
            break;
        }
    }
}

fn read(cache: &ImageCache, random: &mut Rng, counts: &Counts, number: u64) {
    let number = number + if random.bool() { 100 } else { 0 };
    let Ok(reader) = cache.open_for_read(&number.to_string()) else { return };
    let (mut at, mut buffer) = (0, vec![0; 200_000]);
    while let length @ 1.. = reader.read_at(at as u64, &mut buffer).unwrap() {
        assert!(buffer[..length] == bytes(number, at, length), "image {number} has wrong bytes at {at}");
        at += length;
    }
    assert_eq!(at as u64, reader.size(), "the length of image {number}");
    counts.reads.fetch_add(1, Ordering::Relaxed);
    if random.u8(0..8) == 0 {
        // It is deleted or pruned while it is open.
        step(cache, random, counts);
    }
}
