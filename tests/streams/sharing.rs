//! One fetch for all, and a right role for each.

use std::sync::Barrier;
use std::time::Duration;

use image_cache::{Algorithm, DriverChoice, StreamRole};
use libtest_mimic::Trial;

use crate::children::{Streamer, Task, recorded};
use crate::common::{Scratch, cache_image, files, read_image};
use crate::fixture::{SHORTEST, Store, assert_whole, computed, content, read_all, sha256, stream_whole};
use crate::with_drivers;

const SIZE: u64 = (3 << 19) + 5;

pub fn trials() -> Vec<Trial> {
    [
        with_drivers("one_reader_fetches_each_byte_once_and_the_image_is_cached", one_reader),
        with_drivers("an_image_of_0_bytes_and_one_of_unknown_length_are_cached", lengths),
        with_drivers("readers_of_one_handle_share_one_fetch", one_handle),
        with_drivers("readers_of_many_handles_share_one_fetch", many_handles),
        with_drivers("readers_in_8_processes_share_one_fetch", processes),
        with_drivers("a_reader_that_comes_late_reads_what_is_there_and_follows", late),
        with_drivers("a_cached_image_is_read_without_its_source", cached),
        with_drivers("a_digest_that_a_later_reader_expects_is_verified_too", later_digest),
        with_drivers("nobody_but_the_owner_may_read_an_image_before_it_is_published", modes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn one_reader(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    stream.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
    assert_eq!(stream.available(), 0);
    let mut buffer = [0; 1000];
    assert_eq!(stream.read(&mut buffer).unwrap(), 1000);
    assert_eq!((stream.role(), stream.available()), (StreamRole::Fetching, SHORTEST));
    assert!(!cache.is_cached("1").unwrap() && cache.is_being_cached("1").unwrap());
    let rest = read_all(&mut stream, 10_000).unwrap();
    assert_whole(&[&buffer[..], &rest].concat(), SIZE);
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
    assert_eq!(store.fetched(), SIZE);
    drop(stream);
    assert_whole(&read_image(&cache, "1"), SIZE);
    let image = cache.list_cached().unwrap().next().unwrap();
    assert_eq!(image.digest, Some(format!("sha256:{}", sha256(SIZE))));
    assert!(files(&scratch.file("incomplete")).is_empty() && files(&scratch.file(".image_cache/streams")).is_empty());
}

fn lengths(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    for size in [0, 1, 70_000] {
        let id = size.to_string();
        stream_whole(&cache, &id, &Store::new(size));
        assert_whole(&read_image(&cache, &id), size);
    }
    let mut stream = cache.stream("empty", Store::new(0).source()).unwrap();
    stream.expect_size(0).unwrap();
    assert!(read_all(&mut stream, 10).unwrap().is_empty());
    assert_eq!(cache.image_size("empty").unwrap(), 0);
}

fn one_handle(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                barrier.wait();
                stream_whole(&cache, "1", &store);
            });
        }
    });
    assert_eq!(store.fetched(), SIZE);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn many_handles(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let store = Store::slow(SIZE, Duration::from_micros(300));
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let cache = scratch.open();
                barrier.wait();
                stream_whole(&cache, "1", &store);
            });
        }
    });
    assert_eq!(store.fetched(), SIZE);
    assert_whole(&read_image(&scratch.open(), "1"), SIZE);
    assert!(!scratch.logged("alone"), "{:?}", scratch.messages);
}

fn processes(driver: DriverChoice) {
    const THREADS: usize = 25;
    let scratch = Scratch::new(driver);
    drop(scratch.open());
    let record = scratch.path().with_extension("record");
    let latency = Duration::from_micros(500);
    let task = Task { directory: &scratch.path(), driver, record: &record, size: SIZE, threads: THREADS, latency };
    let mut children: Vec<_> = (0..8).map(|_| Streamer::start(&task)).collect();
    children.iter_mut().for_each(Streamer::go);
    for child in children {
        assert_eq!(child.finish(), THREADS.to_string());
    }
    let mut pieces: Vec<_> = recorded(&record).into_iter().map(|(_, offset, length)| (offset, length)).collect();
    pieces.retain(|(_, length)| *length > 0);
    pieces.sort_unstable();
    let end = pieces.iter().fold(0, |end, (offset, length)| {
        assert_eq!(*offset, end, "a byte was fetched twice, or never");
        end + length
    });
    assert_eq!(end, SIZE);
    assert_whole(&read_image(&scratch.open(), "image"), SIZE);
    assert_eq!(scratch.open().get_image("image").unwrap().digest, Some(computed(SIZE)));
}

fn late(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut first = cache.stream("1", store.source()).unwrap();
    let mut begun = vec![0; 1 << 20];
    let mut filled = 0;
    while filled < begun.len() {
        filled += first.read(&mut begun[filled..]).unwrap();
    }
    let mut second = other.stream("1", store.source()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    assert_eq!(second.read(&mut buffer).unwrap(), 1 << 20);
    assert_eq!((second.role(), second.available()), (StreamRole::Following, 1 << 20));
    let rest = read_all(&mut first, 30_000).unwrap();
    assert_whole(&[begun, rest].concat(), SIZE);
    let rest = read_all(&mut second, 30_000).unwrap();
    assert_whole(&[buffer, rest].concat(), SIZE);
    assert_eq!(store.fetched(), SIZE);
    assert_eq!(cache.get_image("1").unwrap().digest, Some(computed(SIZE)));
}

fn cached(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "1", &content(SIZE));
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    assert_eq!((stream.role(), stream.available()), (StreamRole::Cached, SIZE));
    stream.expect_size(SIZE).unwrap();
    assert_whole(&read_all(&mut stream, 10_000).unwrap(), SIZE);
    drop(stream);
    assert_eq!((store.fetched(), cache.hit_count("1").unwrap()), (0, 1));
}

fn later_digest(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut first = cache.stream("1", store.source()).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(first.read(&mut buffer).unwrap(), 1000);
    let mut second = other.stream("1", store.source()).unwrap();
    second.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
    assert_eq!(second.read(&mut buffer).unwrap(), 1000);
    read_all(&mut first, 100_000).unwrap();
    read_all(&mut second, 100_000).unwrap();
    let image = cache.list_cached().unwrap().next().unwrap();
    assert_eq!(image.digest, Some(format!("sha256:{}", sha256(SIZE))));
}

fn modes(driver: DriverChoice) {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
    let mode = |name: &str| std::fs::metadata(scratch.file(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("incomplete/1") & 0o077, mode(".image_cache/streams/1") & 0o077), (0, 0));
    read_all(&mut stream, 100_000).unwrap();
    cache_image(&cache, "2", b"written");
    assert_eq!(mode("1"), mode("2"));
}
