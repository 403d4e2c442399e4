//! Two or more operations at the same moment, in threads that each have a handle of their own, so that what takes turns among
//! processes is at work as well. Rounds begin at a barrier; what they assert holds for every interleaving.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use image_cache::{DriverChoice, Error, ImageCache};

use crate::common::{Scratch, cache_image, files, read_image};
use crate::content::{self, Version};
use crate::history;
use crate::site::AT_ONCE;

const THREADS: usize = 4;

/// What a thread does in a round, which has a number.
type Function<'a> = dyn Fn(&ImageCache, u64) + Sync + 'a;

/// Runs each function in a thread and with a handle of its own, round after round, and `check` after each round. Should one
/// of them panic, it ends, and nobody is left waiting at a barrier.
fn race<const N: usize>(scratch: &Scratch, rounds: u64, functions: [&Function<'_>; N], mut check: impl FnMut(u64)) {
    let (start, end) = (Barrier::new(N + 1), Barrier::new(N + 1));
    let failure = Mutex::new(None::<Box<dyn std::any::Any + Send>>);
    let is_over = AtomicBool::new(false);
    let attempt = |work: &mut dyn FnMut()| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            *failure.lock().unwrap() = Some(panic);
        }
    };
    std::thread::scope(|scope| {
        for function in functions {
            let (start, end, is_over, attempt) = (&start, &end, &is_over, &attempt);
            scope.spawn(move || {
                let cache = scratch.open();
                for round in 0.. {
                    start.wait();
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    attempt(&mut || function(&cache, round));
                    end.wait();
                }
            });
        }
        for round in 0..rounds {
            start.wait();
            end.wait();
            if failure.lock().unwrap().is_none() {
                attempt(&mut || check(round));
            }
            if failure.lock().unwrap().is_some() {
                break;
            }
        }
        is_over.store(true, Ordering::SeqCst);
        start.wait();
    });
    if let Some(panic) = failure.into_inner().unwrap() {
        resume_unwind(panic);
    }
}

fn version(number: u64) -> Version {
    Version::new(0, 0, number, true)
}

/// One that takes many writes.
fn long_version(number: u64) -> Version {
    (number..number + 1000).map(version).find(|version| version.length() > 100_000).unwrap()
}

fn publish(cache: &ImageCache, image_id: &str, version: Version) -> Result<(), Error> {
    let mut writer = cache.begin_write(image_id)?;
    for chunk in version.bytes(image_id).chunks(10_000) {
        writer.write_chunk(chunk)?;
    }
    writer.commit()
}

/// Nothing but the named failures.
fn tolerate(result: Result<(), Error>, tolerated: fn(&Error) -> bool) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if tolerated(&error) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn is_taken(error: &Error) -> bool {
    matches!(error, Error::AlreadyCached(_) | Error::BeingCached(_))
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Lost { .. })
}

/// The files and the index agree, and every file is one writer's.
fn assert_exact(scratch: &Scratch, cache: &ImageCache) {
    let listed = cache.list_cached().unwrap();
    let names = files(&scratch.path());
    let names: Vec<_> = names.iter().filter(|name| !name.starts_with("cache.db")).collect();
    assert_eq!(names, listed.iter().map(|image| &image.image_id).collect::<Vec<_>>());
    let mut bytes = 0;
    for image in &listed {
        let served = read_image(cache, &image.image_id);
        content::verify(&image.image_id, &served).unwrap();
        assert_eq!(served.len() as u64, image.size);
        bytes += image.size;
    }
    assert_eq!(cache.cache_size().unwrap(), bytes);
    assert_eq!(files(&scratch.file("incomplete")), Vec::<String>::new());
}

fn assert_quiet(scratch: &Scratch) {
    let messages = scratch.messages.lock().unwrap();
    let told = |message: &&String| message.contains("put right") || message.contains("later");
    assert_eq!(messages.iter().find(told), None);
}

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

/// The writer publishes, or learns that it lost; what it says is what is there.
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
    println!("{driver:?}: of {ROUNDS} writers {lost} lost their file to a clean");
}

pub fn a_writer_against_delete_of_the_same_image(driver: DriverChoice) {
    const ROUNDS: u64 = 300;
    let scratch = Scratch::new(driver);
    let write = |cache: &ImageCache, round| {
        tolerate(publish(cache, "fought-for", version(round)), is_taken);
    };
    let delete = |cache: &ImageCache, _| cache.delete_cached_image("fought-for").unwrap();
    let read = |cache: &ImageCache, _| match cache.open_for_read("fought-for") {
        Ok(mut reader) => {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
            content::verify("fought-for", &bytes).unwrap();
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

/// Those that read go on with their bytes, whatever is evicted under them, and what they opened last is evicted last.
pub fn prune_against_readers(driver: DriverChoice) {
    const ROUNDS: u64 = 60;
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
        assert_eq!(fill.cache_size().unwrap(), 0);
        refill();
    });
    assert_exact(&scratch, &fill);
    assert_quiet(&scratch);
    println!("{driver:?}: {} readers beside {ROUNDS} prunes", served.load(Ordering::Relaxed));
}

pub fn two_prunes_evict_what_is_too_much(driver: DriverChoice) {
    // Several batches, so that one can come between those of the other.
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
        let oldest = cache.list_cached().unwrap().remove(0).image_id;
        assert_eq!(oldest, format!("{:06}", number.load(Ordering::Relaxed) - IMAGES / 2));
        fill();
    });
}

/// While one evicts, another deletes the image and caches it anew, longer: what prune says went is what went.
pub fn prune_against_an_image_that_is_cached_anew(driver: DriverChoice) {
    const ROUNDS: u64 = 400;
    const SHORT: &[u8] = b"short";
    const LONG: &[u8] = b"a longer one";
    let mut scratch = Scratch::new(driver);
    scratch.options = scratch.options.clone().max_size(0);
    let cache = scratch.open();
    cache_image(&cache, "1", SHORT);
    let pruned = Mutex::new(image_cache::Pruned::default());
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
    println!("{driver:?}: in {replaced_first} of {ROUNDS} prunes the image was another one by then");
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

/// While one fetches an image, the others fetch the rest, and pass that one over.
pub fn a_prefetcher_in_the_midst_of_a_fetch(driver: DriverChoice) {
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

/// In the middle of a tee another handle takes its file away: the reader gets all bytes, and the next writer the image.
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
    let mut handed_on = Vec::new();
    tee.read_to_end(&mut handed_on).unwrap();
    assert!(handed_on == bytes && !tee.is_caching());
    drop(tee);
    assert_eq!(content::verify("1", &read_image(&cache, "1")).unwrap(), version(0));
    assert_exact(&scratch, &cache);
}

pub fn a_hit_of_a_deleted_image_is_none_of_the_one_cached_anew(driver: DriverChoice) {
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

/// However two opens overlap, the later one counts: the image was used no earlier than either began.
pub fn the_last_use_never_goes_back(driver: DriverChoice) {
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
    };
    race(&scratch, ROUNDS, [&open, &open, &open], |round| {
        let used = cache.list_cached().unwrap()[0].last_accessed.cast_unsigned();
        // The index keeps times to a quarter of a microsecond.
        assert!(used + 1000 >= latest.load(Ordering::Relaxed), "in round {round} a later use was forgotten");
    });
}
