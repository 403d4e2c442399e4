//! The verdict at the end, and what is left of a fetch.

use std::sync::Arc;

use image_cache::{Algorithm, DriverChoice, Error, Holder, StreamRole};
use libtest_mimic::Trial;

use crate::common::{Scratch, cache_image, files, read_image};
use crate::fixture::{SHORTEST, Store, assert_whole, content, hex, read_all, sha256, stream_whole};
use crate::with_drivers;

const SIZE: u64 = (3 << 19) + 5;

pub fn trials() -> Vec<Trial> {
    [
        with_drivers("wrong_bytes_fail_all_participants_at_the_end_and_are_not_published", mismatch),
        with_drivers("a_reader_that_closes_early_leaves_an_image_that_the_next_one_resumes", resumed),
        with_drivers("a_writer_replaces_a_fetch_without_participants_at_once", replaced),
        with_drivers("a_writer_is_refused_while_a_stream_fetches", refused),
        with_drivers("clean_keeps_a_fetch_without_participants_until_it_stalls", cleaned),
        with_drivers("an_image_that_is_cleaned_while_it_is_streamed_is_delivered_whole", cleaned_while_streamed),
        with_drivers("contradicting_expectations_are_fetched_alone", contradiction),
        with_drivers("a_stream_that_knows_the_size_publishes_at_its_close", closed_at_the_size),
        with_drivers("an_image_that_is_deleted_and_cached_anew_while_it_is_streamed_keeps_its_bytes", deleted),
        with_drivers("a_forked_child_does_not_take_part_after_the_close", forked),
        with_drivers("the_longest_size_is_expected_as_any_other", longest_size),
        with_drivers("bytes_that_were_found_wrong_are_not_followed", known_wrong),
        with_drivers("a_list_tells_who_fetches_an_image_and_what_is_left_of_a_fetch", listed),
        with_drivers("what_a_process_has_hashed_is_not_read_again_to_verify_it", hashed_once),
        with_drivers("a_hash_of_bytes_that_another_program_cut_off_is_not_used", cut_off),
        with_drivers("the_source_is_never_called_beyond_the_expected_size", beyond),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn mismatch(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut first = cache.stream("1", store.source()).unwrap();
    first.expect_digest(Algorithm::Sha256, &"0".repeat(64)).unwrap();
    let mut second = other.stream("1", store.source()).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!((first.read(&mut buffer).unwrap(), second.read(&mut buffer).unwrap()), (1000, 1000));
    for stream in [&mut first, &mut second] {
        let error = read_all(stream, 100_000).unwrap_err();
        let Error::DigestMismatch { actual, .. } = &error else { panic!("{error}") };
        assert_eq!(*actual, sha256(SIZE));
        assert_eq!(stream.read(&mut buffer).unwrap_err(), error);
    }
    assert_eq!(store.fetched(), SIZE);
    assert!(!cache.is_cached("1").unwrap());
    assert_eq!(files(&scratch.file("invalid")), ["1"]);
    assert!(files(&scratch.file("incomplete")).is_empty());
    drop((first, second));
    stream_whole(&cache, "1", &store);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn resumed(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let store = Store::new(SIZE);
    let mut begun = 0;
    {
        let cache = scratch.open();
        let mut stream = cache.stream("1", store.source()).unwrap();
        let mut buffer = vec![0; 100_000];
        while begun < 800_000 {
            begun += stream.read(&mut buffer).unwrap() as u64;
        }
    }
    assert_eq!(files(&scratch.file("incomplete")), ["1"]);
    let cache = scratch.open();
    stream_whole(&cache, "1", &store);
    assert_eq!(store.fetched(), SIZE);
    assert!(scratch.logged(&format!("resumed at {begun} bytes")), "{:?}", scratch.messages);
    assert_whole(&read_image(&cache, "1"), SIZE);
}

fn replaced(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
    drop(stream);
    cache_image(&cache, "1", b"a writer's");
    assert_eq!(read_image(&cache, "1"), b"a writer's");
    assert!(files(&scratch.file(".image_cache/streams")).is_empty());
}

fn refused(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
    for cache in [&cache, &other] {
        let Err(Error::BeingCached(who)) = cache.begin_write("1") else { panic!("a writer began") };
        assert_eq!(who.process, Some(std::process::id()));
        assert!(who.since.is_some());
        assert!(!cache.queue_image("1").unwrap());
    }
}

fn cleaned(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
    drop(stream);
    assert_eq!(cache.clean(None).unwrap(), 0);
    assert_eq!(files(&scratch.file("incomplete")), ["1"]);
    crate::common::age(&scratch.file("incomplete/1"), std::time::Duration::from_secs(25 * 60 * 60));
    assert_eq!(cache.clean(None).unwrap(), 1);
    assert!(files(&scratch.file("incomplete")).is_empty() && files(&scratch.file(".image_cache/streams")).is_empty());
}

fn cleaned_while_streamed(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    stream.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(stream.read(&mut buffer).unwrap(), 1000);
    std::fs::remove_file(scratch.file("incomplete/1")).unwrap();
    let rest = read_all(&mut stream, 10_000).unwrap();
    assert_whole(&[&buffer[..], &rest].concat(), SIZE);
    assert_eq!((stream.role(), store.fetched()), (StreamRole::Alone, SIZE));
    assert!(!cache.is_cached("1").unwrap());
}

fn contradiction(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut first = cache.stream("1", store.source()).unwrap();
    first.expect_size(SIZE).unwrap();
    let mut begun = [0; 1000];
    assert_eq!(first.read(&mut begun).unwrap(), 1000);
    let mut second = cache.stream("1", store.source()).unwrap();
    second.expect_size(SIZE - 1).unwrap();
    assert_whole(&read_all(&mut second, 100_000).unwrap(), SIZE - 1);
    assert_eq!((second.role(), store.fetched()), (StreamRole::Alone, SIZE - 1 + SHORTEST));
    read_all(&mut first, 100_000).unwrap();
    assert_whole(&read_image(&cache, "1"), SIZE);
    let mut third = cache.stream("1", store.source()).unwrap();
    third.expect_size(5).unwrap();
    assert_whole(&read_all(&mut third, 100_000).unwrap(), 5);
    assert_eq!(third.role(), StreamRole::Alone);
}

fn closed_at_the_size(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(1000);
    let mut stream = cache.stream("1", store.source()).unwrap();
    stream.expect_size(1000).unwrap();
    assert_eq!(stream.read(&mut [0; 1000]).unwrap(), 1000);
    drop(stream);
    assert_eq!(read_image(&cache, "1"), content(1000));
}

fn deleted(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let store = Store::new(SIZE);
    let mut slow = cache.stream("1", store.source()).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(slow.read(&mut buffer).unwrap(), 1000);
    stream_whole(&cache, "1", &store);
    cache.delete_cached_image("1").unwrap();
    cache_image(&cache, "1", b"another image");
    let rest = read_all(&mut slow, 10_000).unwrap();
    assert_whole(&[&buffer[..], &rest].concat(), SIZE);
    assert_eq!(store.fetched(), SIZE);
    assert_eq!(read_image(&cache, "1"), b"another image");
}

fn longest_size(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    for size in [u64::MAX - 1, u64::MAX] {
        let mut stream = cache.stream("1", Store::new(1000).source()).unwrap();
        stream.expect_size(size).unwrap();
        let error = read_all(&mut stream, 100).unwrap_err();
        assert!(matches!(error, Error::SizeMismatch { expected, actual: 1000, .. } if expected == size), "{error}");
        assert!(!cache.is_cached("1").unwrap());
    }
}

fn known_wrong(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let wrong = |offset: u64, buffer: &mut [u8]| {
        let length = usize::try_from(SIZE.saturating_sub(offset)).unwrap().min(buffer.len());
        buffer[..length].fill(0xEE);
        Ok(length)
    };
    let mut first = cache.stream("1", wrong).unwrap();
    assert_eq!(first.read(&mut [0; 10]).unwrap(), 10);
    // As if the one who verified them was killed before it moved the file. Another participant does not read on.
    let record = scratch.file(".image_cache/streams/1");
    let mut bytes = std::fs::read(&record).unwrap();
    bytes[88] = 2;
    let digest = format!("sha256:{}", "0".repeat(64));
    bytes[96 + 5 * 144..][..digest.len()].copy_from_slice(digest.as_bytes());
    std::fs::write(&record, bytes).unwrap();
    let store = Store::new(SIZE);
    stream_whole(&other, "1", &store);
    assert_eq!(store.fetched(), SIZE);
    assert_whole(&read_image(&other, "1"), SIZE);
}

fn beyond(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let size = 10 << 20;
    let source = move |offset: u64, buffer: &mut [u8]| {
        assert!(offset + buffer.len() as u64 <= size, "called beyond the size");
        Ok(buffer.len())
    };
    let mut stream = cache.stream("1", source).unwrap();
    stream.expect_size(size).unwrap();
    assert_eq!(stream.read_at(size - 10, &mut [0; 100]).unwrap(), 10);
}

#[allow(unsafe_code, reason = "a descriptor as a forked child has it")]
fn forked(driver: DriverChoice) {
    use std::os::fd::BorrowedFd;
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut stream = cache.stream("1", Store::new(SIZE).source()).unwrap();
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 10);
    let record = scratch.file(".image_cache/streams/1");
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let path = descriptors.into_iter().find(|path| std::fs::read_link(path).is_ok_and(|to| to == record)).unwrap();
    let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    // SAFETY: the stream has it open.
    let copy = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap();
    drop(stream);
    cache_image(&cache, "1", b"a writer's");
    assert_eq!(read_image(&cache, "1"), b"a writer's");
    drop(copy);
}

fn listed(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let store = Store::new(SIZE);
    let mut stream = cache.stream("1", store.source()).unwrap();
    stream.read(&mut [0; 10]).unwrap();
    let one = || {
        let images = other.list_incomplete().unwrap();
        let [image] = &images[..] else { panic!("{images:?}") };
        assert_eq!((image.image_id.as_str(), image.size), ("1", SHORTEST));
        assert!(image.since.is_some_and(|since| since <= image.last_modified));
        (image.holder, image.process)
    };
    assert_eq!(one(), (Holder::Streams, Some(std::process::id())));
    drop(stream);
    assert_eq!(one(), (Holder::Resumable, None));
    let mut wrong = other.stream("2", store.source()).unwrap();
    wrong.expect_digest(Algorithm::Md5, &"0".repeat(32)).unwrap();
    let error = read_all(&mut wrong, 100_000).unwrap_err();
    let invalid = other.list_invalid().unwrap();
    let [image] = &invalid[..] else { panic!("{invalid:?}") };
    assert_eq!((image.image_id.as_str(), image.size), ("2", SIZE));
    assert_eq!(image.reason.as_ref(), Some(&error.to_string()));
}

/// The bytes that come in place of those that were cut off are others.
fn cut_off(driver: DriverChoice) {
    const SIZE: u64 = 24 << 20;
    const CUT: u64 = 10 << 20;
    let scratch = Scratch::new(driver);
    let store = Arc::new(Store { size: SIZE, piece: 1 << 20, ..Store::default() });
    let mut buffer = vec![0; 1 << 20];
    {
        let cache = scratch.open();
        let mut stream = cache.stream("1", store.source()).unwrap();
        stream.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
        for _ in 0..20 {
            assert_eq!(stream.read(&mut buffer).unwrap(), 1 << 20);
        }
    }
    std::fs::File::options().write(true).open(scratch.file("incomplete/1")).unwrap().set_len(CUT).unwrap();
    let cache = scratch.open();
    let mut right = store.source();
    let wrong = move |offset: u64, buffer: &mut [u8]| {
        let length = image_cache::RangeSource::read_at(&mut right, offset, buffer)?;
        if offset == CUT {
            buffer[0] ^= 1;
        }
        Ok(length)
    };
    let mut stream = cache.stream("1", wrong).unwrap();
    stream.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
    let error = read_all(&mut stream, 1 << 20).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert!(!cache.is_cached("1").unwrap());
}

/// How many bytes this thread has read from files, copies from the page cache included.
fn bytes_read() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Two handles share nothing but the files, as two processes do.
fn hashed_once(driver: DriverChoice) {
    const SIZE: u64 = 60 << 20;
    /// So much may be read again: what the first one has not hashed or not stored yet.
    const AGAIN: u64 = 20 << 20;
    let scratch = Scratch::new(driver);
    let store = Arc::new(Store { size: SIZE, piece: 1 << 20, ..Store::default() });
    let mut buffer = vec![0; 1 << 20];
    let expect = |stream: &mut image_cache::Stream<_>| {
        let content = content(SIZE);
        stream.expect_digest(Algorithm::Sha256, &sha256(SIZE)).unwrap();
        // Several algorithms, which are seldom at the same byte.
        stream.expect_digest(Algorithm::Sha512, &hex::<sha2::Sha512>(&content)).unwrap();
        stream.expect_digest(Algorithm::Md5, &hex::<md5::Md5>(&content)).unwrap();
    };
    {
        let cache = scratch.open();
        let mut stream = cache.stream("1", store.source()).unwrap();
        expect(&mut stream);
        for _ in 0..59 {
            assert_eq!(stream.read(&mut buffer).unwrap(), 1 << 20);
        }
    }
    let cache = scratch.open();
    let mut stream = cache.stream("1", store.source()).unwrap();
    expect(&mut stream);
    let before = bytes_read();
    let mut delivered = 0;
    while delivered < SIZE {
        delivered += stream.read(&mut buffer).unwrap() as u64;
    }
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
    let again = bytes_read() - before - 59 * (1 << 20);
    assert!(again < AGAIN, "{again} bytes were read again");
    assert_eq!(store.fetched(), SIZE);
    assert_whole(&read_image(&cache, "1"), SIZE);
}
