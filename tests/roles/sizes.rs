//! A size that one stream expects, while the source of another one is called.

use std::sync::mpsc::channel;
use std::thread;

use image_cache::{DriverChoice, Error, ImageCache};

use crate::child::options;
use crate::images::Image;
use crate::streaming::read_to_end;

const SIZE: u64 = 150_000;
const BEGUN: u64 = 64 << 10;

/// A source returns 0 too early. During its call, a stream that knows the size joins.
pub fn a_size_that_comes_during_a_call(driver: DriverChoice) {
    let directory = tempfile::tempdir().unwrap();
    let cache = ImageCache::open(directory.path().join("cache"), options(driver, false)).unwrap();
    let image = &Image::new("1".to_owned(), SIZE, 1);
    let (called, is_called) = channel();
    let (release, is_released) = channel::<()>();
    let short = move |offset: u64, buffer: &mut [u8]| {
        if offset >= BEGUN {
            called.send(()).unwrap();
            is_released.recv().unwrap();
            return Ok(0);
        }
        let length = usize::try_from(BEGUN - offset).unwrap().min(buffer.len());
        image.fill(offset, &mut buffer[..length]);
        Ok(length)
    };
    let mut first = cache.stream("1", short).unwrap();
    let mut second = cache.stream("1", image.source()).unwrap();
    second.expect_size(SIZE).unwrap();
    let ends = thread::scope(|scope| {
        let first = scope.spawn(move || read_to_end(&mut first, image));
        is_called.recv().unwrap();
        let mut buffer = [0; 1000];
        let length = second.read(&mut buffer).unwrap();
        image.verify(0, &buffer[..length]).unwrap();
        release.send(()).unwrap();
        first.join().unwrap()
    });
    let expected = Error::SizeMismatch { image_id: "1".to_owned(), expected: SIZE, actual: BEGUN };
    assert_eq!(ends, Err(expected));
    while second.read(&mut [0; 10_000]).unwrap() > 0 {}
    assert_eq!(cache.image_size("1").unwrap(), SIZE);
}
