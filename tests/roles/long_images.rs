//! Long images, of which few bytes differ from 0: their files are sparse. And images of 0 bytes and of unknown length.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Mutex;

use image_cache::{DriverChoice, ImageCache, RangeSource, Stream, StreamRole};
use tempfile::TempDir;

use crate::checks::{check_clean, check_listing, file_names};
use crate::child::options;
use crate::images::Image;
use crate::is_in_full;
use crate::readers::{self, NO_TARGET, Round};
use crate::streaming::read_to_end;

const LONG: u64 = (64 << 30) + 12_345;

/// The bytes before this offset and those of the tail are an [`Image`]'s, the others are 0.
const HEAD: u64 = 64 << 10;
const TAIL_LENGTH: u64 = 300_000;

/// Shorter than each of them.
const LIMIT: u64 = 4 << 30;

/// One that is hashed. 64 GiB take minutes; 5 GiB have offsets of more than 32 bits, too.
fn hashed() -> u64 {
    if is_in_full() { LONG } else { (5 << 30) + 12_345 }
}

/// The store of a long image, and the calls of all its sources.
struct Store {
    image: Image,
    size: u64,
    tail: u64,
    calls: Mutex<Vec<u64>>,
}

impl Store {
    fn new(size: u64) -> Self {
        let image = Image::new("long".to_owned(), size, 3);
        Self { image, size, tail: size - TAIL_LENGTH, calls: Mutex::default() }
    }

    fn source(&self) -> impl FnMut(u64, &mut [u8]) -> io::Result<usize> {
        |offset, buffer| {
            self.calls.lock().unwrap().push(offset);
            let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let length = left.min(buffer.len());
            self.fill(offset, &mut buffer[..length]);
            Ok(length)
        }
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) {
        self.image.fill(offset, buffer);
        let (hole, tail) = (at(HEAD, offset, buffer), at(self.tail, offset, buffer));
        buffer[hole..tail].fill(0);
    }

    /// Panics unless that many bytes are read at the offset, and are right.
    fn assert_read<S: RangeSource>(&self, stream: &mut Stream<S>, offset: u64, length: usize) {
        let (mut read, mut expected) = (vec![1; length], vec![2; length]);
        assert_eq!(stream.read_at(offset, &mut read).unwrap(), length, "at {offset}");
        self.fill(offset, &mut expected);
        assert!(read == expected, "bytes at {offset} are wrong");
    }

    fn take_calls(&self) -> Vec<u64> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

/// Where an offset of the image is in a buffer of its bytes from `first` on.
fn at(offset: u64, first: u64, buffer: &[u8]) -> usize {
    usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX).min(buffer.len())
}

fn open(driver: DriverChoice) -> (TempDir, ImageCache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = ImageCache::open(directory.path().join("cache"), options(driver, false).max_size(LIMIT)).unwrap();
    (directory, cache)
}

/// Fetches the head, and has the file grow as if the hole was fetched.
fn leave_unfinished(directory: &Path, cache: &ImageCache, store: &Store) {
    let mut stream = cache.stream("long", store.source()).unwrap();
    stream.expect_size(store.size).unwrap();
    let mut head = vec![0; usize::try_from(HEAD).unwrap()];
    assert_eq!(stream.read(&mut head).unwrap(), head.len());
    drop(stream);
    let file = File::options().write(true).open(directory.join("cache/incomplete/long")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), HEAD);
    file.set_len(store.tail).unwrap();
    store.take_calls();
}

pub fn far_offsets(driver: DriverChoice) {
    let (directory, cache) = open(driver);
    let store = Store::new(LONG);
    let mut stream = cache.stream("long", store.source()).unwrap();
    stream.expect_size(LONG).unwrap();
    let mut head = [0; 10];
    assert_eq!(stream.read(&mut head).unwrap(), 10);
    store.take_calls();
    // Around the border of 32 bits, at the tail, and over the end.
    for offset in [(4 << 30) - 50, 4 << 30, store.tail - 50, LONG - 100] {
        store.assert_read(&mut stream, offset, 100);
        assert_eq!(store.take_calls(), [offset]);
    }
    let mut rest = [0; 100];
    assert_eq!(stream.read_at(LONG - 7, &mut rest).unwrap(), 7);
    assert_eq!(stream.read_at(LONG, &mut rest).unwrap() + stream.read_at(u64::MAX, &mut rest).unwrap(), 0);
    assert_eq!((stream.available(), store.take_calls()), (HEAD, vec![LONG - 7]));
    assert_eq!(fs::metadata(directory.path().join("cache/incomplete/long")).unwrap().len(), HEAD);
}

pub fn a_resumed_fetch(driver: DriverChoice) {
    let (directory, cache) = open(driver);
    let store = Store::new(hashed());
    let Store { size, tail, .. } = store;
    leave_unfinished(directory.path(), &cache, &store);
    let other = ImageCache::open(directory.path().join("cache"), options(driver, false)).unwrap();
    let mut first = cache.stream("long", store.source()).unwrap();
    first.expect_size(size).unwrap();
    let mut second = other.stream("long", store.source()).unwrap();
    store.assert_read(&mut first, 4 << 30, 100);
    store.assert_read(&mut second, tail - 100, 100);
    assert_eq!((first.available(), second.available(), store.take_calls()), (tail, tail, vec![]));
    // The next bytes are fetched at the end of the file. Both streams read them there.
    store.assert_read(&mut first, tail, 100);
    assert_eq!((first.role(), store.take_calls()), (StreamRole::Fetching, vec![tail]));
    store.assert_read(&mut second, tail + 50, 1000);
    assert_eq!((second.role(), store.take_calls()), (StreamRole::Following, vec![]));
    store.assert_read(&mut second, size - 1000, 1000);
    assert_eq!(first.available(), size);
    // The one that does not expect the size reads the end.
    assert_eq!(second.read_at(size, &mut [0; 10]).unwrap(), 0);
    drop((first, second));
    assert_published(directory.path(), &cache, &store);
    let pruned = cache.prune().unwrap();
    assert_eq!((pruned.images, pruned.bytes, cache.cache_size().unwrap()), (1, size, 0));
    check_clean(&directory.path().join("cache"), &cache).unwrap();
    assert!(file_names(&directory.path().join("cache/.image_cache/streams")).unwrap().is_empty());
}

fn assert_published(directory: &Path, cache: &ImageCache, store: &Store) {
    let Store { size, tail, .. } = *store;
    assert!(cache.is_cached("long").unwrap());
    assert_eq!((cache.image_size("long").unwrap(), cache.cache_size().unwrap()), (size, size));
    let listed = check_listing(&directory.join("cache"), cache).unwrap();
    assert_eq!(listed.iter().map(|image| image.size).collect::<Vec<_>>(), [size]);
    let metadata = fs::metadata(directory.join("cache/long")).unwrap();
    assert!(metadata.blocks() * 512 < 10 << 20, "the file has {} blocks", metadata.blocks());
    let reader = cache.open_for_read("long").unwrap();
    let mut stream = cache.stream("long", store.source()).unwrap();
    for offset in [0, HEAD - 50, (4 << 30) - 50, tail - 50, size - 100] {
        let (mut read, mut expected) = ([1; 100], [2; 100]);
        assert_eq!(reader.read_at(offset, &mut read).unwrap(), 100);
        store.fill(offset, &mut expected);
        assert!(read == expected, "bytes at {offset} are wrong");
        store.assert_read(&mut stream, offset, 100);
    }
    assert_eq!((stream.role(), stream.available()), (StreamRole::Cached, size));
    assert_eq!(reader.read_at(size, &mut [0; 10]).unwrap(), 0);
}

/// A file that is longer than expected is replaced.
pub fn a_shorter_image(driver: DriverChoice) {
    let (directory, cache) = open(driver);
    leave_unfinished(directory.path(), &cache, &Store::new(LONG));
    let image = Image::new("long".to_owned(), 200_000, 5);
    let mut stream = cache.stream("long", image.source()).unwrap();
    stream.expect_size(image.size).unwrap();
    read_to_end(&mut stream, &image).unwrap();
    assert_eq!((stream.role(), cache.image_size("long").unwrap()), (StreamRole::Fetching, image.size));
    check_clean(&directory.path().join("cache"), &cache).unwrap();
}

/// 100 threads in 5 processes stream images of 0 bytes, of 1 byte, and of whole pieces, whose length is known or not.
pub fn edges_in_processes(driver: DriverChoice) {
    let (directory, cache) = open(driver);
    let mut processes: Vec<_> = (0..5).map(|_| readers::start(directory.path(), driver, 20)).collect();
    let sizes = [0, 1, 64 << 10, 1 << 20, (1 << 20) + 1];
    for (number, (size, is_expected)) in sizes.iter().flat_map(|size| [(*size, false), (*size, true)]).enumerate() {
        let round = Round { number, size, piece: 1 << 20, pace: 20_000, is_expected, target: NO_TARGET, read: 0 };
        for process in &mut processes {
            process.send(&round.line());
        }
        for process in &processes {
            let reply = process.reply().unwrap();
            assert_eq!(reply.split(' ').next(), Some("20"), "{round:?}");
        }
        let calls = readers::calls(directory.path(), number);
        assert_eq!(calls.iter().map(|(_, length)| length).sum::<u64>(), size, "{round:?}: {calls:?}");
        // Nobody calls a source at the end that is expected.
        assert!(!is_expected || calls.iter().all(|(_, length)| *length > 0), "{round:?}: {calls:?}");
        assert_eq!(cache.image_size(&round.image().id).unwrap(), size, "{round:?}");
    }
    for process in processes {
        process.finish().unwrap();
    }
    check_clean(&directory.path().join("cache"), &cache).unwrap();
    assert!(file_names(&directory.path().join("cache/.image_cache/streams")).unwrap().is_empty());
}
