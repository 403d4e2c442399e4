//! Streams of an image that a writer has.

use image_cache::{Algorithm, DriverChoice, Error, StreamRole};
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
