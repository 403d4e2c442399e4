//! Sources that fail, lie or hang cost only their own reader.

use std::io;
use std::sync::mpsc::channel;
use std::time::Duration;

use image_cache::{DriverChoice, Error, StreamRole};
use libtest_mimic::Trial;

use crate::common::{Scratch, files, read_image};
use crate::fixture::{SHORTEST, Store, assert_whole, read_all, stream_whole};
use crate::with_drivers;

const SIZE: u64 = 1 << 20;

pub fn trials() -> Vec<Trial> {
    [
        with_drivers("a_source_that_fails_fails_its_own_reader_only", failing),
        with_drivers("a_source_that_ends_early_fails_its_own_reader_only", short),
        with_drivers("a_source_that_returns_more_than_was_asked_for_fails", lying),
        with_drivers(
            "a_source_that_hangs_is_replaced_after_the_source_timeout_and_its_late_bytes_are_dropped",
            hanging,
        ),
        with_drivers("a_wait_ends_after_the_timeout_and_can_be_repeated", timeout),
        with_drivers("a_reader_that_does_not_read_on_delays_nobody", absent),
        with_drivers("sources_that_all_take_longer_than_the_source_timeout_deliver_the_image", all_slow),
        with_drivers("a_slow_source_is_not_replaced_while_bytes_come", growing),
        with_drivers("an_end_that_a_source_finds_after_the_image_was_published_is_no_failure", late_end),
        with_drivers("the_longest_timeouts_are_for_ever", longest_timeouts),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn failing(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut bad = cache.stream("1", |_: u64, _: &mut [u8]| Err(io::Error::other("unreachable"))).unwrap();
    let error = bad.read(&mut [0; 10]).unwrap_err();
    assert!(matches!(&error, Error::Source { cause, .. } if cause == "unreachable"), "{error}");
    assert_eq!(bad.read(&mut [0; 10]).unwrap_err(), error);
    drop(bad);
    assert!(!cache.is_being_cached("1").unwrap(), "a file without bytes was left");
    assert!(files(&scratch.file(".image_cache/streams")).is_empty());
    stream_whole(&cache, "1", &store);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn short(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut good = other.stream("1", store.source()).unwrap();
    good.expect_size(SIZE).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(good.read(&mut buffer).unwrap(), 1000);
    let mut bad = cache.stream("1", Store::new(5000).source()).unwrap();
    bad.expect_size(SIZE).unwrap();
    let error = read_all(&mut bad, 10_000).unwrap_err();
    assert!(matches!(error, Error::SizeMismatch { expected: SIZE, actual: SHORTEST, .. }), "{error}");
    let rest = read_all(&mut good, 10_000).unwrap();
    assert_whole(&[&buffer[..], &rest].concat(), SIZE);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn lying(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut stream = cache.stream("1", |_: u64, buffer: &mut [u8]| Ok(buffer.len() + 1)).unwrap();
    assert!(matches!(stream.read(&mut [0; 10]), Err(Error::Source { .. })));
    assert_eq!(stream.available(), 0);
}

fn hanging(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let (called, is_called) = channel();
    let (release, is_released) = channel::<()>();
    std::thread::scope(|scope| {
        let mut calls = 0;
        let wrong_and_late = move |_: u64, buffer: &mut [u8]| {
            calls += 1;
            if calls == 1 {
                called.send(()).unwrap();
                is_released.recv().unwrap();
                buffer.fill(0xEE);
                return Ok(buffer.len());
            }
            Err(io::Error::other("called again"))
        };
        let mut late = cache.stream("1", wrong_and_late).unwrap();
        let late = scope.spawn(move || read_all(&mut late, 10_000));
        is_called.recv().unwrap();
        let mut stream = other.stream("1", store.source()).unwrap();
        stream.set_source_timeout(Duration::from_millis(20)).unwrap();
        let bytes = read_all(&mut stream, 10_000);
        release.send(()).unwrap();
        assert_whole(&bytes.unwrap(), SIZE);
        assert_whole(&late.join().unwrap().unwrap(), SIZE);
    });
    assert_eq!(store.fetched(), SIZE);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn timeout(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let (called, is_called) = channel();
    let (release, is_released) = channel::<()>();
    std::thread::scope(|scope| {
        let slow = move |offset: u64, buffer: &mut [u8]| {
            if offset > 0 {
                return Ok(0);
            }
            called.send(()).unwrap();
            is_released.recv().unwrap();
            buffer[0] = 7;
            Ok(1)
        };
        let mut first = cache.stream("1", slow).unwrap();
        let first = scope.spawn(move || read_all(&mut first, 10));
        is_called.recv().unwrap();
        let mut second = other.stream("1", |_: u64, _: &mut [u8]| Ok(0)).unwrap();
        second.set_timeout(Some(Duration::from_millis(5))).unwrap();
        for _ in 0..2 {
            assert!(matches!(second.read(&mut [0; 10]), Err(Error::TimedOut { .. })));
        }
        release.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap(), [7]);
        second.set_timeout(None).unwrap();
        assert_eq!(read_all(&mut second, 10).unwrap(), [7]);
    });
}

fn absent(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut absent = cache.stream("1", store.source()).unwrap();
    assert_eq!(absent.read(&mut [0; 10]).unwrap(), 10);
    // It has the stream open, and does not read on.
    stream_whole(&other, "1", &store);
    assert_eq!((store.fetched(), absent.role()), (SIZE, StreamRole::Fetching));
}

fn all_slow(driver: DriverChoice) {
    const SIZE: u64 = 100_000;
    let scratch = Scratch::new(driver);
    let store = Store::slow(SIZE, Duration::from_millis(50));
    let (ended, has_ended) = channel();
    for _ in 0..6 {
        let cache = scratch.open();
        let (store, ended) = (store.clone(), ended.clone());
        // Not joined: a stream that never ends would hang the test.
        std::thread::spawn(move || {
            let mut stream = cache.stream("1", store.source()).unwrap();
            stream.set_source_timeout(Duration::from_millis(4)).unwrap();
            ended.send(read_all(&mut stream, 20_000)).unwrap();
        });
    }
    for _ in 0..6 {
        let bytes = has_ended.recv_timeout(Duration::from_secs(10)).expect("no stream ends");
        assert_whole(&bytes.unwrap(), SIZE);
    }
    assert_whole(&read_image(&scratch.open(), "1"), SIZE);
}

fn growing(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::slow(SIZE, Duration::from_millis(20));
    std::thread::scope(|scope| {
        let mut first = cache.stream("1", store.source()).unwrap();
        assert_eq!(first.read(&mut [0; 10]).unwrap(), 10);
        scope.spawn(move || read_all(&mut first, 10_000).unwrap());
        let mut ahead = other.stream("1", store.source()).unwrap();
        ahead.set_source_timeout(Duration::from_millis(400)).unwrap();
        assert_eq!(ahead.read_at(SIZE - 10, &mut [0; 10]).unwrap(), 10);
    });
    assert!(!scratch.logged("has not returned"), "{:?}", scratch.messages);
    assert_eq!(store.fetched(), SIZE);
}

fn late_end(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(1000);
    let (called, is_called) = channel();
    let (release, is_released) = channel::<()>();
    std::thread::scope(|scope| {
        let slow_end = move |offset: u64, buffer: &mut [u8]| {
            if offset == 0 {
                buffer[..1000].copy_from_slice(&crate::fixture::content(1000));
                return Ok(1000);
            }
            called.send(()).unwrap();
            is_released.recv().unwrap();
            Ok(0)
        };
        let mut slow = cache.stream("1", slow_end).unwrap();
        let slow = scope.spawn(move || (read_all(&mut slow, 100), slow.role()));
        is_called.recv().unwrap();
        let mut sized = other.stream("1", store.source()).unwrap();
        sized.expect_size(1000).unwrap();
        let bytes = read_all(&mut sized, 1000);
        release.send(()).unwrap();
        // A stream that goes on alone asks its source again.
        drop(release);
        assert_whole(&bytes.unwrap(), 1000);
        let (bytes, role) = slow.join().unwrap();
        assert_whole(&bytes.unwrap(), 1000);
        assert_ne!(role, StreamRole::Alone);
    });
    assert!(!scratch.logged("alone"), "{:?}", scratch.messages);
}

fn longest_timeouts(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::slow(SIZE, Duration::from_millis(1));
    std::thread::scope(|scope| {
        for cache in [&cache, &other] {
            scope.spawn(|| {
                let mut stream = cache.stream("1", store.source()).unwrap();
                stream.set_timeout(Some(Duration::MAX)).unwrap();
                stream.set_source_timeout(Duration::MAX).unwrap();
                assert_whole(&read_all(&mut stream, 10_000).unwrap(), SIZE);
            });
        }
    });
    assert_eq!(store.fetched(), SIZE);
}
