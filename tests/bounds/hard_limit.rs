//! The hard limit: reservations, evictions for them, and what cannot fit.

use image_cache::{Error, ImageCache, LimitMode};

use crate::blocks::allocated;
use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};

const MIB: u64 = 1 << 20;

/// A limit for so many MiB. Some file systems have another block for the attributes of each file.
const fn limit_for(mib: u64) -> u64 {
    mib * MIB + MIB / 2
}

/// A cache for so many MiB.
fn hard(scratch: &Scratch, mib: u64) -> ImageCache {
    scratch.open_with(scratch.options.clone().max_size(limit_for(mib)).limit_mode(LimitMode::Hard))
}

/// What the cache takes up, in MiB.
fn mib_of(scratch: &Scratch) -> u64 {
    allocated(&scratch.path()) / MIB
}

fn mib(count: usize) -> Vec<u8> {
    vec![7; count << 20]
}

#[test]
fn a_writer_evicts_the_least_recently_used_images_for_what_it_writes() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 10);
        for number in 0..10 {
            cache_image(&cache, &number.to_string(), &mib(1));
        }
        assert_eq!((ids(&cache).len(), mib_of(&scratch)), (10, 10));
        read_image(&cache, "0");
        let mut writer = cache.begin_write("new").unwrap();
        for _ in 0..3 {
            writer.write_chunk(&mib(1)).unwrap();
            assert!(allocated(&scratch.path()) <= limit_for(10));
        }
        writer.commit().unwrap();
        assert_eq!(ids(&cache), ["0", "4", "5", "6", "7", "8", "9", "new"]);
        assert_eq!(mib_of(&scratch), 10);
    }
}

#[test]
fn an_expected_size_is_reserved_at_once_and_what_cannot_fit_evicts_nothing() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 4);
        cache_image(&cache, "1", &mib(1));
        let mut writer = cache.begin_write("large").unwrap();
        assert!(matches!(writer.expect_size(5 * MIB), Err(Error::NoRoom { .. })));
        assert!(matches!(writer.write_chunk(b"x"), Err(Error::NoRoom { .. })), "the failure is final");
        drop(writer);
        let mut writer = cache.begin_write("2").unwrap();
        writer.expect_size(3 * MIB).unwrap();
        let usage = cache.usage().unwrap();
        assert_eq!((usage.cached / MIB, usage.incomplete, usage.reserved), (1, 3 * MIB, 3 * MIB));
        // It is visible to all handles.
        let other = scratch.open();
        let mut third = other.begin_write("3").unwrap();
        assert!(matches!(third.expect_size(2 * MIB), Err(Error::NoRoom { .. })));
        assert_eq!(ids(&cache), ["1"], "not even the evictable image is evicted in vain");
        let mut third = other.begin_write("4").unwrap();
        third.expect_size(MIB).unwrap();
        assert!(ids(&cache).is_empty(), "it was evicted for the last one");
        writer.write_chunk(&mib(3)).unwrap();
        writer.commit().unwrap();
        assert_eq!(mib_of(&scratch), 4);
    }
}

#[test]
fn what_was_reserved_ahead_is_freed_at_the_end() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 64);
        let mut writer = cache.begin_write("1").unwrap();
        for _ in 0..5 {
            writer.write_chunk(&mib(1)).unwrap();
        }
        assert!(cache.usage().unwrap().reserved > 0);
        writer.commit().unwrap();
        let mut failed = cache.begin_write("2").unwrap();
        failed.write_chunk(&mib(1)).unwrap();
        failed.write_chunk(&mib(1)).unwrap();
        failed.abort("for the test");
        let usage = cache.usage().unwrap();
        assert_eq!((usage.cached / MIB, usage.incomplete, usage.invalid / MIB), (5, 0, 2));
        assert_eq!(mib_of(&scratch), 7);
    }
}

#[test]
fn invalid_files_make_room_before_images_do() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 3);
        cache_image(&cache, "1", &mib(1));
        let mut failed = cache.begin_write("2").unwrap();
        failed.write_chunk(&mib(2)).unwrap();
        failed.abort("for the test");
        cache_image(&cache, "3", &mib(1));
        assert_eq!(ids(&cache), ["1", "3"]);
        assert_eq!(mib_of(&scratch), 2);
    }
}

#[test]
fn the_limit_is_the_directorys_and_is_kept() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        drop(hard(&scratch, 2));
        // Neither its maximum size nor its mode are given.
        let cache = scratch.open();
        for number in 0..4 {
            cache_image(&cache, &number.to_string(), &mib(1));
        }
        assert_eq!(ids(&cache), ["2", "3"]);
        let other = scratch.open();
        other.set_max_size(limit_for(1)).unwrap();
        assert_eq!(ids(&cache), ["3"], "it is evicted down to a lower limit");
        other.set_max_size(limit_for(3)).unwrap();
        cache_image(&cache, "4", &mib(2));
        assert_eq!(ids(&cache), ["3", "4"]);
        drop((cache, other));
        let cache = scratch.open_with(scratch.options.clone().limit_mode(LimitMode::Soft));
        cache_image(&cache, "5", &mib(3));
        assert_eq!(ids(&cache).len(), 3, "a soft limit waits for a prune");
    }
}

#[test]
fn a_deleted_image_counts_until_its_last_reader_is_gone() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 3);
        cache_image(&cache, "1", &mib(2));
        let reader = cache.open_for_read("1").unwrap();
        cache.delete_cached_image("1").unwrap();
        assert_eq!(mib_of(&scratch), 2);
        assert_eq!(cache.usage().unwrap().deleted / MIB, 2);
        let mut writer = cache.begin_write("1").unwrap();
        assert!(matches!(writer.write_chunk(&mib(2)), Err(Error::NoRoom { .. })));
        drop(writer);
        drop(reader);
        assert_eq!(mib_of(&scratch), 0, "its last reader removes it");
        cache_image(&cache, "1", &mib(2));
    }
}

#[test]
fn a_deleted_image_that_another_program_has_open_is_freed_when_room_is_needed() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 3);
        cache_image(&cache, "1", &mib(2));
        let other = std::fs::File::open(scratch.file("1")).unwrap();
        cache.delete_all_cached_images().unwrap();
        assert_eq!(cache.usage().unwrap().deleted / MIB, 2);
        drop(other);
        cache_image(&cache, "2", &mib(3));
        assert_eq!(mib_of(&scratch), 3);
    }
}

#[test]
fn images_in_use_are_not_evicted_for_a_writer() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 2);
        cache_image(&cache, "1", &mib(1));
        cache_image(&cache, "2", &mib(1));
        let reader = cache.open_for_read("1").unwrap();
        cache_image(&cache, "3", &mib(1));
        assert_eq!(ids(&cache), ["1", "3"]);
        let mut writer = cache.begin_write("4").unwrap();
        let refused = writer.expect_size(2 * MIB).unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
        assert_eq!(ids(&cache), ["1", "3"]);
        drop(reader);
    }
}

#[test]
fn what_another_program_adds_counts_with_the_next_reservation() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 4);
        cache_image(&cache, "1", &mib(1));
        cache_image(&cache, "2", &mib(1));
        std::fs::write(scratch.file("foreign"), mib(2)).unwrap();
        cache_image(&cache, "3", &mib(1));
        assert_eq!(mib_of(&scratch), 4);
        assert_eq!(ids(&cache), ["2", "3", "foreign"]);
    }
}

#[test]
fn a_dead_writers_file_counts_and_makes_room() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 2);
        cache_image(&cache, "1", &mib(1));
        crate::common::leave_by_dead_writer(&scratch.file("incomplete/dead"), &mib(1));
        assert_eq!(cache.usage().unwrap().incomplete, MIB);
        cache_image(&cache, "2", &mib(1));
        assert_eq!(ids(&cache), ["1", "2"]);
        assert_eq!(mib_of(&scratch), 2);
    }
}

#[test]
fn a_tee_and_a_stream_that_do_not_fit_deliver_without_caching() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 1);
        let bytes = mib(2);
        let mut delivered = Vec::new();
        let mut tee = cache.tee("tee", &bytes[..]).unwrap();
        tee.expect_size(2 * MIB).unwrap();
        assert!(!tee.is_caching());
        std::io::Read::read_to_end(&mut tee, &mut delivered).unwrap();
        assert!(delivered == bytes);
        let source = {
            let bytes = bytes.clone();
            move |offset: u64, buffer: &mut [u8]| {
                let rest = &bytes[usize::try_from(offset).unwrap().min(bytes.len())..];
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            }
        };
        for size in [Some(2 * MIB), None] {
            let mut stream = cache.stream("stream", source.clone()).unwrap();
            if let Some(size) = size {
                stream.expect_size(size).unwrap();
            }
            delivered.clear();
            let mut buffer = vec![0; 100_000];
            loop {
                let length = stream.read(&mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                assert!(allocated(&scratch.path()) <= limit_for(1));
                delivered.extend_from_slice(&buffer[..length]);
            }
            assert!(delivered == bytes);
        }
        assert!(ids(&cache).is_empty());
    }
}

#[test]
fn a_limit_that_is_lowered_holds_for_writers_and_streams_that_have_reserved() {
    for driver in DRIVERS {
        for is_before_the_last_chunk in [true, false] {
            let scratch = Scratch::new(driver);
            let cache = hard(&scratch, 10);
            let mut writer = cache.begin_write("1").unwrap();
            writer.expect_size(4 * MIB).unwrap();
            writer.write_chunk(&mib(3)).unwrap();
            let lower = || scratch.open().set_max_size(limit_for(2)).unwrap();
            if is_before_the_last_chunk {
                lower();
                assert!(matches!(writer.write_chunk(&mib(1)), Err(Error::NoRoom { .. })));
            } else {
                writer.write_chunk(&mib(1)).unwrap();
                lower();
            }
            assert!(matches!(writer.commit(), Err(Error::NoRoom { .. })));
            assert!(ids(&cache).is_empty() && allocated(&scratch.path()) <= limit_for(2));
        }
        // Streams of one handle share the reservation.
        for count in [1, 3] {
            let scratch = Scratch::new(driver);
            let cache = hard(&scratch, 10);
            let source = |_: u64, buffer: &mut [u8]| {
                buffer.fill(7);
                Ok(buffer.len())
            };
            let mut buffer = mib(1);
            let mut streams = Vec::new();
            for _ in 0..count {
                let mut stream = cache.stream("1", source).unwrap();
                stream.expect_size(4 * MIB).unwrap();
                stream.read(&mut buffer).unwrap();
                streams.push(stream);
            }
            scratch.open().set_max_size(limit_for(2)).unwrap();
            for stream in &mut streams {
                while stream.read(&mut buffer).unwrap() > 0 {}
            }
            drop(streams);
            assert!(ids(&cache).is_empty() && allocated(&scratch.path()) <= limit_for(2), "{count} streams");
        }
    }
}

#[test]
fn a_hard_limit_without_a_size_keeps_the_one_that_is_there() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        drop(hard(&scratch, 2));
        let cache = scratch.open_with(scratch.options.clone().limit_mode(LimitMode::Hard));
        assert_eq!(cache.usage().unwrap().limit, limit_for(2));
        cache.set_max_size(limit_for(3)).unwrap();
        assert!(scratch.logged(&format!("the hard limit is {} bytes; it was {} bytes", limit_for(3), limit_for(2))));
    }
}

#[test]
fn the_reason_of_a_failed_fetch_outlives_the_need_for_room() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 2);
        let mut writer = cache.begin_write("1").unwrap();
        assert!(writer.expect_size(3 * MIB).is_err());
        writer.abort("the download failed");
        cache_image(&cache, "2", &mib(1));
        cache_image(&cache, "3", &mib(1));
        cache_image(&cache, "4", &mib(1));
        let invalid = cache.list_invalid().unwrap();
        assert!(invalid[0].reason.as_deref().unwrap().contains("cannot make room"), "{invalid:?}");
        assert_eq!(cache.statistics().unwrap().no_space, 1);
    }
}
