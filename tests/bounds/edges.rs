//! Numbers at the edge: empty images, limits and floors that nothing can meet, files with other names.

use image_cache::{Error, ImageCache, LimitMode, Options};

use crate::blocks::allocated;
use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};

const MIB: u64 = 1 << 20;

fn hard(scratch: &Scratch, bytes: u64) -> ImageCache {
    scratch.open_with(scratch.options.clone().max_size(bytes).limit_mode(LimitMode::Hard))
}

fn mib(count: usize) -> Vec<u8> {
    vec![7; count << 20]
}

#[test]
fn an_empty_image_can_be_expected() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, MIB);
        let mut writer = cache.begin_write("empty").unwrap();
        writer.expect_size(0).unwrap();
        writer.commit().unwrap();
        let mut tee = cache.tee("tee", &b""[..]).unwrap();
        tee.expect_size(0).unwrap();
        assert!(tee.is_caching());
        drop(tee);
        assert_eq!(ids(&cache), ["empty", "tee"]);
    }
}

/// With the xattr driver, each may take up a block for its attributes.
#[test]
fn empty_images_do_not_exceed_the_limit() {
    const LIMIT: u64 = 64 << 10;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, LIMIT);
        for number in 0..40 {
            cache.begin_write(&number.to_string()).unwrap().commit().unwrap();
            assert!(allocated(&scratch.path()) <= LIMIT, "{number}");
        }
        cache_image(&cache, "last", &[1; 4096]);
        assert!(allocated(&scratch.path()) <= LIMIT);
        drop(cache);
        let cache = hard(&scratch, 1);
        assert!(matches!(cache.begin_write("no").unwrap().commit(), Err(Error::NoRoom { .. })));
    }
}

#[test]
fn images_with_another_name_are_evicted_for_the_limit() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 4 * MIB + MIB / 2);
        for number in 0..4 {
            cache_image(&cache, &number.to_string(), &mib(1));
            let name = number.to_string();
            std::fs::hard_link(scratch.file(&name), scratch.path().with_file_name(format!("link-{name}"))).unwrap();
        }
        cache_image(&cache, "new", &mib(2));
        assert_eq!(ids(&cache), ["2", "3", "new"]);
        assert_eq!(cache.usage().unwrap().cached / MIB, 4);
        assert_eq!(allocated(&scratch.path()) / MIB, 4);
    }
}

#[test]
fn a_floor_above_the_disk_evicts_nothing() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", &mib(1));
        let options = || scratch.options.clone();
        let of_bytes = |options: Options| options.min_free(1 << 60, 0).unwrap();
        let of_inodes = |options: Options| options.min_free_inodes(1 << 60, 0).unwrap();
        for options in [of_bytes(options()), of_inodes(options())] {
            let cache = scratch.open_with(options);
            let refused = cache.begin_write("2").unwrap().write_chunk(b"x").unwrap_err().to_string();
            assert!(refused.contains("1152921504606846976") && refused.contains("not so many in all"), "{refused}");
            assert_eq!(cache.prune().unwrap().images, 0);
            assert!(matches!(cache.make_room(1), Err(Error::NoRoom { .. })));
            assert_eq!(ids(&cache), ["1"]);
        }
    }
}

#[test]
fn an_unfinished_fetch_is_not_removed_in_vain() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 8 * MIB + MIB / 2);
        cache_image(&cache, "used", &mib(3));
        cache_image(&cache, "unused", &mib(1));
        let _reader = cache.open_for_read("used").unwrap();
        leave(&cache, "left", 2 << 20);
        let mut writer = cache.begin_write("large").unwrap();
        assert!(matches!(writer.expect_size(7 * MIB), Err(Error::NoRoom { .. })));
        drop(writer);
        assert!(cache.is_being_cached("left").unwrap(), "it would not have been enough");
        assert_eq!(ids(&cache), ["unused", "used"]);
        let mut writer = cache.begin_write("less").unwrap();
        writer.expect_size(4 * MIB + MIB / 2).unwrap();
        assert!(!cache.is_being_cached("left").unwrap(), "it was enough");
        assert!(allocated(&scratch.path()) <= 8 * MIB + MIB / 2);
        assert_eq!(read_image(&cache, "used"), mib(3));
    }
}

#[test]
fn a_fetch_that_everybody_left_keeps_its_bytes_and_not_what_was_reserved_for_it() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch, 8 * MIB);
        let content = mib(6);
        let open = || {
            let content = content.clone();
            let source = move |offset: u64, buffer: &mut [u8]| {
                let rest = &content[usize::try_from(offset).unwrap()..];
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            };
            let mut stream = cache.stream("1", source).unwrap();
            stream.expect_size(6 * MIB).unwrap();
            stream
        };
        let (mut stream, mut other) = (open(), open());
        let mut buffer = vec![0; 1 << 20];
        assert!(stream.read(&mut buffer).unwrap() > 0 && other.read(&mut buffer).unwrap() > 0);
        assert_eq!(cache.usage().unwrap().incomplete / MIB, 6);
        drop(stream);
        assert_eq!(cache.usage().unwrap().incomplete / MIB, 6, "another stream takes part");
        drop(other);
        let usage = cache.usage().unwrap();
        assert!(usage.incomplete > 0 && usage.incomplete < 5 * MIB && usage.reserved == 0, "{usage:?}");
        cache_image(&cache, "2", &mib(2));
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut open(), &mut read).unwrap();
        assert!(read == content);
        assert_eq!(read_image(&cache, "1"), content);
        assert!(allocated(&scratch.path()) <= 8 * MIB);
    }
}

/// A stream that is closed after so many bytes.
fn leave(cache: &ImageCache, id: &str, bytes: usize) {
    let source = move |_: u64, buffer: &mut [u8]| {
        buffer.fill(7);
        Ok(buffer.len())
    };
    let mut stream = cache.stream(id, source).unwrap();
    let (mut left, mut buffer) = (bytes, vec![0; 100_000]);
    while left > 0 {
        left = left.saturating_sub(stream.read(&mut buffer).unwrap());
    }
}
