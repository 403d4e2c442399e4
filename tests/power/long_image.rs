//! An image that is so long that a stream syncs a part of it, the process that streams it until it is killed, and the check of what a cut
//! left of it.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::Ordering;

use image_cache::{Algorithm, DriverChoice, Durability, ImageCache, Options, StreamRole};

use crate::checks::{CheckResult, check, check_clean, check_image, check_listing, context, file_names, md5_hex};
use crate::content::Version;
use crate::events::{Action, Event};
use crate::session::{driver_of, report};
use crate::streams::Fetched;
use crate::workload::{cache_directory, read};

/// The first argument of this program as a process that streams the image.
pub const STREAMER: &str = "--be-a-streamer";

pub const ID: &str = "long";

/// A stream syncs so many bytes at once.
pub const SYNCED: usize = 32 << 20;
/// Some bytes more than that.
pub const LENGTH: usize = (36 << 20) + 777;
/// The most that one call of the source returns. The sync comes right after one of them.
pub const PIECE: usize = 1 << 20;

pub fn bytes() -> Vec<u8> {
    // Of a prime length, so that no shift by pages is the same.
    const PERIOD: usize = 65_521;
    let mut random = fastrand::Rng::with_seed(1);
    let period: Vec<_> = std::iter::repeat_with(|| random.u8(..)).take(PERIOD).collect();
    let mut bytes = period.repeat(LENGTH.div_ceil(PERIOD));
    bytes.truncate(LENGTH);
    bytes
}

pub fn options(driver: DriverChoice) -> Options {
    Options::new().driver(driver).durability(Durability::Full)
}

/// The action that publishes the image.
pub fn publish() -> Action {
    Action::Commit { id: ID.to_owned(), version: Version(1), durable: true }
}

/// Streams the image, with an event for each piece, until it is killed. Arguments: the volume and the driver.
pub fn run(arguments: &[String]) -> ! {
    let [volume, driver] = arguments else { panic!("{arguments:?}") };
    let bytes = bytes();
    let cache = ImageCache::open(cache_directory(Path::new(volume)), options(driver_of(driver))).expect("open");
    let mut stream = cache.stream(ID, Fetched::new().source(bytes.clone(), PIECE)).expect("stream");
    let (mut position, mut buffer) = (0, vec![0; PIECE]);
    loop {
        let is_last = position == LENGTH;
        report(&Event::Begin(0, if is_last { publish() } else { Action::Other("piece".to_owned()) }));
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            Err(error) => {
                report(&Event::Failed(0, error.to_string()));
                std::process::exit(0)
            }
        };
        if bytes[position..position + length] != buffer[..length] {
            report(&Event::Wrong(format!("{length} wrong bytes were streamed at {position}")));
        }
        position += length;
        report(&Event::End(0));
        if is_last {
            break;
        }
    }
    drop(stream);
    loop {
        report(&Event::Begin(0, Action::Other("nothing".to_owned())));
    }
}

/// Where a stream after the cut may go on, in bytes, and whether the image must be there already.
#[derive(Debug, Clone)]
pub struct Allowed {
    pub resumed: RangeInclusive<u64>,
    pub is_published: bool,
}

/// Checks a volume after the cut. Returns where the next stream went on, or `None` if the image was cached.
pub fn check_volume(volume: &Path, driver: DriverChoice, allowed: &Allowed) -> CheckResult<Option<u64>> {
    let (directory, expected) = (cache_directory(volume), bytes());
    let cache = context("open", ImageCache::open(&directory, options(driver)))?;
    let is_cached = context("is_cached", cache.is_cached(ID))?;
    check(is_cached || !allowed.is_published, || "the published image was lost".to_owned())?;
    let resumed = if is_cached { None } else { Some(stream_again(&cache, &expected)?) };
    check(resumed.is_none_or(|resumed| allowed.resumed.contains(&resumed)), || {
        format!("the next stream goes on at {resumed:?}, not within {:?}", allowed.resumed)
    })?;
    for image in check_listing(&directory, &cache)? {
        check_image(&image, &expected)?;
    }
    let is_whole = context("reading", read(&cache, ID))?.as_ref() == Some(&expected);
    check(is_whole, || "the cached image is wrong".to_owned())?;
    check_clean(&directory, &cache)?;
    let records = file_names(&directory.join(".image_cache/streams"))?;
    check(records.is_empty(), || format!("the records {records:?} stay"))?;
    drop(cache);
    let is_there = fs::metadata(directory.join(ID)).is_ok_and(|metadata| metadata.len() == LENGTH as u64);
    check(is_there, || "the image's file is gone".to_owned())?;
    Ok(resumed)
}

/// Streams the image to its end. Returns the first offset that was fetched.
fn stream_again(cache: &ImageCache, expected: &[u8]) -> CheckResult<u64> {
    let fetched = Fetched::new();
    let mut stream = context("stream", cache.stream(ID, fetched.source(expected.to_vec(), PIECE)))?;
    context("expect_digest", stream.expect_digest(Algorithm::Md5, &md5_hex(expected)))?;
    let (mut position, mut buffer) = (0, vec![0; PIECE]);
    loop {
        match context("reading", stream.read(&mut buffer))? {
            0 => break,
            length => {
                let is_right = expected.get(position..position + length) == Some(&buffer[..length]);
                check(is_right, || format!("{length} wrong bytes were streamed at {position}"))?;
                position += length;
            }
        }
    }
    check(position == LENGTH, || format!("{position} bytes were streamed"))?;
    check(stream.role() != StreamRole::Alone, || "the next stream was alone".to_owned())?;
    let (first, count) = (fetched.first.load(Ordering::Relaxed), fetched.bytes.load(Ordering::Relaxed));
    // With all bytes there, only the end is asked for.
    check(first + count == LENGTH as u64, || format!("{count} bytes were fetched, from {first} on"))?;
    Ok(first)
}
