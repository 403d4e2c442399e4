//! What happens to an image while it is read, or keeps it from being read or moved: no good image goes.

use std::cell::Cell;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use image_cache::{ImageCache, VerifyOptions};

use crate::common::{DRIVERS, Scratch, age, cache_image, read_image};
use crate::{MIB, all, flip};

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
        ("touched", |_, scratch| age(&scratch.file("1"), Duration::from_secs(5)), true),
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

pub fn content() -> Vec<u8> {
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
