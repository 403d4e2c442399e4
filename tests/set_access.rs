//! Hits and accesses that another cache counted are set, and a prune evicts in their order.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Scratch, cache_image, ids, read_image};
use image_cache::{DriverChoice, Error};

const DRIVERS: [DriverChoice; 2] = [DriverChoice::Sqlite, DriverChoice::Xattr];
/// 2023-11-14, in nanoseconds.
const BEGIN: i64 = 1_700_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;

#[test]
fn hits_and_accesses_that_were_set_are_listed_and_prune_goes_by_them() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        for id in ["1", "2", "3"] {
            cache_image(&cache, id, b"12345");
            read_image(&cache, id);
        }
        // In another order than they were cached and read.
        for (id, hits, seconds) in [("1", 7, 30), ("2", 0, 10), ("3", 1 << 40, 20)] {
            for _ in 0..2 {
                cache.set_access(id, hits, BEGIN + seconds * SECOND).unwrap();
            }
            let image = cache.get_image(id).unwrap();
            assert_eq!(image.hits, hits, "{driver:?}");
            assert!((image.last_accessed - BEGIN - seconds * SECOND).abs() < 2000, "{driver:?}");
        }
        let statistics = cache.statistics().unwrap();
        assert_eq!(statistics.hits, 3, "they count in no statistics");
        drop(cache);
        let cache = scratch.open();
        read_image(&cache, "1");
        assert_eq!((cache.hit_count("1").unwrap(), cache.hit_count("3").unwrap()), (8, 1 << 40));
        cache.prune_to(10).unwrap();
        assert_eq!(ids(&cache), ["1", "3"], "{driver:?}");
        cache.prune_to(5).unwrap();
        assert_eq!(ids(&cache), ["1"], "{driver:?}");
    }
}

#[test]
fn an_access_that_another_handle_has_not_written_is_added_later() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        cache_image(&cache, "1", b"12345");
        read_image(&other, "1");
        read_image(&other, "1");
        cache.set_access("1", 100, BEGIN).unwrap();
        drop(other);
        let hits = cache.hit_count("1").unwrap();
        assert!((100..=101).contains(&hits), "{driver:?}: {hits}");
    }
}

#[test]
fn an_access_in_the_future_becomes_the_present_and_one_before_1970_the_epoch() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"12345");
        cache.set_access("1", 1, i64::MAX).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(1);
        assert!(u128::try_from(cache.get_image("1").unwrap().last_accessed).unwrap() < now.as_nanos(), "{driver:?}");
        cache.set_access("1", 1, i64::MIN).unwrap();
        assert!(cache.get_image("1").unwrap().last_accessed < 2000, "{driver:?}");
    }
}

#[test]
fn what_is_not_cached_has_no_access() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache.queue_image("1").unwrap();
        let writer = cache.begin_write("2").unwrap();
        for id in ["1", "2", "3"] {
            assert!(matches!(cache.set_access(id, 1, BEGIN), Err(Error::NotFound { .. })), "{driver:?}");
        }
        assert!(matches!(cache.set_access("../1", 1, BEGIN), Err(Error::InvalidImageId { .. })));
        drop(writer);
    }
}
