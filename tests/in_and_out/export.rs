//! Export: the target is exactly the image, a file of its own, or empty.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image_cache::{Copied, CopyMode, DriverChoice, Error, ExportOptions, ImageCache, ImportOptions};

use crate::common::{Scratch, cache_image, read_image};
use crate::volume::{DATA, Volume, bytes, data_of, has_reflinks, sparse_bytes, write_sparse};

const MODES: [CopyMode; 2] = [CopyMode::Any, CopyMode::Copy];

fn plain(mode: CopyMode) -> ExportOptions {
    ExportOptions { mode, sync: false }
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Opens a file of 40 MiB, which has other bytes than an image.
fn target(path: &std::path::Path) -> File {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.write_all(&bytes(7, 40 << 20)).unwrap();
    file
}

/// The former bytes of the target are gone, its offset and the cache stay, and one access and one hit are counted.
pub fn target_is_exactly_the_image(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let outside = tempfile::tempdir().unwrap();
    for (number, length) in [0, 1, 4096, (1 << 20) + 17, 33 << 20].into_iter().enumerate() {
        let id = number.to_string();
        let image = bytes(number, length);
        cache_image(&cache, &id, &image);
        for (mode, is_appending, sync) in MODES.iter().flat_map(|mode| [(*mode, false, true), (*mode, true, false)]) {
            let path = outside.path().join("target");
            let mut file = target(&path);
            if is_appending {
                file = OpenOptions::new().append(true).open(&path).unwrap();
            }
            file.seek(SeekFrom::Start(99)).unwrap();
            let mut calls = Vec::new();
            let copied = cache.export(&id, &file, ExportOptions { mode, sync }, |done, total| {
                calls.push((done, total));
                ControlFlow::Continue(())
            });
            assert!(copied.is_ok_and(|copied| mode == CopyMode::Any || copied == Copied::Bytes));
            assert!(fs::read(&path).unwrap() == image, "{length} {mode:?} {is_appending}");
            assert_eq!(file.stream_position().unwrap(), 99);
            let total = length as u64;
            assert!(calls.first() == Some(&(0, total)) && calls.last() == Some(&(total, total)), "{calls:?}");
            assert!(calls.is_sorted() && calls.iter().all(|call| call.1 == total));
            // A file of its own.
            File::options().write(true).open(&path).unwrap().write_all_at(&[0; 5000], 0).unwrap();
            assert!(read_image(&cache, &id) == image);
        }
        // One for each export, and one for each reading.
        assert_eq!(cache.hit_count(&id).unwrap(), 8);
    }
    let served = cache.statistics().unwrap().bytes_served;
    assert_eq!(served, 8 * (1 + 4096 + (1 << 20) + 17 + (33 << 20)));
}

/// Where blocks are shared, all are, and the copy is still a file of its own. Across file systems, none are.
pub fn blocks_are_shared_where_that_is_possible(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let cache = Scratch::at(volume.join("cache"), driver).open();
    let image = bytes(1, 20 << 20);
    cache_image(&cache, "image", &image);
    let path = volume.join("target");
    let reflinked = cache.export("image", target(&path), plain(CopyMode::Reflink), go_on);
    if has_reflinks(kind) {
        assert_eq!(reflinked.unwrap(), Copied::Reflink);
        assert!(fs::read(&path).unwrap() == image);
        assert_eq!(cache.export("image", target(&path), plain(CopyMode::Any), go_on).unwrap(), Copied::Reflink);
        File::options().write(true).open(&path).unwrap().write_all_at(&vec![0; 1 << 20], 4096).unwrap();
        assert!(read_image(&cache, "image") == image);
    } else {
        assert!(matches!(reflinked, Err(Error::Unsupported(_))), "{reflinked:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_ne!(cache.export("image", target(&path), plain(CopyMode::Any), go_on).unwrap(), Copied::Reflink);
        assert!(fs::read(&path).unwrap() == image);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("target");
    let reflinked = cache.export("image", target(&path), plain(CopyMode::Reflink), go_on);
    assert!(matches!(reflinked, Err(Error::Unsupported(_))), "{reflinked:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    assert_ne!(cache.export("image", target(&path), plain(CopyMode::Any), go_on).unwrap(), Copied::Reflink);
    assert!(fs::read(&path).unwrap() == image);
}

/// A function of the caller's that panics leaves what a failure leaves.
pub fn panic_of_the_progress_function_leaves_what_a_failure_leaves(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "image", &bytes(0, 20 << 20));
    let panics = |done: u64, _| if done > 0 { panic!("of the caller") } else { ControlFlow::Continue(()) };
    let path = scratch.path().with_extension("target");
    let target = File::create(&path).unwrap();
    let options = ExportOptions { mode: CopyMode::Copy, sync: false };
    let exported = catch_unwind(AssertUnwindSafe(|| cache.export("image", &target, options, panics)));
    assert!(exported.is_err() && target.metadata().unwrap().len() == 0);
    fs::write(&path, bytes(0, 20 << 20)).unwrap();
    let mut source = File::open(&path).unwrap();
    source.seek(SeekFrom::Start(5)).unwrap();
    let imported = catch_unwind(AssertUnwindSafe(|| cache.import("other", &source, &ImportOptions::default(), panics)));
    assert!(imported.is_err() && source.stream_position().unwrap() == 5);
    assert!(!cache.is_cached("other").unwrap() && !cache.is_being_cached("other").unwrap());
}

/// Each hole of the image is one of the copy.
pub fn holes_stay_holes(kind: &str, driver: DriverChoice) {
    let volume = Volume::new(kind, 400);
    let cache = Scratch::at(volume.join("cache"), driver).open();
    write_sparse(&volume.join("cache/image"));
    for mode in MODES {
        for is_appending in [false, true] {
            let path = volume.join("target");
            let file = target(&path);
            let appending = OpenOptions::new().append(true).open(&path).unwrap();
            cache.export("image", if is_appending { appending } else { file }, plain(mode), go_on).unwrap();
            assert!(fs::read(&path).unwrap() == sparse_bytes(), "{mode:?} {is_appending}");
            assert_eq!(data_of(&path), DATA, "{mode:?} {is_appending}");
        }
    }
}

/// A file that is no target stays as it was.
pub fn files_that_are_no_targets_stay_as_they_are(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    for id in ["image", "other", "linked"] {
        cache_image(&cache, id, &bytes(1, 5000));
    }
    let _writer = cache.begin_write("new").unwrap();
    let outside = scratch.path().parent().unwrap().to_owned();
    let (file, linked) = (outside.join("file"), outside.join("linked"));
    fs::write(&file, "as it was").unwrap();
    fs::hard_link(scratch.file("linked"), &linked).unwrap();
    let refused =
        |opened: File, name: &str, why: &str| match cache.export("image", &opened, plain(CopyMode::Any), go_on) {
            Err(Error::InvalidArgument(message)) => assert!(message.contains(why), "{name}: {message}"),
            other => panic!("{name}: {other:?}"),
        };
    let to_write = |path| File::options().write(true).open(path).unwrap();
    refused(File::open(&file).unwrap(), "read-only", "not open for writing");
    refused(
        File::options().read(true).custom_flags(nix::libc::O_PATH).open(&file).unwrap(),
        "O_PATH",
        "not open for writing",
    );
    refused(File::options().write(true).custom_flags(nix::libc::O_DIRECT).open(&file).unwrap(), "direct", "O_DIRECT");
    refused(File::open(&outside).unwrap(), "directory", "no regular file");
    refused(to_write("/dev/null".into()), "device", "no regular file");
    refused(File::from(std::os::fd::OwnedFd::from(std::io::pipe().unwrap().1)), "pipe", "no regular file");
    for name in ["image", "other", "incomplete/new", ".image_cache/lock"] {
        refused(to_write(scratch.file(name)), name, "a file of the cache");
    }
    refused(to_write(linked), "another name of an image", "a file of the cache");
    // By a path that is not known as the cache's.
    let moved = outside.join("moved");
    fs::rename(scratch.path(), &moved).unwrap();
    for name in ["other", "incomplete/new", ".image_cache/lock", ".image_cache/driver"] {
        refused(to_write(moved.join(name)), name, "a file of the cache");
    }
    fs::rename(&moved, scratch.path()).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"as it was");
    for id in ["image", "other", "linked"] {
        assert!(read_image(&cache, id) == bytes(1, 5000));
    }
    let absent = cache.export("absent", to_write(file.clone()), plain(CopyMode::Any), go_on);
    assert!(matches!(absent, Err(Error::NotFound { .. })), "{absent:?}");
    assert_eq!(fs::read(&file).unwrap(), b"as it was");
}

/// A full disk leaves an empty target, whatever the way.
pub fn full_disk_leaves_an_empty_target(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "image", &bytes(1, 9 << 20));
    let small = Volume::new("tmpfs", 4);
    for mode in MODES {
        let path = small.join("target");
        let exported = cache.export("image", File::create(&path).unwrap(), plain(mode), go_on);
        assert!(exported.as_ref().is_err_and(Error::is_no_space), "{exported:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
}

/// The caller's function stops it at each of its calls.
pub fn stopped_export_leaves_an_empty_target(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "image", &bytes(1, 40 << 20));
    let path = scratch.path().with_extension("target");
    for mode in MODES {
        for stop in 0.. {
            let mut calls = 0;
            let exported = cache.export("image", target(&path), plain(mode), |_, _| {
                calls += 1;
                if calls > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if exported.is_ok() {
                assert!(stop >= 4, "{mode:?} has {calls} calls");
                break;
            }
            assert!(matches!(exported, Err(Error::Stopped { total: 41_943_040, .. })), "{exported:?}");
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        }
    }
    assert_eq!(read_image(&cache, "image").len(), 40 << 20);
}

/// Another program truncates the image meanwhile: the copy fails. A deletion does not harm it.
pub fn image_that_changes_meanwhile(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let path = scratch.path().with_extension("target");
    let during = |cache: &ImageCache, mode, change: &dyn Fn()| {
        cache.export("image", target(&path), plain(mode), |done, _| {
            if done > 0 && done < 40 << 20 {
                change();
            }
            ControlFlow::Continue(())
        })
    };
    for mode in MODES {
        cache_image(&cache, "image", &bytes(1, 40 << 20));
        let exported = during(&cache, mode, &|| drop(cache.delete_cached_image("image")));
        assert!(exported.is_ok() && fs::read(&path).unwrap() == bytes(1, 40 << 20), "{exported:?}");
        cache_image(&cache, "image", &bytes(1, 40 << 20));
        let truncate = || File::options().write(true).open(scratch.file("image")).unwrap().set_len(20 << 20).unwrap();
        let exported = during(&cache, mode, &truncate);
        assert!(matches!(exported, Err(Error::Damaged { .. })), "{exported:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        cache.delete_cached_image("image").unwrap();
    }
}
