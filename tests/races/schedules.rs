//! Races of writers, in threads. Rounds begin at a barrier; the assertions hold for every interleaving.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use image_cache::{DriverChoice, Error, ImageCache};

use crate::caches::AT_ONCE;
use crate::common::{Scratch, files, read_image};
use crate::content::{self, Version};
use crate::rounds::{assert_exact, assert_quiet, is_lost, is_taken, long_version, publish, race, tolerate, version};

const THREADS: usize = 4;

pub fn two_writers_of_one_image(driver: DriverChoice) {
    const ROUNDS: u64 = 150;
    let scratch = Scratch::new(driver);
    let writers: [_; THREADS] = std::array::from_fn(|thread| {
        let published = AtomicU64::new(0);
        (thread as u64, published)
    });
    let write = |number: usize| {
        let (thread, published) = &writers[number];
        move |cache: &ImageCache, round: u64| {
            let version = Version::new(1, *thread, round, true);
            let done = tolerate(publish(cache, &format!("raced-{round}"), version), is_taken);
            published.fetch_add(u64::from(done), Ordering::Relaxed);
        }
    };
    race(&scratch, ROUNDS, [&write(0), &write(1), &write(2), &write(3)], |round| {
        let published: u64 = writers.iter().map(|(_, published)| published.load(Ordering::Relaxed)).sum();
        assert_eq!(published, round + 1, "each image is published once");
    });
    assert_exact(&scratch, &scratch.open());
    assert_quiet(&scratch);
}

/// The writer publishes or gets `Lost`, and the cache agrees with it.
pub fn a_writer_against_clean(driver: DriverChoice) {
    const ROUNDS: u64 = 300;
    let scratch = Scratch::new(driver);
    let published = AtomicBool::new(false);
    let write = |cache: &ImageCache, round: u64| {
        let version = long_version(round);
        let done = tolerate(publish(cache, &format!("cleaned-{round}"), version), is_lost);
        published.store(done, Ordering::Relaxed);
    };
    let clean = |cache: &ImageCache, _| {
        cache.clean(AT_ONCE).unwrap();
    };
    let cache = scratch.open();
    let mut lost = 0;
    race(&scratch, ROUNDS, [&write, &clean, &clean], |round| {
        let published = published.load(Ordering::Relaxed);
        lost += u64::from(!published);
        assert_eq!(cache.is_cached(&format!("cleaned-{round}")).unwrap(), published);
    });
    assert_exact(&scratch, &cache);
    assert_quiet(&scratch);
    println!("swept: {driver:?}: of {ROUNDS} writers {lost} lost their file to a clean");
}

pub fn a_writer_against_delete_of_the_same_image(driver: DriverChoice) {
    const ROUNDS: u64 = 300;
    let scratch = Scratch::new(driver);
    let write = |cache: &ImageCache, round| {
        tolerate(publish(cache, "contested", version(round)), is_taken);
    };
    let delete = |cache: &ImageCache, _| cache.delete_cached_image("contested").unwrap();
    let read = |cache: &ImageCache, _| match cache.open_for_read("contested") {
        Ok(mut reader) => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
            content::verify("contested", &bytes).unwrap();
        }
        Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error:?}"),
    };
    let cache = scratch.open();
    race(&scratch, ROUNDS, [&write, &delete, &delete, &read], |round| {
        if round % 10 == 0 {
            assert_exact(&scratch, &cache);
        }
    });
    assert_quiet(&scratch);
}

pub fn prefetchers_that_share_a_queue(driver: DriverChoice) {
    const ROUNDS: u64 = 20;
    const IMAGES: u64 = 12;
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let fill = |round: u64| {
        (0..IMAGES).for_each(|number| assert!(cache.queue_image(&format!("{round}-{number}")).unwrap()));
    };
    let fetches = Mutex::new(BTreeMap::<String, u64>::new());
    let published = AtomicU64::new(0);
    let prefetch = |cache: &ImageCache, _| {
        let prefetched = cache.prefetch(|id, writer| {
            *fetches.lock().unwrap().entry(id.to_owned()).or_default() += 1;
            writer.write_chunk(&version(1).bytes(id))
        });
        let prefetched = prefetched.unwrap();
        assert_eq!(prefetched.failed, 0);
        published.fetch_add(prefetched.fetched, Ordering::Relaxed);
    };
    fill(0);
    race(&scratch, ROUNDS, [&prefetch, &prefetch, &prefetch, &prefetch], |round| {
        assert_eq!(published.swap(0, Ordering::Relaxed), IMAGES);
        assert!(cache.list_queued().unwrap().is_empty());
        fill(round + 1);
    });
    let fetches = fetches.into_inner().unwrap();
    assert_eq!(fetches.len() as u64, ROUNDS * IMAGES);
    assert!(fetches.values().all(|times| *times == 1), "{fetches:?}");
    assert_exact(&scratch, &cache);
    assert_quiet(&scratch);
}

/// While one prefetch fetches an image, another one fetches the rest and skips that image.
pub fn prefetch_within_a_fetch(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    for id in ["1", "2", "3"] {
        cache.queue_image(id).unwrap();
    }
    let mut fetched = Vec::new();
    let prefetched = cache.prefetch(|id, writer| {
        fetched.push(id.to_owned());
        if fetched.len() == 1 {
            let mut by_other = Vec::new();
            let prefetched = other.prefetch(|id, writer| {
                by_other.push(id.to_owned());
                writer.write_chunk(&version(2).bytes(id))
            })?;
            assert_eq!((by_other, prefetched.fetched, prefetched.failed), (vec!["2".into(), "3".into()], 2, 0));
        }
        writer.write_chunk(&version(1).bytes(id))
    });
    assert_eq!(prefetched.unwrap().fetched, 1);
    assert_eq!(fetched, ["1"]);
    assert_exact(&scratch, &cache);
}

/// A prefetch skips an image that was cached and deleted since it listed the queue.
pub fn a_prefetcher_whose_next_image_came_and_went(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    for id in ["1", "2"] {
        cache.queue_image(id).unwrap();
    }
    let mut fetched = Vec::new();
    let prefetched = cache.prefetch(|id, writer| {
        fetched.push(id.to_owned());
        publish(&other, "2", version(2)).unwrap();
        other.delete_cached_image("2").unwrap();
        writer.write_chunk(&version(1).bytes(id))
    });
    assert_eq!(prefetched.unwrap().fetched, 1);
    assert_eq!(fetched, ["1"]);
    assert!(other.is_cacheable("2").unwrap());
    assert!(files(&scratch.file("invalid")).is_empty());
    assert_exact(&scratch, &cache);
}

pub fn opens_that_race_for_a_new_directory(driver: DriverChoice) {
    const ROUNDS: usize = 40;
    for round in 0..ROUNDS {
        let scratch = Scratch::new(driver);
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (scratch, start) = (&scratch, &start);
                scope.spawn(move || {
                    start.wait();
                    let cache = scratch.open();
                    publish(&cache, &format!("first-{thread}"), version(round as u64)).unwrap();
                });
            }
        });
        let cache = scratch.open();
        assert_eq!(cache.list_cached().unwrap().len(), THREADS);
        assert_exact(&scratch, &cache);
        assert_quiet(&scratch);
    }
}

/// Another handle removes a tee's file: the reader gets all bytes, and the next writer gets the image.
pub fn a_tee_whose_file_is_cleaned_away(driver: DriverChoice) {
    struct Source<'a> {
        bytes: &'a [u8],
        hook: Option<&'a dyn Fn()>,
    }
    impl std::io::Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.bytes.len() < 20_000
                && let Some(hook) = self.hook.take()
            {
                hook();
            }
            let length = buffer.len().min(1000);
            self.bytes.read(&mut buffer[..length])
        }
    }
    let scratch = Scratch::new(driver);
    let (cache, other) = (scratch.open(), scratch.open());
    let bytes = long_version(1).bytes("1");
    let take_away = || {
        assert_eq!(other.clean(AT_ONCE).unwrap(), 1);
        publish(&other, "1", version(0)).unwrap();
    };
    let mut tee = cache.tee("1", Source { bytes: &bytes, hook: Some(&take_away) }).unwrap();
    let mut delivered = Vec::new();
    tee.read_to_end(&mut delivered).unwrap();
    assert!(delivered == bytes && !tee.is_caching());
    drop(tee);
    assert_eq!(content::verify("1", &read_image(&cache, "1")).unwrap(), version(0));
    assert_exact(&scratch, &cache);
}
