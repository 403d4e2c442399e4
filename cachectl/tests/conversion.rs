//! Conversions that fail, are killed, or run beside other processes lose no hits and remove nothing but the index.

mod common;

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Cache, DRIVERS, file, program, run};
use image_cache::{DriverChoice, ImageCache, Options};

const STORED: &str = ".image_cache/conversion";

/// A cache with an index of another name, and an image with 3 hits.
fn with_database(name: &str) -> Cache {
    let cache = Cache::absent("sqlite");
    let text = format!("directory = '{}'\ndatabase = '{name}'\n", cache.directory().display());
    let config = file(&cache.beside("conf"), text.as_bytes());
    run(program().args(["--config", &config, "create"])).expect(0);
    cache.add("1", b"hello");
    for _ in 0..3 {
        cache.run(&["export", "1", "-"]).expect(0);
    }
    cache
}

/// What a conversion from the SQLite index stores before it changes the driver.
fn stored(database: &str) -> String {
    format!(r#"{{"from": "sqlite", "database": "{database}", "images": [["1", 3, 1000000000], ["gone", 7, 0]]}}"#)
}

/// Changes the driver as a conversion does that is killed then.
fn switch(cache: &Cache) {
    let options = Options::new().driver(DriverChoice::Xattr).change_driver(true);
    drop(ImageCache::open(cache.directory(), options).unwrap());
    // The index without its name's meaning, as it is while the driver is xattr.
    assert!(cache.ids().contains(&"my.db".to_owned()));
}

#[test]
fn a_conversion_that_was_killed_after_the_change_of_the_driver_is_finished() {
    for to in ["xattr", "sqlite"] {
        let cache = with_database("my.db");
        fs::write(cache.directory().join(STORED), stored("my.db")).unwrap();
        switch(&cache);
        cache.run(&["clean"]).expect(0);
        if to == "xattr" {
            assert_eq!(cache.json(&["convert", to, "--dry-run"])["hits"], 10);
            assert!(cache.directory().join("my.db").exists());
        }
        cache.run(&["convert", to]).expect(0);
        assert_eq!(cache.json(&["status"])["driver"], to);
        assert_eq!(cache.ids(), ["1"]);
        assert_eq!(cache.json(&["list"])["images"][0]["hits"], 3);
        for name in ["my.db", "my.db-journal", STORED] {
            assert!(!cache.directory().join(name).exists(), "{name}");
        }
        cache.run(&["convert", to]).expect(2);
    }
}

#[test]
fn hits_since_the_change_of_the_driver_stay() {
    let cache = with_database("my.db");
    fs::write(cache.directory().join(STORED), stored("my.db").replace("3,", "1,")).unwrap();
    switch(&cache);
    for _ in 0..2 {
        cache.run(&["export", "1", "-"]).expect(0);
    }
    let before = cache.json(&["list"])["images"][0]["accessed_at"].clone();
    cache.run(&["convert", "xattr"]).expect(0);
    let image = cache.json(&["list"])["images"][0].clone();
    assert!(image["hits"].as_u64() >= Some(2), "{image}");
    assert_eq!(image["accessed_at"], before);
}

#[test]
fn a_conversion_that_was_killed_before_the_change_of_the_driver_counts_for_nothing() {
    let cache = with_database("my.db");
    fs::write(cache.directory().join(STORED), stored("my.db").replace("3,", "99,")).unwrap();
    cache.run(&["convert", "sqlite"]).expect(2);
    assert_eq!(cache.json(&["convert", "xattr"])["hits"], 3);
    assert_eq!(cache.json(&["list"])["images"][0]["hits"], 3);
    assert!(!cache.directory().join(STORED).exists());
}

#[test]
fn a_conversion_that_cannot_be_finished_is_finished_later() {
    let cache = with_database("my.db");
    let own = cache.directory().join(".image_cache");
    fs::write(own.join("conversion"), stored("my.db")).unwrap();
    switch(&cache);
    // The index cannot be removed.
    fs::create_dir(cache.directory().join("my.db-wal")).unwrap();
    let failed = cache.run(&["convert", "xattr"]).expect(1);
    assert!(failed.stderr.contains("my.db-wal") && failed.stderr.contains("Convert again"), "{failed:?}");
    assert_eq!(cache.json(&["status"])["driver"], "xattr");
    assert!(own.join("conversion").exists() && !own.join("conversion.new").exists());
    fs::remove_dir(cache.directory().join("my.db-wal")).unwrap();
    cache.run(&["convert", "xattr"]).expect(0);
    assert_eq!(cache.ids(), ["1"]);
    assert_eq!(cache.json(&["list"])["images"][0]["hits"], 3);
    cache.run(&["convert", "xattr"]).expect(2);
}

#[test]
fn a_conversion_leaves_no_trace_of_the_former_driver() {
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    for to in ["xattr", "sqlite", "xattr", "sqlite"] {
        cache.run(&["export", "1", "-"]).expect(0);
        cache.run(&["convert", to]).expect(0);
        let findings = cache.run(&["doctor", "--json"]).json()["findings"].clone();
        assert!(!findings.to_string().contains("IC046"), "{to}: {findings}");
    }
    assert_eq!(cache.json(&["list"])["images"][0]["hits"], 4);
}

#[test]
fn kills_lose_no_hits() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        for id in 0..20 {
            cache.add(&id.to_string(), b"hello");
        }
        for _ in 0..2 {
            cache.run(&["export", "7", "-"]).expect(0);
        }
        let (mut present, mut finished) = (driver, 0);
        for delay in 0..25 {
            let to = if present == "sqlite" { "xattr" } else { "sqlite" };
            let mut child =
                cache.command(&["convert", to]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(5 * delay));
            child.kill().unwrap();
            child.wait().unwrap();
            let again = cache.run(&["convert", to]);
            assert!([0, 2].contains(&again.code), "{again:?}");
            finished += u32::from(again.code == 0);
            let images = cache.json(&["list"])["images"].clone();
            let hits: u64 = images.as_array().unwrap().iter().map(|image| image["hits"].as_u64().unwrap()).sum();
            assert_eq!((hits, images.as_array().unwrap().len()), (2, 20), "killed after {delay}: {again:?}");
            assert!(!cache.directory().join(STORED).exists());
            present = to;
        }
        assert!(finished > 0);
    }
}

#[test]
fn a_conversion_is_whole_or_not_begun_beside_others() {
    let cache = Cache::new("sqlite");
    cache.add("1", b"hello");
    cache.run(&["export", "1", "-"]).expect(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let opened = ImageCache::open(cache.directory(), Options::new().driver(DriverChoice::XattrOrSqlite));
                thread::sleep(Duration::from_millis(3));
                drop(opened);
                thread::sleep(Duration::from_millis(6));
            }
        });
        let mut present = "sqlite";
        let (begin, mut converted) = (Instant::now(), 0);
        while converted < 10 && begin.elapsed() < Duration::from_secs(15) {
            let to = if present == "sqlite" { "xattr" } else { "sqlite" };
            let run = cache.run(&["convert", to]);
            if run.code == 0 {
                present = to;
                converted += 1;
            }
            let driver = cache.json(&["status"])["driver"].clone();
            if driver != present {
                is_over.store(true, Ordering::Relaxed);
            }
            assert_eq!(driver, present, "{run:?}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(cache.json(&["list"])["images"][0]["hits"], 1);
}

#[test]
fn a_name_in_another_directory_is_never_removed() {
    for name in ["../victim", "..", "incomplete/victim"] {
        let cache = with_database("my.db");
        let victim = file(&cache.beside("victim"), b"precious");
        fs::write(cache.directory().join("incomplete/victim"), "precious").unwrap();
        fs::write(cache.directory().join(STORED), stored(name)).unwrap();
        switch(&cache);
        let refused = cache.run(&["convert", "xattr"]).expect(1);
        assert!(refused.stderr.contains("conversion"), "{refused:?}");
        assert!(fs::read(&victim).is_ok() && cache.directory().join("incomplete/victim").exists());
    }
}

#[test]
fn a_record_that_is_replaced_during_a_conversion_names_nothing_to_remove() {
    let cache = with_database("my.db");
    let victim = file(&cache.beside("victim"), b"precious");
    let record = cache.directory().join(".image_cache/driver");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for text in ["sqlite my.db\n", "sqlite ../victim\n"] {
                    let new = file(&cache.beside("record"), text.as_bytes());
                    fs::rename(new, &record).unwrap();
                    thread::sleep(Duration::from_micros(500));
                }
            }
        });
        for _ in 0..60 {
            let _ = cache.run(&["convert", "xattr"]);
            let _ = fs::remove_file(cache.directory().join(STORED));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(&victim).unwrap_or_default(), b"precious");
}

#[test]
fn a_record_that_is_no_regular_file_neither_blocks_nor_leads_elsewhere() {
    let cache = Cache::new("sqlite");
    let record = cache.directory().join(".image_cache/driver");
    for is_fifo in [true, false] {
        fs::remove_file(&record).unwrap();
        if is_fifo {
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &record, fifo, 0o600.into(), 0).unwrap();
        } else {
            std::os::unix::fs::symlink(file(&cache.beside("elsewhere"), b"xattr\n"), &record).unwrap();
        }
        let mut child = cache.command(&["status"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                panic!("status blocks");
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(1));
    }
}
