//! Races of readers, hits, accesses and evictions, in threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use image_cache::{DriverChoice, ImageCache, Pruned};

use crate::common::{Scratch, cache_image};
use crate::content;
use crate::history;
use crate::rounds::{assert_exact, assert_quiet, is_taken, publish, race, tolerate, version};

/// No image is evicted while a reader has it open.
pub fn prune_against_readers(driver: DriverChoice) {
    const ROUNDS: u64 = 200;
    let mut scratch = Scratch::new(driver);
    scratch.options = scratch.options.clone().max_size(0);
    let ids = ["1", "2", "3", "4"];
    let served = AtomicU64::new(0);
    let fill = scratch.open();
    let next = AtomicU64::new(0);
    let refill = || {
        for id in ids {
            tolerate(publish(&fill, id, version(next.fetch_add(1, Ordering::Relaxed))), is_taken);
        }
    };
    refill();
    let read = |cache: &ImageCache, _| {
        let readers: Vec<_> = ids.iter().map(|id| (id, cache.open_for_read(id))).collect();
        for (id, reader) in readers {
            let Ok(mut reader) = reader else { continue };
            assert!(cache.is_cached(id).unwrap(), "image {id} was evicted under a reader");
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
            content::verify(id, &bytes).unwrap();
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    let prune = |cache: &ImageCache, _| {
        cache.prune().unwrap();
    };
    race(&scratch, ROUNDS, [&read, &read, &prune], |_| {
        // Those that were open.
        fill.prune().unwrap();
        assert_eq!(fill.cache_size().unwrap(), 0);
        refill();
    });
    assert_exact(&scratch, &fill);
    assert_quiet(&scratch);
    println!("swept: {driver:?}: {} readers beside {ROUNDS} prunes", served.load(Ordering::Relaxed));
}

pub fn two_prunes_evict_the_excess(driver: DriverChoice) {
    // Several batches, so that the batches of two prunes can alternate.
    const ROUNDS: u64 = 8;
    const IMAGES: u64 = 400;
    let mut scratch = Scratch::new(driver);
    scratch.options = scratch.options.clone().max_size(IMAGES / 2);
    let evicted = AtomicU64::new(0);
    let cache = scratch.open();
    let number = AtomicU64::new(0);
    let fill = || {
        while cache.cache_size().unwrap() < IMAGES {
            cache_image(&cache, &format!("{:06}", number.fetch_add(1, Ordering::Relaxed)), b"x");
        }
    };
    fill();
    let prune = |cache: &ImageCache, _| {
        let pruned = cache.prune().unwrap();
        assert_eq!(pruned.images, pruned.bytes);
        evicted.fetch_add(pruned.images, Ordering::Relaxed);
    };
    race(&scratch, ROUNDS, [&prune, &prune, &prune], |_| {
        assert_eq!(evicted.swap(0, Ordering::Relaxed), IMAGES / 2);
        let oldest = cache.list_cached().unwrap().next().unwrap().image_id;
        assert_eq!(oldest, format!("{:06}", number.load(Ordering::Relaxed) - IMAGES / 2));
        fill();
    });
}

/// One thread prunes, another deletes the image and caches a longer one: prune counts what it evicted.
pub fn prune_against_an_image_that_is_cached_again(driver: DriverChoice) {
    const ROUNDS: u64 = 400;
    const SHORT: &[u8] = b"short";
    const LONG: &[u8] = b"a longer one";
    let mut scratch = Scratch::new(driver);
    scratch.options = scratch.options.clone().max_size(0);
    let cache = scratch.open();
    cache_image(&cache, "1", SHORT);
    let pruned = Mutex::new(Pruned::default());
    let prune = |cache: &ImageCache, _| *pruned.lock().unwrap() = cache.prune().unwrap();
    let replace = |cache: &ImageCache, _| {
        cache.delete_cached_image("1").unwrap();
        cache_image(cache, "1", LONG);
    };
    let mut replaced_first = 0;
    race(&scratch, ROUNDS, [&prune, &replace], |_| {
        let pruned = *pruned.lock().unwrap();
        let left = cache.cache_size().unwrap();
        let expected = match (pruned.images, left) {
            (0, _) => 0,
            (1, 0) => LONG.len() as u64,
            _ => SHORT.len() as u64,
        };
        replaced_first += u64::from(left == 0);
        assert_eq!(pruned.bytes, expected, "{pruned:?}, {left} bytes are left");
        cache.delete_all_cached_images().unwrap();
        cache_image(&cache, "1", SHORT);
    });
    println!("swept: {driver:?}: in {replaced_first} of {ROUNDS} prunes the image was another one by then");
}

pub fn hit_of_a_deleted_image(driver: DriverChoice) {
    const ROUNDS: u64 = 600;
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let reader = Mutex::new(None);
    cache_image(&cache, "1", b"old");
    *reader.lock().unwrap() = Some(cache.open_for_read("1").unwrap());
    let was_counted = AtomicBool::new(false);
    let close = |_: &ImageCache, _| drop(reader.lock().unwrap().take());
    let replace = |other: &ImageCache, _| {
        other.delete_cached_image("1").unwrap();
        cache_image(other, "1", b"new");
    };
    race(&scratch, ROUNDS, [&close, &replace], |round| {
        let hits = cache.hit_count("1").unwrap();
        was_counted.store(hits != 0, Ordering::Relaxed);
        assert_eq!(hits, 0, "in round {round}");
        *reader.lock().unwrap() = Some(cache.open_for_read("1").unwrap());
    });
}

/// Of two overlapping opens the later one counts: the last access is no earlier than the start of either.
pub fn the_last_access_never_goes_back(driver: DriverChoice) {
    const ROUNDS: u64 = 1500;
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "1", b"x");
    let latest = AtomicU64::new(0);
    let open = |cache: &ImageCache, round: u64| {
        // Not all at the same instant.
        for _ in 0..round % 3 {
            std::hint::spin_loop();
        }
        latest.fetch_max(history::wall_clock(), Ordering::Relaxed);
        drop(cache.open_for_read("1").unwrap());
        // Each handle writes its pending access.
        cache.hit_count("1").unwrap();
    };
    race(&scratch, ROUNDS, [&open, &open, &open], |round| {
        let used = cache.list_cached().unwrap().next().unwrap().last_accessed.cast_unsigned();
        // The index stores times to a quarter of a microsecond.
        assert!(used + 1000 >= latest.load(Ordering::Relaxed), "in round {round} a later access was lost");
    });
}
