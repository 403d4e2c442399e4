//! Streams of an image that a writer has, and a prefetch of images that streams have.

use std::io;
use std::sync::mpsc::{Receiver, channel};

use image_cache::{Algorithm, DriverChoice, Error, Prefetched, StreamRole};
use libtest_mimic::Trial;

use crate::common::{Scratch, read_image};
use crate::fixture::{Store, assert_whole, content, read_all, sha256};
use crate::with_drivers;

const SIZE: u64 = 1 << 20;

pub fn trials() -> Vec<Trial> {
    [
        with_drivers("a_stream_follows_a_writer_to_its_commit", follows),
        with_drivers("a_stream_goes_on_from_its_own_source_when_its_writer_gives_up", given_up),
        with_drivers("a_stream_of_a_writers_image_verifies_its_own_digest", verifies),
        with_drivers("prefetch_waits_for_an_image_that_a_stream_fetches", prefetch_waits),
        with_drivers("prefetch_fetches_an_image_whose_streams_were_closed_before_its_end", prefetch_fetches),
        with_drivers("an_image_whose_streams_are_not_read_stays_queued", not_read),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn follows(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let content = content(SIZE);
    let mut writer = cache.begin_write("1").unwrap();
    writer.write_chunk(&content[..1000]).unwrap();
    let mut stream = other.stream("1", store.source()).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(stream.read(&mut buffer).unwrap(), 1000);
    assert_eq!(stream.role(), StreamRole::Following);
    let rest = std::thread::scope(|scope| {
        let rest = scope.spawn(|| read_all(&mut stream, 10_000));
        writer.write_chunk(&content[1000..]).unwrap();
        writer.commit().unwrap();
        rest.join().unwrap().unwrap()
    });
    assert_whole(&[&buffer[..], &rest].concat(), SIZE);
    assert_eq!(store.fetched(), 0);
}

fn given_up(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut writer = cache.begin_write("1").unwrap();
    writer.write_chunk(&content(1000)).unwrap();
    let mut stream = other.stream("1", store.source()).unwrap();
    stream.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(stream.read(&mut buffer).unwrap(), 1000);
    writer.abort("not wanted any more");
    let rest = read_all(&mut stream, 10_000).unwrap();
    assert_whole(&[&buffer[..], &rest].concat(), SIZE);
    assert_eq!(store.fetched(), SIZE - 1000);
}

fn verifies(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    for (id, digest, is_right) in [("1", sha256(SIZE), true), ("2", "0".repeat(64), false)] {
        let mut writer = cache.begin_write(id).unwrap();
        writer.write_chunk(&content(SIZE)).unwrap();
        let mut stream = other.stream(id, Store::new(SIZE).source()).unwrap();
        stream.expect_digest(Algorithm::Sha256, &digest).unwrap();
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
        writer.commit().unwrap();
        match read_all(&mut stream, 100_000) {
            Ok(_) => assert!(is_right),
            Err(error) => assert!(!is_right && matches!(error, Error::DigestMismatch { .. }), "{error}"),
        }
        assert_whole(&read_image(&cache, id), SIZE);
    }
}

/// Prefetches the images 1, of which a stream has a part and is in its source, and 2. The source returns when 2 is fetched, with what
/// `result` makes of it. Returns what the prefetch has fetched itself.
fn prefetch_beside_a_stream(
    driver: DriverChoice,
    result: fn(usize) -> io::Result<usize>,
    at_the_end: fn(image_cache::Result<Vec<u8>>),
) -> (Prefetched, Vec<String>, Scratch) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    cache.queue_image("1").unwrap();
    cache.queue_image("2").unwrap();
    let content = content(SIZE);
    let (called, is_called) = channel();
    let (fetched, may_return): (_, Receiver<()>) = channel();
    let bytes = content.clone();
    let mut calls = 0;
    let source = move |offset: u64, buffer: &mut [u8]| {
        let left = &bytes[usize::try_from(offset).unwrap()..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        calls += 1;
        if calls != 2 {
            return Ok(length);
        }
        called.send(()).unwrap();
        may_return.recv().unwrap();
        result(length)
    };
    let mut ids = Vec::new();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = cache.stream("1", source).unwrap();
            at_the_end(read_all(&mut stream, 100_000));
        });
        is_called.recv().unwrap();
        let done = other.prefetch(|id, writer| {
            ids.push(id.to_owned());
            writer.write_chunk(&content)?;
            if id == "2" {
                fetched.send(()).unwrap();
            }
            Ok(())
        });
        assert!(other.is_cached("1").unwrap(), "the prefetch has returned before");
        done.unwrap()
    });
    assert_whole(&read_image(&other, "1"), SIZE);
    assert!(other.list_queued().unwrap().is_empty());
    (done, ids, scratch)
}

fn prefetch_waits(driver: DriverChoice) {
    let (done, ids, _scratch) = prefetch_beside_a_stream(driver, Ok, |read| assert_whole(&read.unwrap(), SIZE));
    assert_eq!((done, ids), (Prefetched { fetched: 1, failed: 0 }, vec!["2".to_owned()]));
}

fn prefetch_fetches(driver: DriverChoice) {
    let fails = |_| Err(io::Error::other("the store is down"));
    let (done, ids, _scratch) = prefetch_beside_a_stream(driver, fails, |read| _ = read.unwrap_err());
    assert_eq!((done, ids), (Prefetched { fetched: 2, failed: 0 }, vec!["2".to_owned(), "1".to_owned()]));
}

fn not_read(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, store) = (scratch.open(), Store::new(SIZE));
    cache.queue_image("1").unwrap();
    let mut stream = cache.stream("1", store.source()).unwrap();
    stream.read(&mut [0; 10]).unwrap();
    let done = cache.prefetch(|_, _| panic!("a stream has the image"));
    assert_eq!(done.unwrap(), Prefetched { fetched: 0, failed: 0 });
    assert!(cache.is_queued("1").unwrap());
}
