//! Hits that a comparison of the index with the directory must not lose.

mod common;

use std::fs::File;
use std::time::{Duration, SystemTime};

use common::{DRIVERS, Scratch, cache_image, ids, read_image};
use image_cache::{Algorithm, DriverChoice};

const GLANCE_TABLE: &str = "CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, last_accessed REAL DEFAULT 0.0,
    last_modified REAL DEFAULT 0.0, size INTEGER DEFAULT 0, hits INTEGER DEFAULT 0, checksum TEXT);";

/// In UTF-16, SQLite orders ids by other bytes than those of file names.
#[test]
fn an_index_in_utf_16_keeps_its_hits() {
    // The first bytes of these letters have another order in each encoding.
    let images = ["a", "\u{e9}", "\u{100}", "\u{102}b", "\u{20ac}", "\u{ffee}", "\u{1f600}"];
    for encoding in ["UTF-16le", "UTF-16be"] {
        let scratch = Scratch::new(DriverChoice::Sqlite);
        std::fs::create_dir(scratch.path()).unwrap();
        for name in ["incomplete", "invalid", "queue"] {
            std::fs::create_dir(scratch.file(name)).unwrap();
        }
        let database = scratch.database();
        database.execute_batch(&format!("PRAGMA encoding = '{encoding}'; {GLANCE_TABLE}")).unwrap();
        for (hits, id) in (1..).zip(images) {
            std::fs::write(scratch.file(id), b"12345").unwrap();
            let row = "INSERT INTO cached_images (image_id, last_accessed, last_modified, size, hits) VALUES (?1, 1, 1, 5, ?2)";
            database.execute(row, (id, hits)).unwrap();
        }
        drop(database);
        let cache = scratch.open();
        for (hits, id) in (1..).zip(images) {
            assert_eq!(cache.hit_count(id).unwrap(), hits, "{id} in {encoding}");
        }
        cache.clean(None).unwrap();
        let listed: Vec<_> = cache.list_cached().unwrap().map(|image| (image.image_id, image.hits)).collect();
        let expected: Vec<_> = (1..).zip(images).map(|(hits, id)| (id.to_owned(), hits)).collect();
        assert_eq!(listed, expected, "in {encoding}: in the order of ids, which is that of the bytes");
        read_image(&cache, "\u{100}");
        drop(cache);
        let cache = scratch.open();
        assert_eq!((cache.hit_count("\u{100}").unwrap(), cache.cache_size().unwrap()), (4, 35), "{encoding}");
        assert!(!scratch.logged("damaged"), "{:?}", scratch.messages);
    }
}

/// An image with two hits and a digest, which `change` changes before a clean. Returns its hits, and whether it has its digest.
fn changed(driver: DriverChoice, change: impl FnOnce(&Scratch)) -> (u64, bool) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    writer.expect_digest(Algorithm::Md5, "5d41402abc4b2a76b9719d911017c592").unwrap();
    writer.write_chunk(b"hello").unwrap();
    writer.commit().unwrap();
    for _ in 0..2 {
        read_image(&cache, "1");
    }
    assert_eq!(cache.hit_count("1").unwrap(), 2);
    change(&scratch);
    cache.clean(None).unwrap();
    let image = cache.list_cached().unwrap().next().unwrap();
    cache_image(&cache, "2", b"goes on");
    assert_eq!(ids(&cache), ["1", "2"]);
    (image.hits, image.digest.is_some())
}

fn touch(scratch: &Scratch) {
    let file = File::options().write(true).open(scratch.file("1")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60 * 60)).unwrap();
}

#[test]
fn a_touched_image_with_a_digest_keeps_its_hits() {
    for driver in DRIVERS {
        assert_eq!(changed(driver, touch), (2, true), "{driver:?}");
        let twice = |scratch: &Scratch| {
            touch(scratch);
            touch(scratch);
        };
        assert_eq!(changed(driver, twice), (2, true), "{driver:?}");
    }
}

/// The digest was that of other bytes.
#[test]
fn an_image_of_another_length_with_a_digest_keeps_its_hits_only() {
    let append = |scratch: &Scratch| {
        let file = File::options().append(true).open(scratch.file("1")).unwrap();
        std::io::Write::write_all(&mut &file, b" and more").unwrap();
        touch(scratch);
    };
    assert_eq!(changed(DriverChoice::Sqlite, append), (2, false));
}

#[test]
fn a_replaced_image_with_a_digest_loses_both() {
    let replace = |scratch: &Scratch| {
        std::fs::write(scratch.file(".new"), b"world").unwrap();
        std::fs::rename(scratch.file(".new"), scratch.file("1")).unwrap();
    };
    for driver in DRIVERS {
        assert_eq!(changed(driver, replace), (0, false), "{driver:?}");
    }
}

/// So that a hit never takes much longer than another one.
#[test]
fn a_reader_writes_the_hits_of_64_images_at_most_and_the_next_ones_the_rest() {
    const IMAGES: usize = 640;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        let names: Vec<_> = (0..IMAGES).map(|number| number.to_string()).collect();
        for name in &names {
            cache_image(&cache, name, b"x");
        }
        let written = || other.list_cached().unwrap().map(|image| image.hits).sum::<u64>();
        let (first, rest) = names.split_at(500);
        for name in first {
            read_image(&cache, name);
        }
        let mut before = written();
        for name in rest {
            read_image(&cache, name);
            let now = written();
            assert!(now - before <= 64, "{driver:?}: {} hits were written by one reader", now - before);
            before = now;
        }
        assert!(before > 64, "{driver:?}: readers wrote {before} hits");
        drop(cache);
        assert_eq!(written(), IMAGES as u64, "{driver:?}");
    }
}
