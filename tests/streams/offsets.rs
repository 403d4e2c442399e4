//! Reads at an offset.

use image_cache::{DriverChoice, StreamRole};
use libtest_mimic::Trial;

use crate::common::{Scratch, read_image};
use crate::fixture::{SHORTEST, Store, assert_whole, content, read_all};
use crate::with_drivers;

const SIZE: u64 = 12 << 20;

pub fn trials() -> Vec<Trial> {
    [
        with_drivers("a_read_of_bytes_that_are_near_fetches_what_is_in_between", near),
        with_drivers("a_read_of_bytes_that_are_far_comes_from_the_own_source_and_is_not_cached", far),
        with_drivers("a_read_at_the_end_returns_0", end),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn near(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(stream.read_at(2 << 20, &mut buffer).unwrap(), 1000);
    assert_eq!(buffer[..], content((2 << 20) + 1000)[2 << 20..]);
    assert_eq!((stream.available(), store.fetched()), ((2 << 20) + SHORTEST, (2 << 20) + SHORTEST));
    assert_eq!(stream.read_at(5, &mut buffer).unwrap(), 1000);
    assert_eq!(store.fetched(), (2 << 20) + SHORTEST);
    assert_whole(&read_all(&mut stream, 100_000).unwrap(), SIZE);
    assert_eq!(store.fetched(), SIZE);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn far(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(stream.read_at(9 << 20, &mut buffer).unwrap(), 1000);
    assert_eq!(buffer[..], content((9 << 20) + 1000)[9 << 20..]);
    assert_eq!((stream.available(), store.fetched()), (0, 1000));
    assert_whole(&read_all(&mut stream, 100_000).unwrap(), SIZE);
    assert_eq!(store.fetched(), SIZE + 1000);
}

fn end(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(1000);
    let mut stream = cache.stream("1", store.source()).unwrap();
    assert_eq!(stream.read_at(1000, &mut [0; 10]).unwrap(), 0);
    assert_eq!(stream.read_at(u64::MAX, &mut [0; 10]).unwrap(), 0);
    assert_whole(&read_all(&mut stream, 100).unwrap(), 1000);
    assert_eq!(stream.read_at(1000, &mut [0; 10]).unwrap(), 0);
    assert_ne!(stream.role(), StreamRole::Alone);
}
