//! The index and the drivers: entries and files that do not fit, damage, foreign databases, and traces of another driver.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};

use image_cache::DriverChoice;
use libtest_mimic::Completion;
use rusqlite::Connection;

use crate::Test;
use crate::cache::{Cache, NOBODY};

pub const TESTS: &[(&str, bool, Test)] = &[
    ("images_without_an_entry", false, orphans),
    ("entries_without_an_image", false, phantoms),
    ("traces_of_the_other_driver", false, second_driver),
    ("half_a_conversion", false, half_converted),
    ("images_of_another_length", false, wrong_length),
    ("an_index_that_may_not_be_read", true, not_compared),
];

/// The xattr driver has no index.
pub const OF_SQLITE: &[(&str, bool, Test)] = &[
    ("entries_with_another_size", false, resized),
    ("a_damaged_index", false, damaged),
    ("an_index_of_a_newer_version", false, newer),
    ("another_programs_database", false, foreign),
    ("an_index_without_room_for_a_copy", false, large),
];

/// Changes the index as another program does.
fn execute(cache: &Cache, sql: &str) {
    let connection = Connection::open(cache.file("cache.db")).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// Finds one thing, repairs it, and finds nothing any more.
fn found_and_fixed(cache: &Cache, number: &'static str, item: &str) -> Completion {
    let found = cache.doctor(&[]);
    found.assert_only(&[number]);
    assert!(found.items(number).contains(item), "{:#}", found.json);
    let fixed = cache.doctor(&["--fix"]);
    fixed.assert_only(&[]);
    assert_eq!(fixed.fixed(), [number]);
    Completion::Completed
}

fn orphans(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    if cache.is_sqlite() {
        execute(&cache, "DELETE FROM cached_images WHERE image_id = 'two'");
        return found_and_fixed(&cache, "IC040", "two");
    }
    // Its images need no entry.
    cache.write("three", "another program's");
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn phantoms(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    fs::remove_file(cache.file("one")).unwrap();
    if cache.is_sqlite() {
        return found_and_fixed(&cache, "IC041", "one");
    }
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn resized(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    execute(&cache, "UPDATE cached_images SET size = 7 WHERE image_id = 'one'");
    found_and_fixed(&cache, "IC042", "one")
}

fn damaged(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let mut file = fs::OpenOptions::new().write(true).open(cache.file("cache.db")).unwrap();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&[0x5a; 12_288]).unwrap();
    found_and_fixed(&cache, "IC043", "cache.db")
}

fn newer(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    execute(&cache, "PRAGMA user_version = 99");
    let examined = cache.doctor(&["--fix"]);
    examined.assert_only(&["IC044"]);
    assert!(examined.items("IC044").contains("version 99") && examined.json["not_fixed"].is_string());
    Completion::Completed
}

fn foreign(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    for sql in ["CREATE TABLE letters (text TEXT)", "CREATE TABLE cached_images (picture BLOB)"] {
        fs::remove_file(cache.file("cache.db")).unwrap();
        execute(&cache, sql);
        let before = fs::read(cache.file("cache.db")).unwrap();
        let examined = cache.doctor(&["--fix"]);
        assert!(examined.numbers().contains(&"IC045"), "{:#}", examined.json);
        assert_eq!(fs::read(cache.file("cache.db")).unwrap(), before);
    }
    Completion::Completed
}

fn second_driver(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let other = if cache.is_sqlite() { DriverChoice::Xattr } else { DriverChoice::Sqlite };
    drop(image_cache::ImageCache::open(&cache.path, cache.options().driver(other).change_driver(true)).unwrap());
    let found = cache.doctor(&[]).items("IC046");
    if cache.is_sqlite() {
        assert!(found.contains("cache.db: an index"), "{found}");
    } else {
        assert!(found.contains("one: has user.hits"), "{found}");
    }
    // A database of another name is an image.
    let cache = Cache::new(driver);
    Connection::open(cache.file("old.db")).unwrap().execute_batch("CREATE TABLE cached_images (image_id)").unwrap();
    assert!(cache.doctor(&[]).items("IC046").contains("old.db: a SQLite database"));
    Completion::Completed
}

fn half_converted(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let stored = |from: &str| format!(r#"{{"from": "{from}", "database": null, "images": [["one", 3, 0]]}}"#);
    let (present, former) = if cache.is_sqlite() { ("sqlite", "xattr") } else { ("xattr", "sqlite") };
    fs::write(cache.file(".image_cache/conversion"), stored(former)).unwrap();
    cache.doctor(&[]).assert_only(&["IC049"]);
    // One that was not begun.
    fs::write(cache.file(".image_cache/conversion"), stored(present)).unwrap();
    cache.doctor(&[]).assert_only(&[]);
    fs::write(cache.file(".image_cache/conversion"), "{").unwrap();
    cache.doctor(&[]).assert_only(&["IC049"]);
    Completion::Completed
}

fn wrong_length(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    fs::OpenOptions::new().append(true).open(cache.file("one")).unwrap().write_all(b"more").unwrap();
    let examined = cache.doctor(&[]);
    assert!(examined.items("IC047").contains("one: 21 bytes, 17 at the commit"));
    Completion::Completed
}

fn not_compared(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let numbers = cache.doctor(&["--user", NOBODY]);
    assert_eq!(numbers.numbers().contains(&"IC048"), cache.is_sqlite());
    Completion::Completed
}

/// A sparse file of another program, which a copy would fill the disk with.
fn large(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    fs::OpenOptions::new().write(true).open(cache.file("cache.db")).unwrap().set_len(5 << 40).unwrap();
    let examined = cache.doctor(&[]);
    let message = examined.items("IC048");
    assert!(message.contains("its files have 5.00 TiB") && message.contains("may have"), "{message}");
    Completion::Completed
}
