//! Files that have another length than at their commit: they are not served.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use image_cache::{Error, Verified};

use crate::common::{DRIVERS, Scratch, age, cache_image, files, ids, read_image, take_cache_lock};
use crate::{all, one, reason};

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
        let lock = take_cache_lock(&scratch.path());
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
        age(&scratch.file("touched"), Duration::from_secs(5 * 60 * 60));
        assert_eq!((read_image(&cache, "touched").len(), read_image(&cache, "Glance's").len()), (9, 5));
        assert_eq!(all(&cache), Verified { verified: 1, without_digest: 1, bytes_read: 14, ..Verified::default() });
    }
}
