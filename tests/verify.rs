//! Verifying images: what is found, what is left alone, and what becomes of the rest.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use common::{DRIVERS, Scratch, cache_image, files, ids, read_image};
use image_cache::{Algorithm, DriverChoice, Durability, Error, ImageCache, Verified, VerifyOptions};

const MIB: usize = 1 << 20;
const CRC_OF_DIGITS: &str = "crc64nvme:ae8b14860a799888";

fn all(cache: &ImageCache) -> Verified {
    cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn one(cache: &ImageCache, id: &str) -> Result<Verified, Error> {
    cache.verify(Some(id), &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(()))
}

fn within(seconds: u64) -> VerifyOptions {
    VerifyOptions { skip_verified_within: Duration::from_secs(seconds), ..VerifyOptions::default() }
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn digest(cache: &ImageCache, id: &str) -> Option<String> {
    cache.get_image(id).unwrap().digest
}

fn reason(cache: &ImageCache, id: &str) -> String {
    let invalid = cache.list_invalid().unwrap().into_iter().find(|image| image.image_id == id);
    invalid.and_then(|image| image.reason).unwrap_or_default()
}

fn expected(digest: &str) -> impl Fn(&mut image_cache::Writer) + use<> {
    let (name, hex) = digest.split_once(':').unwrap();
    let (algorithm, hex) = (Algorithm::from_name(name).unwrap(), hex.to_owned());
    move |writer| writer.expect_digest(algorithm, &hex).unwrap()
}

#[test]
fn each_image_has_a_digest_whichever_way_it_came() {
    for driver in DRIVERS {
        for durability in [Durability::None, Durability::Full] {
            let scratch = Scratch::new(driver);
            let cache = scratch.open_with(scratch.options.clone().durability(durability));
            cache_image(&cache, "written", b"123456789");
            cache_image(&cache, "empty", b"");
            cache.begin_write("empty, no chunk").unwrap().commit().unwrap();
            let mut tee = cache.tee("tee", &b"123456789"[..]).unwrap();
            std::io::copy(&mut tee, &mut std::io::sink()).unwrap();
            drop(tee);
            let source = |offset: u64, buffer: &mut [u8]| {
                let left = &b"123456789"[usize::try_from(offset).unwrap()..];
                let length = left.len().min(buffer.len());
                buffer[..length].copy_from_slice(&left[..length]);
                Ok(length)
            };
            let mut stream = cache.stream("stream", source).unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            drop(stream);
            cache.queue_image("prefetched").unwrap();
            cache.prefetch(|_, writer| writer.write_chunk(b"123456789")).unwrap();
            let mut writer = cache.begin_write("expected").unwrap();
            expected(CRC_OF_DIGITS)(&mut writer);
            writer.write_chunk(b"123456789").unwrap();
            writer.commit().unwrap();

            for id in ["written", "tee", "stream", "prefetched", "expected"] {
                assert_eq!(digest(&cache, id).as_deref(), Some(CRC_OF_DIGITS), "{id} {driver:?}");
                let on_file = xattr::get(scratch.file(id), "user.image_cache.digest").unwrap();
                assert_eq!(
                    on_file,
                    Some(format!("{} 9", CRC_OF_DIGITS.replace("crc64nvme", "crc")).into_bytes()),
                    "{id}"
                );
            }
            for id in ["empty", "empty, no chunk"] {
                assert_eq!(digest(&cache, id).as_deref(), Some("crc64nvme:0000000000000000"), "{id}");
            }
            assert_eq!(all(&cache), Verified { verified: 7, bytes_read: 45, ..Verified::default() });
        }
    }
}

#[test]
fn a_writer_with_a_wrong_crc_fails() {
    let scratch = Scratch::new(DriverChoice::Xattr);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    expected(CRC_OF_DIGITS)(&mut writer);
    writer.write_chunk(b"12345678X").unwrap();
    assert!(matches!(writer.commit(), Err(Error::DigestMismatch { algorithm: "crc64nvme", .. })));
}

/// A flipped byte, whatever the digest, the place and the mtime: also where the length has not changed.
#[test]
fn a_flipped_byte_is_found_and_its_image_goes_to_invalid_with_both_digests() {
    for driver in DRIVERS {
        for size in [1, 4097, 5 * MIB + 17] {
            let content = vec![7_u8; size];
            let scratch = Scratch::new(driver);
            let cache = scratch.open();
            cache_image(&cache, "good", &content);
            cache_image(&cache, "bad", &content);
            cache_image(&cache, "restored mtime", &content);
            let crc = digest(&cache, "bad").unwrap();
            let modified = scratch.file("restored mtime").metadata().unwrap().modified().unwrap();
            for id in ["bad", "restored mtime"] {
                flip(&scratch.file(id), size as u64 - 1);
            }
            let file = File::options().write(true).open(scratch.file("restored mtime")).unwrap();
            file.set_modified(modified).unwrap();
            let mut reader = cache.open_for_read("bad").unwrap();

            let result = all(&cache);
            assert_eq!((result.verified, result.failed, result.stopped), (1, 2, false), "{driver:?} {size}");
            assert_eq!(ids(&cache), ["good"]);
            for id in ["bad", "restored mtime"] {
                let reason = reason(&cache, id);
                let (_, hex) = crc.split_once(':').unwrap();
                assert!(reason.contains(hex) && reason.matches("crc64nvme").count() == 1, "{reason}");
                assert!(matches!(cache.open_for_read(id), Err(Error::NotFound { .. })));
            }
            // Its reader goes on.
            let mut read = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
            assert_eq!(read.len(), size);
            cache_image(&cache, "bad", &content);
            assert_eq!(read_image(&cache, "bad"), content);
        }
    }
}

#[test]
fn the_pins_of_a_damaged_image_end_and_the_log_names_their_holders() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        for id in ["bad", "pinned", "good"] {
            cache_image(&cache, id, &[7; 100]);
        }
        for id in ["pinned", "good"] {
            cache.pin(id, "boot set", None).unwrap();
        }
        for id in ["bad", "pinned"] {
            flip(&scratch.file(id), 0);
        }
        assert_eq!(all(&cache).failed, 2, "{driver:?}");
        assert!(scratch.logged("image 'pinned' was pinned, and is no longer: 'boot set'"), "{driver:?}");
        assert!(!scratch.logged("image 'bad' was pinned") && !scratch.logged("image 'good' was pinned"), "{driver:?}");
        cache_image(&cache, "pinned", &[7; 100]);
        assert_eq!((cache.pins("pinned").unwrap().len(), cache.pins("good").unwrap().len()), (0, 1), "{driver:?}");
    }
}

#[test]
fn an_expected_digest_is_what_is_verified() {
    const SHA256: &str = "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    const MD5: &str = "md5:25f9e794323b453885f5181f1b624d0b";
    for driver in DRIVERS {
        for known in [SHA256, MD5] {
            let scratch = Scratch::new(driver);
            let cache = scratch.open();
            let mut writer = cache.begin_write("1").unwrap();
            expected(known)(&mut writer);
            writer.write_chunk(b"123456789").unwrap();
            writer.commit().unwrap();
            assert_eq!(one(&cache, "1").unwrap().verified, 1);
            flip(&scratch.file("1"), 3);
            assert_eq!(one(&cache, "1").unwrap().failed, 1);
            assert!(reason(&cache, "1").contains(known.split_once(':').unwrap().1));
        }
    }
}

fn truncate(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(5).unwrap();
}

fn append(path: &Path) {
    use std::io::Write as _;
    File::options().append(true).open(path).unwrap().write_all(b"0").unwrap();
}

#[test]
fn a_file_with_another_length_is_not_served_and_goes_to_invalid() {
    for driver in DRIVERS {
        for (change, now) in [(truncate as fn(&Path), 5), (append, 10)] {
            for restores_mtime in [false, true] {
                let scratch = Scratch::new(driver);
                let cache = scratch.open();
                cache_image(&cache, "1", b"123456789");
                let path = scratch.file("1");
                let modified = path.metadata().unwrap().modified().unwrap();
                change(&path);
                if restores_mtime {
                    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
                }
                assert!(matches!(cache.open_for_read("1"), Err(Error::NotFound { .. })), "{driver:?} {now}");
                assert!(!path.exists() && files(&scratch.file("invalid")) == ["1"]);
                assert_eq!(reason(&cache, "1"), format!("it had 9 bytes at its commit, and has {now} now"));
                assert!(ids(&cache).is_empty() && cache.cache_size().unwrap() == 0);
                cache_image(&cache, "1", b"123456789");
                assert_eq!(read_image(&cache, "1"), b"123456789");
            }
        }
    }
}

#[test]
fn a_file_with_another_length_is_replaced_by_its_next_writer_or_stream_and_found_by_a_verification() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        for id in ["written", "verified", "streamed"] {
            cache_image(&cache, id, b"123456789");
            truncate(&scratch.file(id));
        }
        let result = one(&cache, "verified").unwrap();
        assert_eq!((result.failed, result.bytes_read), (1, 0));
        cache_image(&cache, "written", b"other");
        assert_eq!(read_image(&cache, "written"), b"other");
        let source = |offset: u64, buffer: &mut [u8]| {
            buffer[..5 - usize::try_from(offset).unwrap()]
                .copy_from_slice(&b"other"[usize::try_from(offset).unwrap()..]);
            Ok(5 - usize::try_from(offset).unwrap())
        };
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut cache.stream("streamed", source).unwrap(), &mut read).unwrap();
        assert_eq!((read.as_slice(), read_image(&cache, "streamed").as_slice()), (&b"other"[..], &b"other"[..]));
    }
}

/// A reader takes no lock that another process can hold.
#[test]
fn a_reader_does_not_wait_to_move_a_file_with_another_length() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"123456789");
        truncate(&scratch.file("1"));
        let lock = common::take_cache_lock(&scratch.path());
        assert!(matches!(cache.open_for_read("1"), Err(Error::NotFound { .. })));
        assert!(scratch.file("1").exists());
        drop(lock);
        assert!(matches!(cache.open_for_read("1"), Err(Error::NotFound { .. })));
        assert!(!scratch.file("1").exists());
    }
}

/// Tools set times, and Glance writes files of its own.
#[test]
fn a_touched_image_and_one_of_glance_are_served() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "touched", b"123456789");
        std::fs::write(scratch.file("Glance's"), b"12345").unwrap();
        common::age(&scratch.file("touched"), Duration::from_secs(5 * 60 * 60));
        assert_eq!((read_image(&cache, "touched").len(), read_image(&cache, "Glance's").len()), (9, 5));
        assert_eq!(all(&cache), Verified { verified: 1, without_digest: 1, bytes_read: 14, ..Verified::default() });
    }
}

#[test]
fn an_image_without_a_digest_gets_one_for_the_next_verification() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        std::fs::write(scratch.file("1"), b"123456789").unwrap();
        assert_eq!(all(&cache), Verified { without_digest: 1, bytes_read: 9, ..Verified::default() });
        // It is none of a commit.
        assert_eq!(digest(&cache, "1"), None);
        assert_eq!(all(&cache), Verified { verified: 1, bytes_read: 9, ..Verified::default() });
        flip(&scratch.file("1"), 0);
        assert_eq!(all(&cache).failed, 1);
        assert!(reason(&cache, "1").contains("ae8b14860a799888"));
    }
}

#[test]
fn an_absent_image_is_not_found() {
    for driver in DRIVERS {
        let cache = Scratch::new(driver);
        let cache = cache.open();
        assert!(matches!(one(&cache, "1"), Err(Error::NotFound { .. })));
        assert!(matches!(one(&cache, "../1"), Err(Error::InvalidImageId { .. })));
        assert_eq!(all(&cache), Verified::default());
    }
}

#[test]
fn images_that_were_verified_lately_are_skipped() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"1");
        let go_on = |_: &str, _, _| ControlFlow::Continue(());
        assert_eq!(cache.verify(None, &within(3600), go_on).unwrap().verified, 1);
        cache_image(&cache, "2", b"2");
        let result = cache.verify(None, &within(3600), go_on).unwrap();
        assert_eq!((result.verified, result.skipped), (1, 1));
        assert_eq!(cache.verify(Some("1"), &within(3600), go_on).unwrap().skipped, 1);
        assert_eq!(all(&cache).verified, 2);
        // A time in the future is from before the clock was set back.
        xattr::set(scratch.file("1"), "user.image_cache.verified", b"9000000000000000000").unwrap();
        assert_eq!(cache.verify(None, &within(3600), go_on).unwrap().verified, 1);
    }
}

#[test]
fn a_stopped_verification_goes_on_with_the_images_that_it_did_not_reach() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let images = ["a", "b", "c", "d"];
        for id in images {
            cache_image(&scratch.open(), id, id.as_bytes());
        }
        let mut order = Vec::new();
        for round in 0..4 {
            // Each time by a new handle, as after a restart. Only the first call of each image counts.
            let result = scratch.open().verify(None, &VerifyOptions::default(), |id, done, _| {
                if done > 0 {
                    order.push(id.to_owned());
                }
                if done == 0 && order.len() == round + 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let result = result.unwrap();
            assert_eq!((result.verified, result.stopped), (1, true), "{round}");
        }
        assert_eq!(order, images, "{driver:?}");
        // All of them have their turn again, in the same order.
        let mut seen = Vec::new();
        scratch
            .open()
            .verify(None, &VerifyOptions::default(), |id, _, _| {
                seen.push(id.to_owned());
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(seen, ["a"]);
    }
}

#[test]
fn an_image_is_stopped_in_the_middle_and_is_not_verified_then() {
    let scratch = Scratch::new(DriverChoice::Xattr);
    let cache = scratch.open();
    cache_image(&cache, "1", &vec![1; 16 * MIB]);
    let result = cache.verify(None, &VerifyOptions::default(), |_, done, total| {
        assert_eq!(total, 16 << 20);
        if done >= 7 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let result = result.unwrap();
    assert_eq!((result.verified, result.stopped, result.bytes_read), (0, true, 8 << 20));
    assert_eq!(xattr::get(scratch.file("1"), "user.image_cache.verified").unwrap(), None);
}

/// The sleep of a limited verification is divided, so that it can be stopped: how often is known, not how fast.
#[test]
fn a_limited_verification_calls_progress_while_it_waits() {
    let scratch = Scratch::new(DriverChoice::Xattr);
    let cache = scratch.open();
    cache_image(&cache, "1", &vec![1; 200 << 10]);
    let mut calls = Vec::new();
    let options = VerifyOptions { bytes_per_second: 1 << 10, ..VerifyOptions::default() };
    let result = cache.verify(Some("1"), &options, |_, done, _| {
        calls.push(done);
        if calls.len() == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // The first piece is 64 KiB, after which it waits for 64 s.
    assert_eq!(calls, [0, 64 << 10, 64 << 10, 64 << 10, 64 << 10]);
    assert!(result.unwrap().stopped);
}

/// Runs as a user who owns nothing, if this is root: the kernel then checks his rights on this thread.
#[allow(unsafe_code, reason = "the rights of one thread")]
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: it changes the rights of this thread only.
            unsafe { nix::libc::setfsuid(65534) };
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn what_cannot_be_read_is_reported_and_what_cannot_be_moved_stays() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        for id in ["damaged", "good", "unreadable"] {
            cache_image(&cache, id, b"123456789");
        }
        flip(&scratch.file("damaged"), 3);
        std::fs::set_permissions(scratch.file("unreadable"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let result = as_nobody(|| all(&cache));
        assert_eq!((result.verified, result.failed, result.unreadable), (1, 1, 1), "{driver:?}");
        assert!(scratch.file("unreadable").exists() && scratch.logged("'unreadable' is not verified"));
        if rustix::process::geteuid().is_root() {
            assert!(scratch.file("damaged").exists() && scratch.logged("'damaged' is damaged, and stays"));
        }
    }
}

/// What another program, or another call, does to the image while it is read.
#[test]
fn a_good_image_stays_whatever_happens_meanwhile() {
    type Change = fn(&ImageCache, &Scratch);
    let changes: [(&str, Change, bool); 5] = [
        ("deleted", |cache, _| cache.delete_cached_image("1").unwrap(), false),
        // An image that is being read is in use.
        ("pruned", |cache, _| assert_eq!(cache.prune_to(0).unwrap().images, 0), true),
        (
            "cached again",
            |cache, _| {
                cache.delete_cached_image("1").unwrap();
                cache_image(cache, "1", &content());
            },
            true,
        ),
        ("read", |cache, _| drop(read_image(cache, "1")), true),
        ("touched", |_, scratch| common::age(&scratch.file("1"), Duration::from_secs(5)), true),
    ];
    for driver in DRIVERS {
        for (name, change, is_cached) in &changes {
            let scratch = Scratch::new(driver);
            let cache = scratch.open();
            cache_image(&cache, "1", &content());
            let has_changed = Cell::new(false);
            let result = cache.verify(None, &VerifyOptions::default(), |_, done, _| {
                if done > 0 && !has_changed.replace(true) {
                    change(&cache, &scratch);
                }
                ControlFlow::Continue(())
            });
            assert_eq!(result.unwrap().failed, 0, "{name} {driver:?}");
            assert_eq!(cache.is_cached("1").unwrap(), *is_cached, "{name} {driver:?}");
            assert!(cache.list_invalid().unwrap().is_empty(), "{name} {driver:?}");
        }
    }
}

fn content() -> Vec<u8> {
    (0..6 * MIB).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// A damaged file that loses its name while it is read takes no other with it.
#[test]
fn a_damaged_image_that_is_cached_again_meanwhile_leaves_the_new_one_alone() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", &content());
        flip(&scratch.file("1"), 5);
        let readings = Cell::new(0);
        let result = cache.verify(None, &VerifyOptions::default(), |_, done, total| {
            readings.set(readings.get() + u32::from(done == total));
            if done == total && readings.get() == 2 {
                cache.delete_cached_image("1").unwrap();
                cache_image(&cache, "1", &content());
            }
            ControlFlow::Continue(())
        });
        let result = result.unwrap();
        assert_eq!((result.failed, result.skipped, readings.get()), (0, 1, 2), "{driver:?}");
        assert_eq!(read_image(&cache, "1"), content());
    }
}

/// A transient error: the second reading has the right bytes.
#[test]
fn a_wrong_digest_is_confirmed_by_a_second_reading() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", &content());
        let path = scratch.file("1");
        let modified = path.metadata().unwrap().modified().unwrap();
        let flip_unnoticed = || {
            flip(&path, 5);
            File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        };
        flip_unnoticed();
        let readings = Cell::new(0);
        let result = cache.verify(None, &VerifyOptions::default(), |_, done, total| {
            readings.set(readings.get() + u32::from(done == total));
            if done == total && readings.get() == 1 {
                flip_unnoticed();
            }
            ControlFlow::Continue(())
        });
        let result = result.unwrap();
        assert_eq!((result.verified, result.failed), (1, 0));
        assert_eq!(result.bytes_read, 2 * content().len() as u64);
    }
}

/// A program that writes all the time: there is no verdict, and nothing is moved.
#[test]
fn an_image_that_changes_with_each_reading_is_unreadable_and_stays() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", &content());
        flip(&scratch.file("1"), 5);
        let readings = Cell::new(7);
        let result = cache.verify(None, &VerifyOptions::default(), |_, done, total| {
            if done == total {
                // Another byte each time, which is read already.
                flip(&scratch.file("1"), readings.replace(readings.get() + 1));
            }
            ControlFlow::Continue(())
        });
        let result = result.unwrap();
        assert_eq!((result.unreadable, result.failed), (1, 0), "{driver:?}");
        assert!(cache.is_cached("1").unwrap());
    }
}

/// A program that changes a byte while it is read, and restores it: the same wrong digest each time, and a good image in between.
#[test]
fn a_byte_that_is_wrong_during_each_reading_only_condemns_no_image() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", &content());
        let last = content().len() as u64 - 1;
        let result = cache.verify(None, &VerifyOptions::default(), |_, done, total| {
            // The last bytes are not read ahead yet at the first call.
            if done == 0 || done == total {
                flip(&scratch.file("1"), last);
            }
            ControlFlow::Continue(())
        });
        let result = result.unwrap();
        assert_eq!((result.unreadable, result.failed), (1, 0), "{driver:?}");
        assert_eq!(read_image(&cache, "1"), content());
        assert_eq!(all(&cache).verified, 1);
    }
}

/// Each of two calls at the same time takes the images that the other one has not.
#[test]
fn two_calls_share_the_images() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        let other = scratch.open();
        for id in ["a", "b", "c", "d", "e"] {
            cache_image(&cache, id, id.as_bytes());
        }
        let mut second = None;
        // Within the first image: this call has its lock, and has begun the pass.
        let first = cache.verify(None, &VerifyOptions::default(), |_, _, _| {
            second.get_or_insert_with(|| all(&other));
            ControlFlow::Continue(())
        });
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!((first.verified, first.skipped, second.verified, second.skipped), (1, 4, 4, 1), "{driver:?}");
    }
}

#[test]
fn a_verification_is_no_access_and_no_hit() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().durability(Durability::Full).streaming(true));
    cache_image(&cache, "1", &content());
    let accessed = scratch.file("1").metadata().unwrap().atime_nsec();
    assert_eq!(all(&cache).verified, 1);
    assert_eq!(scratch.file("1").metadata().unwrap().atime_nsec(), accessed);
    assert_eq!((cache.hit_count("1").unwrap(), cache.list_cached().unwrap().next().unwrap().hits), (0, 0));
}

/// A handle of a former version of this library, or a copy without attributes.
#[test]
fn a_digest_that_only_the_index_has_is_verified() {
    const SHA256: &str = "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    expected(SHA256)(&mut writer);
    writer.write_chunk(b"123456789").unwrap();
    writer.commit().unwrap();
    xattr::remove(scratch.file("1"), "user.image_cache.digest").unwrap();
    assert_eq!(one(&cache, "1").unwrap().verified, 1);
    let modified = scratch.file("1").metadata().unwrap().modified().unwrap();
    flip(&scratch.file("1"), 1);
    File::options().write(true).open(scratch.file("1")).unwrap().set_modified(modified).unwrap();
    assert_eq!(one(&cache, "1").unwrap().failed, 1);
}
