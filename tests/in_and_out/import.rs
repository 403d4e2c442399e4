//! Import: the image is the source as it was at one moment, or there is none.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use image_cache::{
    Algorithm, Copied, CopyMode, DriverChoice, Error, ExportOptions, ImageCache, ImportOptions, LimitMode,
    VerifyOptions,
};
use sha2::{Digest as _, Sha256};

use crate::common::{Scratch, cache_image, ids, read_image};
use crate::volume::{DATA, LENGTH, Volume, allocated, bytes, data_of, has_reflinks, sparse_bytes, write_sparse};

const MODES: [CopyMode; 2] = [CopyMode::Any, CopyMode::Copy];

fn plain(mode: CopyMode) -> ImportOptions {
    ImportOptions { mode, ..ImportOptions::default() }
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn sha256(data: &[u8]) -> String {
    crate::hex(&Sha256::digest(data))
}

fn source(path: &Path, data: &[u8]) -> File {
    fs::write(path, data).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

fn reason(cache: &ImageCache) -> String {
    let invalid = cache.list_invalid().unwrap();
    invalid.iter().map(|image| image.reason.clone().unwrap_or_default()).collect()
}

/// The image has the bytes and the digest of the source, whose offset stays.
pub fn image_is_the_source(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let path = scratch.path().with_extension("source");
    for (number, length) in [0, 1, 4096, (1 << 20) + 17, 9 << 20].into_iter().enumerate() {
        let data = bytes(number, length);
        cache_image(&cache, "written", &data);
        let written = cache.get_image("written").unwrap();
        for mode in MODES {
            let mut file = source(&path, &data);
            file.seek(SeekFrom::Start(99)).unwrap();
            let mut calls = Vec::new();
            let imported = cache.import("plain", &file, &plain(mode), |done, total| {
                calls.push((done, total));
                ControlFlow::Continue(())
            });
            assert!(imported.is_ok_and(|copied| mode == CopyMode::Any || copied == Copied::Bytes));
            assert_eq!(file.stream_position().unwrap(), 99);
            let total = length as u64;
            assert!(calls.first() == Some(&(0, total)) && calls.last() == Some(&(total, total)), "{calls:?}");
            assert!(read_image(&cache, "plain") == data);
            let image = cache.get_image("plain").unwrap();
            assert!((image.size, &image.digest) == (total, &written.digest));
            let digests = vec![(Algorithm::Md5, crate::md5_hex(&data)), (Algorithm::Sha256, sha256(&data))];
            let checked = ImportOptions { mode, size: Some(total), digests };
            cache.import("checked", &file, &checked, go_on).unwrap();
            let digest = cache.get_image("checked").unwrap().digest;
            assert_eq!(digest, Some(format!("sha256:{}", sha256(&data))));
            assert!(
                cache
                    .import("plain", &file, &plain(mode), go_on)
                    .is_err_and(|error| matches!(error, Error::AlreadyCached(_)))
            );
            for id in ["plain", "checked"] {
                cache.delete_cached_image(id).unwrap();
            }
        }
        cache.delete_cached_image("written").unwrap();
    }
}

/// Pipes have neither a length nor offsets. A silent one can be stopped.
pub fn pipes_are_read_to_their_end(driver: DriverChoice) {
    let cache = Scratch::new(driver);
    let cache = cache.open();
    let data = bytes(3, (5 << 20) + 1);
    for is_blocking in [true, false] {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        reader.set_nonblocking(!is_blocking).unwrap();
        let sent = data.clone();
        let sender = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let options = ImportOptions { size: Some(data.len() as u64), ..ImportOptions::default() };
        let mut reported = Vec::new();
        let imported = cache.import("image", &reader, &options, |done, total| {
            reported.push((done, total));
            ControlFlow::Continue(())
        });
        assert_eq!(imported.unwrap(), Copied::Bytes);
        sender.join().unwrap();
        let whole = data.len() as u64;
        assert!(reported.iter().all(|(_, total)| *total == whole) && reported.last() == Some(&(whole, whole)));
        assert!(read_image(&cache, "image") == data);
        cache.delete_cached_image("image").unwrap();
    }
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut calls = 0;
    let stopped = cache.import("image", &reader, &plain(CopyMode::Any), |_, _| {
        calls += 1;
        if calls > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Stopped { total: 0, .. })), "{stopped:?}");
    assert!(ids(&cache).is_empty());
    let shared = cache.import("image", &reader, &plain(CopyMode::Reflink), go_on);
    assert!(matches!(shared, Err(Error::Unsupported(_))), "{shared:?}");
}

/// Blocks are shared where that is possible; the source can change afterwards.
pub fn blocks_are_shared_where_that_is_possible(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let cache = Scratch::at(volume.join("cache"), driver).open();
    let data = bytes(1, (20 << 20) + 5);
    let file = source(&volume.join("source"), &data);
    let shared = cache.import("shared", &file, &plain(CopyMode::Reflink), go_on);
    if has_reflinks(kind) {
        assert_eq!(shared.unwrap(), Copied::Reflink);
        assert_eq!(cache.import("any", &file, &plain(CopyMode::Any), go_on).unwrap(), Copied::Reflink);
        // Its blocks are shared at the first call already. What is written then is not imported.
        let mut is_first = true;
        let digests = vec![(Algorithm::Sha256, sha256(&data))];
        let checked = ImportOptions { digests, ..ImportOptions::default() };
        let imported = cache.import("changed", &file, &checked, |done, _| {
            if done > 0 && std::mem::take(&mut is_first) {
                file.write_all_at(&vec![0; 1 << 20], 10 << 20).unwrap();
                file.set_len(30 << 20).unwrap();
            }
            ControlFlow::Continue(())
        });
        assert_eq!(imported.unwrap(), Copied::Reflink);
        for id in ["shared", "any", "changed"] {
            assert!(read_image(&cache, id) == data);
        }
    } else {
        assert!(matches!(shared, Err(Error::Unsupported(_))), "{shared:?}");
        assert!(reason(&cache).contains("cannot share the blocks"));
        assert_eq!(cache.import("any", &file, &plain(CopyMode::Any), go_on).unwrap(), Copied::Bytes);
        assert!(read_image(&cache, "any") == data);
    }
    let file = source(&volume.join("source"), &data);
    assert_eq!(cache.import("copied", &file, &plain(CopyMode::Copy), go_on).unwrap(), Copied::Bytes);
    assert!(read_image(&cache, "copied") == data);
    let verified = cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap();
    assert!(verified.verified == ids(&cache).len() as u64 && verified.failed == 0, "{verified:?}");
}

/// A sparse image has the holes of its source; it is verified, listed, streamed, and exported again.
pub fn holes_stay_holes(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let scratch = Scratch::at(volume.join("cache"), driver);
    let cache = scratch.open();
    write_sparse(&volume.join("source"));
    let file = File::open(volume.join("source")).unwrap();
    let whole = sparse_bytes();
    for mode in MODES {
        let digests = vec![(Algorithm::Sha256, sha256(&whole))];
        let options = ImportOptions { mode, size: Some(LENGTH), digests };
        cache.import("image", &file, &options, go_on).unwrap();
        let path = scratch.file("image");
        assert!(fs::read(&path).unwrap() == whole);
        assert_eq!(data_of(&path), DATA, "{mode:?}");
        assert_eq!(cache.get_image("image").unwrap().size, LENGTH);
        let verified = cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap();
        assert!((verified.verified, verified.failed) == (1, 0), "{verified:?}");
        let data: u64 = DATA.iter().map(|data| data.end - data.start).sum();
        assert!(verified.bytes_read < data + (1 << 20), "holes are not read: {verified:?}");
        let no_source = |_: u64, _: &mut [u8]| Err(std::io::Error::other("it is cached"));
        let mut streamed = Vec::new();
        std::io::Read::read_to_end(&mut cache.stream("image", no_source).unwrap(), &mut streamed).unwrap();
        assert!(streamed == whole);
        let mut teed = Vec::new();
        std::io::Read::read_to_end(&mut cache.tee("image", &whole[..]).unwrap(), &mut teed).unwrap();
        assert!(teed == whole);
        let target = volume.join("target");
        let created = File::create(&target).unwrap();
        cache.export("image", created, ExportOptions { mode, sync: true }, go_on).unwrap();
        assert!(data_of(&target) == DATA && fs::read(&target).unwrap() == whole);
        cache.import("again", File::open(&path).unwrap(), &options, go_on).unwrap();
        assert_eq!(data_of(&scratch.file("again")), DATA, "of the cache's own file");
        cache.delete_all_cached_images().unwrap();
    }
}

/// A block device is a source, and its length is the image's.
pub fn block_devices_are_sources(driver: DriverChoice) {
    let volume = Volume::new("ext4", 16);
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let device = volume.device();
    let whole = fs::read(&device).unwrap();
    assert_eq!(whole.len(), 16 << 20);
    let options = ImportOptions {
        size: Some(16 << 20),
        digests: vec![(Algorithm::Sha256, sha256(&whole))],
        ..ImportOptions::default()
    };
    assert_eq!(cache.import("image", File::open(&device).unwrap(), &options, go_on).unwrap(), Copied::Bytes);
    assert!(read_image(&cache, "image") == whole);
    let options = ImportOptions { size: Some(1), ..ImportOptions::default() };
    let refused = cache.import("other", File::open(&device).unwrap(), &options, go_on);
    assert!(matches!(refused, Err(Error::SizeMismatch { expected: 1, actual: 16_777_216, .. })), "{refused:?}");
    let refused =
        cache.export("image", File::options().write(true).open(&device).unwrap(), ExportOptions::default(), go_on);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "it would be damaged: {refused:?}");
    assert!(fs::read(&device).unwrap() == whole);
}

/// What is expected is checked over the bytes that are cached. The file goes to `invalid/` with the reason.
pub fn unmet_expectations_are_refused(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let data = bytes(1, 5 << 20);
    let file = source(&scratch.path().with_extension("source"), &data);
    for mode in MODES {
        let size = ImportOptions { mode, size: Some(7), ..ImportOptions::default() };
        let refused = cache.import("image", &file, &size, go_on);
        assert!(matches!(refused, Err(Error::SizeMismatch { expected: 7, actual: 5_242_880, .. })), "{refused:?}");
        assert!(reason(&cache).contains("expected were 7"), "{}", reason(&cache));
        cache.clean(None).unwrap();
        let digests = vec![(Algorithm::Sha256, sha256(&data)), (Algorithm::Md5, "0".repeat(32))];
        let refused = cache.import("image", &file, &ImportOptions { mode, size: None, digests }, go_on);
        assert!(matches!(refused, Err(Error::DigestMismatch { algorithm: "md5", .. })), "{refused:?}");
        assert!(reason(&cache).contains("has the md5 digest"), "{}", reason(&cache));
        cache.clean(None).unwrap();
        // Such a text is no digest. Nothing is begun.
        let digests = vec![(Algorithm::Md5, "0".repeat(31))];
        let refused = cache.import("image", &file, &ImportOptions { mode, size: None, digests }, go_on);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
        assert!(cache.list_invalid().unwrap().is_empty() && ids(&cache).is_empty());
    }
    let _writer = cache.begin_write("image").unwrap();
    let refused = cache.import("image", &file, &plain(CopyMode::Any), go_on);
    assert!(matches!(refused, Err(Error::BeingCached(_))), "{refused:?}");
}

/// Files that are no sources. Nothing is begun.
pub fn files_that_are_no_sources_are_refused(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let path = scratch.path().with_extension("source");
    source(&path, b"bytes");
    let refused =
        |opened: File, name: &str, why: &str| match cache.import("image", &opened, &plain(CopyMode::Any), go_on) {
            Err(Error::InvalidArgument(message)) => assert!(message.contains(why), "{name}: {message}"),
            other => panic!("{name}: {other:?}"),
        };
    refused(File::open(scratch.path()).unwrap(), "directory", "no regular file");
    refused(File::open("/dev/zero").unwrap(), "device", "no regular file");
    refused(File::options().write(true).open(&path).unwrap(), "write-only", "not open for reading");
    refused(File::options().read(true).custom_flags(nix::libc::O_PATH).open(&path).unwrap(), "O_PATH", "not open");
    refused(File::options().read(true).custom_flags(nix::libc::O_DIRECT).open(&path).unwrap(), "direct", "O_DIRECT");
    refused(File::from(OwnedFd::from(std::io::pipe().unwrap().1)), "writing end", "not open for reading");
    assert!(cache.is_cacheable("image").unwrap() && cache.list_invalid().unwrap().is_empty());
}

/// The caller's function stops it at each of its calls.
pub fn stopped_import_leaves_its_reason(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let file = source(&scratch.path().with_extension("source"), &bytes(1, 33 << 20));
    for mode in MODES {
        for stop in 0.. {
            let mut calls = 0;
            let imported = cache.import("image", &file, &plain(mode), |_, _| {
                calls += 1;
                if calls > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if imported.is_ok() {
                assert!(stop >= 3, "{mode:?} has {calls} calls");
                break;
            }
            assert!(matches!(imported, Err(Error::Stopped { .. })), "{imported:?}");
            assert!(reason(&cache).contains("progress function stopped"), "{}", reason(&cache));
            assert!(!cache.is_cached("image").unwrap() && !cache.is_being_cached("image").unwrap());
            cache.clean(None).unwrap();
        }
        cache.delete_cached_image("image").unwrap();
    }
}

/// A source that becomes shorter or longer while it is copied.
pub fn source_that_changes_its_length_is_refused(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let path = scratch.path().with_extension("source");
    for (length, found) in [(1 << 20, "less"), (9 << 20, "more")] {
        let file = source(&path, &bytes(1, 5 << 20));
        let imported = cache.import("image", &file, &plain(CopyMode::Copy), |done, _| {
            if done > 0 {
                file.set_len(length).unwrap();
            }
            ControlFlow::Continue(())
        });
        assert!(matches!(imported, Err(Error::SizeMismatch { expected: 5_242_880, .. })), "{found}: {imported:?}");
        assert!(ids(&cache).is_empty());
        cache.clean(None).unwrap();
    }
    // Within bounds, before the first range.
    let cache = scratch.open_with(scratch.options.clone().max_size(64 << 20).limit_mode(LimitMode::Hard));
    for mode in [CopyMode::Any, CopyMode::Copy] {
        for length in [0, 1 << 20, 9 << 20] {
            let file = source(&path, &bytes(1, 5 << 20));
            let imported = cache.import("image", &file, &plain(mode), |done, _| {
                if done == 0 {
                    file.set_len(length).unwrap();
                }
                ControlFlow::Continue(())
            });
            assert!(matches!(imported, Err(Error::SizeMismatch { .. })), "{mode:?}, {length}: {imported:?}");
            assert!(ids(&cache).is_empty());
        }
    }
    let file = File::open("/proc/self/environ").unwrap();
    let imported = cache.import("image", &file, &plain(CopyMode::Any), go_on);
    assert!(matches!(imported, Err(Error::SizeMismatch { .. })), "it has bytes behind its length: {imported:?}");
}

/// The data of a sparse image fits a limit below its length. The limit holds at each call, and what does not fit is refused.
pub fn limit_counts_the_data(kind: &str, driver: DriverChoice) {
    const LIMIT: u64 = 6 << 20;
    let volume = Volume::new(kind, 400);
    let scratch = Scratch::at(volume.join("cache"), driver);
    let options = scratch.options.clone().max_size(LIMIT).limit_mode(LimitMode::Hard);
    let cache = scratch.open_with(options);
    write_sparse(&volume.join("sparse"));
    let sparse = File::open(volume.join("sparse")).unwrap();
    let dense = source(&volume.join("dense"), &bytes(1, 4 << 20));
    let within = |_: u64, _: u64| {
        assert!(cache.usage().unwrap().total() <= LIMIT, "{:?}", cache.usage());
        ControlFlow::Continue(())
    };
    for mode in MODES {
        let is_shared = mode == CopyMode::Any && has_reflinks(kind);
        let expected = if is_shared { Copied::Reflink } else { Copied::Bytes };
        for _ in 0..2 {
            assert_eq!(cache.import("sparse", &sparse, &plain(mode), within).unwrap(), expected, "{mode:?}");
            assert!(fs::read(scratch.file("sparse")).unwrap() == sparse_bytes());
            assert_eq!(data_of(&scratch.file("sparse")), DATA, "{mode:?}");
            // It evicts the sparse one.
            assert_eq!(cache.import("dense", &dense, &plain(mode), within).unwrap(), expected);
            assert_eq!(ids(&cache), ["dense"]);
            assert!(read_image(&cache, "dense") == bytes(1, 4 << 20));
            let usage = cache.usage().unwrap();
            assert!(usage.incomplete == 0 && usage.cached == allocated(&scratch.file("dense")), "{usage:?}");
            cache.import("sparse", &sparse, &plain(mode), within).unwrap();
            assert_eq!(ids(&cache), ["sparse"]);
            cache.delete_cached_image("sparse").unwrap();
        }
        let large = source(&volume.join("large"), &bytes(1, 7 << 20));
        large.set_len(100 << 20).unwrap();
        cache_image(&cache, "kept", b"kept");
        let refused = cache.import("large", &large, &plain(mode), within);
        assert!(refused.as_ref().is_err_and(Error::is_no_space), "{refused:?}");
        assert_eq!(ids(&cache), ["kept"], "nothing is evicted in vain");
        cache.delete_cached_image("kept").unwrap();
        cache.clean(Some(Duration::from_secs(60 * 60))).unwrap();
    }
}

/// Another writer takes the room that was made for a sparse source. The import fails, and the limit holds.
pub fn limit_holds_if_another_takes_the_room(kind: &str, driver: DriverChoice) {
    const LIMIT: u64 = 6 << 20;
    let volume = Volume::new(kind, 400);
    let scratch = Scratch::at(volume.join("cache"), driver);
    let cache = scratch.open_with(scratch.options.clone().max_size(LIMIT).limit_mode(LimitMode::Hard));
    write_sparse(&volume.join("sparse"));
    let sparse = File::open(volume.join("sparse")).unwrap();
    for mode in MODES {
        let mut other = None;
        let imported = cache.import("sparse", &sparse, &plain(mode), |_, _| {
            let writer = other.get_or_insert_with(|| cache.begin_write("other").unwrap());
            // Again after the first call: it has the room already.
            let _ = writer.expect_size(3 << 20);
            assert!(cache.usage().unwrap().total() <= LIMIT, "{:?}", cache.usage());
            ControlFlow::Continue(())
        });
        assert!(imported.as_ref().is_err_and(Error::is_no_space), "{mode:?}: {imported:?}");
        assert!(cache.usage().unwrap().total() <= LIMIT);
        other.unwrap().abort("enough");
        cache.clean(None).unwrap();
    }
}
