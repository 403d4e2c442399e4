//! How a pass goes: what it skips, where it stops and goes on, and how calls share it.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;

use image_cache::{DriverChoice, Durability, Error, Verified, VerifyOptions};

use crate::common::{DRIVERS, Scratch, cache_image};
use crate::meanwhile::content;
use crate::{MIB, all, one, within};

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
