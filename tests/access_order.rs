//! Access order and hit counts are exact over all handles, on any mount option for access times.

mod common;

use std::fs::{File, FileTimes};
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use common::{DRIVERS, Scratch, cache_image, ids, read_image};
use image_cache::{DriverChoice, Durability};

#[test]
fn an_open_counts_as_an_access_even_when_nothing_is_read() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open_with(scratch.options.clone().max_size(1));
        for id in ["1", "2", "3"] {
            cache_image(&cache, id, b"x");
        }
        drop(cache.open_for_read("1").unwrap());
        cache.prune().unwrap();
        assert_eq!(ids(&cache), ["1"]);
    }
}

#[test]
fn all_handles_share_one_access_order() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let handles = [scratch.open(), scratch.open(), scratch.open_with(scratch.options.clone().max_size(2))];
        for id in ["1", "2", "3", "4"] {
            cache_image(&handles[0], id, b"x");
        }
        // Two handles open readers in turn. They are closed in another order, which does not matter.
        let [first, second] = [&handles[0], &handles[1]];
        let opened = [(first, "4"), (second, "3"), (first, "2"), (second, "1")];
        let readers = opened.map(|(handle, id)| handle.open_for_read(id).unwrap());
        readers.into_iter().rev().for_each(drop);
        assert_eq!(handles[2].prune().unwrap().images, 2);
        assert_eq!(ids(&handles[0]), ["1", "2"]);
    }
}

#[test]
fn each_of_many_readers_at_once_counts_one_hit() {
    const THREADS: usize = 8;
    const READS: usize = 50;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"popular");
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (cache, scratch, start) = (&cache, &scratch, &start);
                scope.spawn(move || {
                    // Half of the threads share a handle, the others have one each.
                    let own = (thread % 2 == 0).then(|| scratch.open());
                    start.wait();
                    for _ in 0..READS {
                        assert_eq!(read_image(own.as_ref().unwrap_or(cache), "1"), b"popular");
                    }
                });
            }
        });
        assert_eq!(cache.hit_count("1").unwrap(), (THREADS * READS) as u64);
    }
}

#[test]
fn hits_of_readers_that_outlive_their_cache_are_counted_as_they_close() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        cache_image(&cache, "1", b"x");
        let readers = [(); 3].map(|()| cache.open_for_read("1").unwrap());
        read_image(&cache, "1");
        drop(cache);
        assert_eq!(other.hit_count("1").unwrap(), 1);
        for (closed, reader) in readers.into_iter().enumerate() {
            drop(reader);
            assert_eq!(other.hit_count("1").unwrap(), closed as u64 + 2);
        }
    }
}

#[test]
fn many_hits_are_flushed_without_a_query() {
    const IMAGES: usize = 600;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open_with(scratch.options.clone().durability(Durability::None)), scratch.open());
        for number in 0..IMAGES {
            cache_image(&cache, &number.to_string(), b"x");
        }
        for number in 0..IMAGES {
            read_image(&cache, &number.to_string());
        }
        let hits: u64 = other.list_cached().unwrap().map(|image| image.hits).sum();
        assert!(hits > 500, "{hits}");
    }
}

#[test]
fn readers_write_their_hits_once_a_second() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        cache_image(&cache, "1", b"x");
        read_image(&cache, "1");
        assert_eq!(other.hit_count("1").unwrap(), 1);
        for _ in 0..10 {
            read_image(&cache, "1");
        }
        let waiting = other.hit_count("1").unwrap();
        assert!(waiting < 11, "{waiting}: each hit is written as it comes");
        std::thread::sleep(Duration::from_millis(1050));
        read_image(&cache, "1");
        assert_eq!(other.hit_count("1").unwrap(), 12);
    }
}

#[test]
fn prune_orders_accesses_that_are_not_yet_in_the_index() {
    const IMAGES: usize = 300;
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().durability(Durability::None));
    let idle = scratch.open();
    for number in 0..IMAGES {
        cache_image(&cache, &format!("{number:03}"), b"x");
    }
    // The last accesses are not in the index yet. Prune reads them from the files' atimes.
    for number in 0..IMAGES / 2 {
        read_image(&idle, &format!("{number:03}"));
    }
    drop(cache);
    let pruner = scratch.open_with(scratch.options.clone().max_size(IMAGES as u64 / 4));
    assert_eq!(pruner.prune().unwrap().images, IMAGES as u64 * 3 / 4);
    let left: Vec<_> = (IMAGES / 4..IMAGES / 2).map(|number| format!("{number:03}")).collect();
    assert_eq!(ids(&pruner), left);
}

#[test]
fn hits_are_not_lost_to_another_programs_transaction() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let (cache, other) = (scratch.open(), scratch.open());
    cache_image(&cache, "1", b"x");
    let busy = scratch.database();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..100 {
        read_image(&cache, "1");
    }
    assert_eq!(cache.hit_count("1").unwrap(), 100, "a query on the same handle counts them");
    busy.execute_batch("ROLLBACK").unwrap();
    drop(cache);
    assert_eq!(other.hit_count("1").unwrap(), 100);
}

#[test]
fn hits_of_an_image_without_a_row_are_kept_until_it_has_one() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let (cache, other) = (scratch.open(), scratch.open());
    std::fs::write(scratch.file("1"), b"x").unwrap();
    for _ in 0..20 {
        read_image(&cache, "1");
    }
    drop(cache);
    assert_eq!(other.hit_count("1").unwrap(), 20);
}

#[test]
fn a_read_by_another_program_does_not_change_the_sqlite_drivers_access_order() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().max_size(1));
    for id in ["1", "2"] {
        cache_image(&cache, id, b"x");
    }
    // Longer than a step of the kernel's clock, so the access time differs from the commit's time.
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(std::fs::read(scratch.file("1")).unwrap(), b"x");
    assert_eq!(cache.prune().unwrap().images, 1);
    assert_eq!(ids(&cache), ["2"]);
}

#[test]
fn a_reader_keeps_its_bytes_when_the_image_is_cached_again() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"old");
        let mut reader = cache.open_for_read("1").unwrap();
        cache.delete_cached_image("1").unwrap();
        cache_image(&cache, "1", b"newer");
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"old");
        drop(reader);
        assert_eq!(cache.hit_count("1").unwrap(), 0, "a hit of the old image does not count for the new one");
    }
}

/// The file was stamped by a copy, and the row by a clock that was set back since.
#[test]
fn an_access_in_the_future_ages_from_now() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open_with(scratch.options.clone().max_size(3));
        for id in ["ahead", "2", "3", "4"] {
            cache_image(&cache, id, b"x");
        }
        let next_year = SystemTime::now() + Duration::from_secs(365 * 24 * 60 * 60);
        let times = FileTimes::new().set_accessed(next_year);
        File::open(scratch.file("ahead")).unwrap().set_times(times).unwrap();
        if driver == DriverChoice::Sqlite {
            let seconds = next_year.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let update = format!("UPDATE cached_images SET last_accessed = {seconds} WHERE image_id = 'ahead'");
            scratch.database().execute_batch(&update).unwrap();
        }
        // It was stamped after the others were cached.
        assert_eq!(cache.prune().unwrap().images, 1);
        assert_eq!(ids(&cache), ["3", "4", "ahead"]);
        // The others are in use.
        for id in ["4", "3"] {
            read_image(&cache, id);
        }
        cache_image(&cache, "5", b"x");
        assert_eq!(cache.prune().unwrap().images, 1);
        assert_eq!(ids(&cache), ["3", "4", "5"]);
    }
}

/// A file that another program removed, and whose row looks right: its mtime was put back, too.
#[test]
fn no_image_is_evicted_in_place_of_one_that_is_gone() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().max_size(3));
    for id in ["1", "2", "3", "gone"] {
        cache_image(&cache, id, b"x");
    }
    read_image(&cache, "gone");
    read_image(&cache, "1");
    cache_image(&cache, "4", b"x");
    let directory = File::open(scratch.path()).unwrap();
    let modified = directory.metadata().unwrap().modified().unwrap();
    for gone in ["2", "gone"] {
        std::fs::remove_file(scratch.file(gone)).unwrap();
    }
    directory.set_modified(modified).unwrap();
    assert_eq!(cache.prune().unwrap().images, 0);
    assert_eq!(ids(&cache), ["1", "3", "4"]);
}

#[test]
fn two_concurrent_prunes_evict_no_more_than_one() {
    // Many batches, so that the two prunes overlap.
    const IMAGES: usize = 1000;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let options = scratch.options.clone().max_size(IMAGES as u64 / 2);
        let cache = scratch.open_with(options.clone());
        for number in 0..IMAGES {
            cache_image(&cache, &format!("{number:03}"), b"x");
        }
        let start = Barrier::new(2);
        let pruned = std::thread::scope(|scope| {
            let prune = || {
                let cache = scratch.open_with(options.clone());
                start.wait();
                cache.prune().unwrap().images
            };
            let threads = [scope.spawn(prune), scope.spawn(prune)];
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(pruned.iter().sum::<u64>(), IMAGES as u64 / 2, "{pruned:?}");
        assert_eq!(cache.cache_size().unwrap(), IMAGES as u64 / 2);
        assert_eq!(ids(&cache)[0], "500");
    }
}
