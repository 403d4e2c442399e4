//! What operators' tools read and set: who has an image pinned or open, whether a handle is the only one, hits from elsewhere.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{DRIVERS, Scratch, cache_image, read_image};
use image_cache::{DriverChoice, Error};

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[test]
fn an_image_shows_who_has_it_pinned_and_until_when() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"hello");
        cache_image(&cache, "2", b"hello");
        assert_eq!(cache.pins("1").unwrap(), []);
        cache.pin("1", "boot set", Some(Duration::from_secs(60 * 60))).unwrap();
        cache.pin("1", b"\xff", None).unwrap();
        let mut pins = cache.pins("1").unwrap();
        pins.sort_by_key(|pin| pin.until);
        assert_eq!((pins[0].holder.as_slice(), pins[0].process), (b"boot set".as_slice(), None));
        assert!((now()..=now() + 3_600_000_000_000).contains(&pins[0].until), "{pins:?}");
        let life = Some(std::process::id());
        assert_eq!((pins[1].holder.as_slice(), pins[1].until, pins[1].process), (b"\xff".as_slice(), i64::MAX, life));
        assert_eq!((pins.len(), cache.pins("2").unwrap().len(), cache.pins("absent").unwrap().len()), (2, 0, 0));
        cache.unpin("1", "boot set").unwrap();
        assert_eq!(cache.pins("1").unwrap().len(), 1);
    }
}

#[test]
fn an_image_is_in_use_while_any_process_has_it_open() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    cache_image(&cache, "1", b"hello");
    assert!(!cache.is_in_use("1").unwrap());
    let reader = cache.open_for_read("1").unwrap();
    assert!(cache.is_in_use("1").unwrap());
    drop(reader);
    assert!(!cache.is_in_use("1").unwrap());
    // Another program, which has the file as its standard input.
    let file = std::fs::File::open(scratch.file("1")).unwrap();
    let mut other = Command::new("sleep").arg("60").stdin(Stdio::from(file)).spawn().unwrap();
    assert!(cache.is_in_use("1").unwrap());
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!cache.is_in_use("1").unwrap());
    assert!(matches!(cache.is_in_use("absent"), Err(Error::NotFound { .. })));
}

#[test]
fn a_handle_is_the_only_one_until_another_is_opened_and_works_after_the_question() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        assert!(cache.is_only_handle().unwrap());
        let other = scratch.open();
        assert!(!cache.is_only_handle().unwrap() && !other.is_only_handle().unwrap());
        cache_image(&other, "1", b"hello");
        drop(cache);
        assert!(other.is_only_handle().unwrap());
        assert_eq!(read_image(&scratch.open(), "1"), b"hello");
    }
}
