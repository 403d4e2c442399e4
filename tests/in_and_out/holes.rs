//! Holes that a writer makes: they are zeros with a length, a digest, and no blocks.

use std::fs;
use std::ops::ControlFlow;

use image_cache::{DriverChoice, Error, ImportOptions, LimitMode, Options, VerifyOptions};

use crate::common::{Scratch, cache_image, read_image};
use crate::volume::{DATA, LENGTH, Volume, allocated, bytes, data_of, sparse_bytes};

const HOLE: u64 = 64 << 10;

/// The image is the same as one whose zeros were written: its bytes, its digest, its length.
pub fn written_holes_are_zeros(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let scratch = Scratch::at(volume.join("cache"), driver);
    let cache = scratch.open();
    let mut writer = cache.begin_write("sparse").unwrap();
    let mut at = 0;
    for data in DATA {
        writer.write_hole(data.start - at).unwrap();
        writer.write_chunk(&bytes(0, usize::try_from(data.end - data.start).unwrap())).unwrap();
        at = data.end;
    }
    writer.write_hole(0).unwrap();
    writer.write_hole(LENGTH - at).unwrap();
    writer.commit().unwrap();
    assert!(read_image(&cache, "sparse") == sparse_bytes());
    assert_eq!(data_of(&scratch.file("sparse")), DATA);
    cache_image(&cache, "written", &sparse_bytes());
    let [sparse, written] = ["sparse", "written"].map(|id| cache.get_image(id).unwrap());
    assert!(sparse.digest == written.digest && sparse.size == written.size);
    assert_eq!(sparse.allocated, allocated(&scratch.file("sparse")));
    let listed: Vec<_> = cache.list_cached().unwrap().map(|image| image.allocated).collect();
    assert_eq!(listed, [sparse.allocated, written.allocated]);
    assert!(sparse.allocated < written.allocated);
    let verified = cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap();
    assert!((verified.verified, verified.failed) == (2, 0), "{verified:?}");
}

/// A stream follows a writer through its holes, and needs no source.
pub fn streams_follow_a_writer_of_holes(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let mut writer = cache.begin_write("sparse").unwrap();
    let no_source = |_: u64, _: &mut [u8]| Err(std::io::Error::other("a writer has it"));
    let mut stream = other.stream("sparse", no_source).unwrap();
    let mut read = Vec::new();
    let mut at = 0;
    for data in DATA {
        writer.write_hole(data.start - at).unwrap();
        writer.write_chunk(&bytes(0, usize::try_from(data.end - data.start).unwrap())).unwrap();
        at = data.end;
        let mut part = vec![1; usize::try_from(at).unwrap() - read.len()];
        std::io::Read::read_exact(&mut stream, &mut part).unwrap();
        read.extend_from_slice(&part);
    }
    writer.write_hole(LENGTH - at).unwrap();
    writer.commit().unwrap();
    std::io::Read::read_to_end(&mut stream, &mut read).unwrap();
    assert!(read == sparse_bytes());
    assert_eq!(data_of(&scratch.file("sparse")), DATA);
}

/// Runs of zeros become holes if that is an option, for writers and tees alike; else they do not.
pub fn zeros_become_holes_where_that_is_an_option(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let whole = sparse_bytes();
    for is_sparse in [false, true] {
        let cache = scratch.open_with(scratch.options.clone().sparse(is_sparse));
        let mut writer = cache.begin_write("written").unwrap();
        // The units are those of the image, not of the chunk.
        for chunk in whole.chunks((3 << 20) + 77) {
            writer.write_chunk(chunk).unwrap();
        }
        writer.commit().unwrap();
        let mut teed = Vec::new();
        let mut tee = cache.tee("teed", &whole[..]).unwrap();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(length @ 1..) = tee.read(&mut buffer) {
            teed.extend_from_slice(&buffer[..length]);
        }
        assert!(teed == whole);
        drop(tee);
        for id in ["written", "teed"] {
            assert!(read_image(&cache, id) == whole, "{id}");
            let data: u64 = DATA.iter().map(|data| data.end - data.start).sum();
            // Each border of chunks or of data can cost a unit.
            let is_small = allocated(&scratch.file(id)) <= data + 16 * HOLE;
            assert_eq!(is_small, is_sparse, "{id}: {} bytes", allocated(&scratch.file(id)));
        }
        let [written, teed] = ["written", "teed"].map(|id| cache.get_image(id).unwrap().digest);
        assert!(written.is_some() && written == teed);
        cache.delete_all_cached_images().unwrap();
    }
}

/// Lists show what incomplete and invalid images take up on the disk, as well as their lengths.
pub fn lists_of_images_that_are_not_cached_show_their_blocks(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut writer = cache.begin_write("sparse").unwrap();
    writer.write_chunk(&[1; 8192]).unwrap();
    writer.write_hole(HOLE).unwrap();
    writer.write_chunk(&[1]).unwrap();
    let shown = cache.list_incomplete().unwrap().pop().unwrap();
    assert_eq!((shown.size, shown.allocated), (8192 + HOLE + 1, allocated(&scratch.file("incomplete/sparse"))));
    writer.abort("given up");
    let shown = cache.list_invalid().unwrap().pop().unwrap();
    assert_eq!((shown.size, shown.allocated), (8192 + HOLE + 1, allocated(&scratch.file("invalid/sparse"))));
    assert!((8192..HOLE).contains(&shown.allocated), "{} bytes", shown.allocated);
}

/// Nobody waits until the zeros of terabytes are hashed: written, verified and imported, they take no time.
pub fn a_hole_of_terabytes_is_cached_verified_and_imported(driver: DriverChoice) {
    const TERABYTES: u64 = 4 << 40;
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut writer = cache.begin_write("written").unwrap();
    writer.write_chunk(b"begin").unwrap();
    writer.write_hole(TERABYTES).unwrap();
    writer.write_chunk(b"end").unwrap();
    writer.commit().unwrap();
    let file = fs::File::open(scratch.file("written")).unwrap();
    let go_on = |_: u64, _: u64| ControlFlow::Continue(());
    cache.import("imported", &file, &ImportOptions::default(), go_on).unwrap();
    let verified = cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap();
    assert!(verified.verified == 2 && verified.bytes_read < 64 << 20, "{verified:?}");
    let [written, imported] = ["written", "imported"].map(|id| cache.get_image(id).unwrap());
    assert_eq!((written.size, imported.size), (TERABYTES + 8, TERABYTES + 8));
    assert!(written.digest.is_some() && written.digest == imported.digest);
    assert!(written.allocated < 1 << 20 && imported.allocated < 1 << 20);
}

/// What lies at the end of the longest file is verified, though no whole block can be read there.
pub fn longest_images_are_verified(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let cache = Scratch::at(volume.join("cache"), driver);
    let cache = cache.open();
    for less in [0, 1, 511, 4095, 4096, 100_000] {
        let mut writer = cache.begin_write("longest").unwrap();
        writer.write_chunk(b"hello").unwrap();
        writer.write_hole(i64::MAX.unsigned_abs() - less - 6).unwrap();
        writer.write_chunk(b"w").unwrap();
        writer.commit().unwrap();
        let verified = cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap();
        assert!(verified.verified == 1, "{less} less: {verified:?}");
        cache.delete_cached_image("longest").unwrap();
    }
}

/// More than is expected, and more than a file can have.
pub fn holes_that_are_too_long_fail(driver: DriverChoice) {
    let cache = Scratch::new(driver);
    let cache = cache.open();
    let mut writer = cache.begin_write("expected").unwrap();
    writer.expect_size(10).unwrap();
    writer.write_chunk(b"12345").unwrap();
    let failed = writer.write_hole(6);
    assert!(matches!(failed, Err(Error::SizeMismatch { expected: 10, actual: 11, .. })), "{failed:?}");
    assert_eq!(writer.write_chunk(b"6"), failed, "the first failure is final");
    assert_eq!(writer.commit(), failed);
    for length in [u64::MAX, i64::MAX.unsigned_abs()] {
        let mut writer = cache.begin_write("longest").unwrap();
        writer.write_chunk(b"12345").unwrap();
        let failed = writer.write_hole(length);
        assert!(matches!(failed, Err(Error::System { .. })), "{failed:?}");
        assert_eq!(writer.commit(), failed);
    }
}

/// A hole gives back what was reserved for it, and the limit counts the rest.
pub fn hole_takes_no_room_of_the_limit(kind: &str, driver: DriverChoice) {
    const LIMIT: u64 = 8 << 20;
    let volume = Volume::new(kind, 400);
    let scratch = Scratch::at(volume.join("cache"), driver);
    let options: Options = scratch.options.clone().max_size(LIMIT).limit_mode(LimitMode::Hard);
    let cache = scratch.open_with(options);
    let used = || cache.usage().unwrap().total();
    for expects in [true, false] {
        let mut writer = cache.begin_write("image").unwrap();
        if expects {
            writer.expect_size(7 << 20).unwrap();
            assert!(used() >= 7 << 20);
        }
        writer.write_chunk(&bytes(1, 1 << 20)).unwrap();
        let before = used();
        writer.write_hole(4 << 20).unwrap();
        let freed = before.saturating_sub(used());
        assert!(!expects || freed >= 4 << 20, "{kind}: {freed} bytes");
        assert!(used() <= before, "{kind} {expects}");
        writer.write_chunk(&bytes(2, 2 << 20)).unwrap();
        writer.write_hole(if expects { 0 } else { 100 << 20 }).unwrap();
        assert!(used() <= LIMIT);
        writer.commit().unwrap();
        let on_disk = allocated(&scratch.file("image"));
        assert!((3 << 20..(3 << 20) + HOLE).contains(&on_disk), "{kind}: {on_disk} bytes");
        assert_eq!(cache.usage().unwrap().cached, on_disk);
        assert!(read_image(&cache, "image").starts_with(&bytes(1, 1 << 20)));
        assert!(fs::read(scratch.file("image")).unwrap()[5 << 20..].starts_with(&bytes(2, 2 << 20)));
        cache.delete_cached_image("image").unwrap();
    }
}

/// What was reserved ahead of the last bytes of an image with holes is freed when it is published.
pub fn reservation_of_a_sparse_image_ends_with_its_commit(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let scratch = Scratch::at(volume.join("cache"), driver);
    let options: Options = scratch.options.clone().max_size(100 << 20).limit_mode(LimitMode::Hard);
    let cache = scratch.open_with(options);
    let mut writer = cache.begin_write("image").unwrap();
    writer.write_hole(64 << 20).unwrap();
    writer.write_chunk(&bytes(1, 1 << 20)).unwrap();
    writer.write_chunk(&bytes(2, 1 << 20)).unwrap();
    assert!(cache.usage().unwrap().incomplete > 10 << 20, "{kind}: nothing is reserved ahead");
    writer.commit().unwrap();
    let on_disk = allocated(&scratch.file("image"));
    assert!((2 << 20..(2 << 20) + HOLE).contains(&on_disk), "{kind}: {on_disk} bytes");
}
