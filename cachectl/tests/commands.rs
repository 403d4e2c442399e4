//! What each command does, on both drivers.

mod common;

use std::fs;
use std::time::Duration;

use common::{Cache, DRIVERS, file};
use serde_json::{Value, json};

/// SHA-256 and MD5 of "hello".
const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const MD5: &str = "5d41402abc4b2a76b9719d911017c592";

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|image| image["id"].as_str().unwrap()).collect()
}

#[test]
fn create_makes_one_cache_and_no_second_one() {
    for driver in DRIVERS {
        let cache = Cache::absent(driver);
        let created = cache.json(&["--driver", driver, "create", "--limit", "1G"]);
        assert_eq!((&created["driver"], &created["limit"]), (&json!(driver), &json!(1 << 30)));
        assert_eq!(cache.json(&["limit", "show"])["hard"], true);
        let again = cache.run(&["create"]).expect(4);
        assert!(again.stderr.contains("has a cache already"), "{again:?}");
    }
}

#[test]
fn a_file_and_stdin_are_added_with_their_digests() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        let path = file(&cache.beside("hello"), b"hello");
        let added = cache.json(&["add", "file", &path, "--digest", SHA256, "--digest", &format!("md5:{MD5}")]);
        assert_eq!(added["image"]["digest"], format!("sha256:{SHA256}"));
        assert_eq!(added["image"]["size"], 5);
        cache.run_with(&["add", "stdin", "--size", "5", "--digest", MD5], b"hello").expect(0);
        cache.run_with(&["add", "without-digest", "-"], b"hello").expect(0);
        let shown = cache.json(&["show", "without-digest"]);
        assert!(shown["cached"]["digest"].as_str().unwrap().starts_with("crc64nvme:"), "{shown}");
        assert_eq!(cache.ids(), ["file", "stdin", "without-digest"]);
        cache.run(&["add", "file", &path]).expect(4);
    }
}

#[test]
fn other_bytes_than_expected_are_not_cached() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.run_with(&["add", "digest", "--digest", MD5], b"HELLO").expect(5);
        cache.run_with(&["add", "size", "--size", "6"], b"hello").expect(5);
        cache.run_with(&["add", "format", "--formats", "qcow2"], b"hello").expect(5);
        cache.run_with(&["add", "empty"], b"").expect(5);
        assert!(cache.ids().is_empty());
        let invalid = cache.json(&["list", "--invalid"]);
        assert_eq!(ids(&invalid["invalid"]), ["digest", "empty", "format", "size"]);
        assert!(invalid["invalid"][0]["reason"].as_str().unwrap().contains(MD5), "{invalid}");
        cache.run_with(&["add", "empty", "--size", "0"], b"").expect(0);
        assert_eq!(cache.ids(), ["empty"]);
    }
}

#[test]
fn images_are_listed_in_each_order() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        for (id, length) in [("b", 3), ("c", 1), ("a", 2)] {
            cache.add(id, &vec![b'x'; length]);
        }
        let listed = |arguments: &[&str]| cache.run(&[&["list", "-q"], arguments].concat()).expect(0).stdout;
        assert_eq!(listed(&[]), "a\nb\nc\n");
        assert_eq!(listed(&["--sort", "size"]), "b\na\nc\n");
        assert_eq!(listed(&["--sort", "cached"]), "b\nc\na\n");
        cache.run(&["export", "b", "-"]).expect(0);
        assert_eq!(listed(&["--sort", "accessed"]), "c\na\nb\n");
        assert_eq!(listed(&["--sort", "hits", "--first", "1"]), "b\n");
        assert_eq!(listed(&["--reverse", "--first", "2"]), "c\nb\n");
        let table = cache.run(&["list"]).expect(0).stdout;
        assert!(table.starts_with("IMAGE") && table.ends_with("3 images, 6 B\n"), "{table}");
    }
}

#[test]
fn an_image_that_is_being_cached_shows_its_process() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        let agent = cache.open();
        let mut writer = agent.begin_write("1").unwrap();
        writer.write_chunk(b"hello").unwrap();
        let list = cache.json(&["list", "--incomplete"]);
        let image = &list["incomplete"][0];
        assert_eq!((&image["id"], &image["size"], &image["holder"]), (&json!("1"), &json!(5), &json!("writer")));
        assert_eq!(image["process"], std::process::id());
        assert_eq!(cache.json(&["show", "1"])["state"], "incomplete");
        assert_eq!(cache.json(&["status"])["incomplete"]["images"], 1);
        cache.run_with(&["add", "1"], b"hello").expect(4);
        writer.commit().unwrap();
        assert_eq!(cache.json(&["show", "1"])["state"], "cached");
    }
}

#[test]
fn an_image_shows_its_pins_and_whether_it_is_in_use() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("1", b"hello");
        cache.run(&["pin", "1", "--for", "2h"]).expect(0);
        cache.run(&["pin", "1", "--holder", "boot storm"]).expect(0);
        let agent = cache.open();
        let reader = agent.open_for_read("1").unwrap();
        let shown = cache.json(&["show", "1"])["cached"].clone();
        assert_eq!((&shown["in_use"], &shown["pinned"]), (&json!(true), &json!(true)));
        let holders: Vec<_> = shown["pins"].as_array().unwrap().iter().map(|pin| &pin["holder"]).collect();
        assert_eq!(holders, ["image-cachectl", "boot storm"]);
        assert!(shown["pins"][0]["until"].is_string() && shown["pins"][1]["until"].is_null(), "{shown}");
        drop(reader);
        assert_eq!(cache.json(&["show", "1"])["cached"]["in_use"], false);
        assert_eq!(cache.json(&["status"])["pinned"], cache.json(&["show", "1"])["cached"]["allocated"]);
    }
}

#[test]
fn a_pinned_image_stays_until_each_holder_has_unpinned_it() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("1", b"hello");
        cache.run(&["pin", "1"]).expect(0);
        cache.run(&["pin", "1", "--holder", "other", "--for", "1d"]).expect(0);
        let kept = cache.run(&["delete", "1"]).expect(4);
        assert!(kept.stderr.contains("'image-cachectl' until it is unpinned, by 'other' until 2"), "{kept:?}");
        assert_eq!(
            cache.json(&["unpin", "1", "--all-holders", "-n"])["unpinned"][0]["holders"].as_array().unwrap().len(),
            2
        );
        cache.run(&["unpin", "1"]).expect(0);
        let other = cache.run(&["unpin", "1"]).expect(3);
        assert!(other.stderr.contains("It is pinned by 'other'"), "{other:?}");
        cache.run(&["delete", "1"]).expect(4);
        cache.run(&["unpin", "1", "--all-holders"]).expect(0);
        cache.run(&["delete", "1"]).expect(0);
        assert!(cache.ids().is_empty());
        cache.run(&["pin", "1"]).expect(3);
    }
}

#[test]
fn an_export_is_the_image_and_replaces_a_file_only_by_force() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        cache.add("1", &bytes);
        let target = cache.beside("out");
        let path = target.to_str().unwrap();
        assert_eq!(cache.json(&["export", "1", path])["size"], bytes.len());
        assert_eq!(fs::read(&target).unwrap(), bytes);
        fs::write(&target, b"mine").unwrap();
        let refused = cache.run(&["export", "1", path]).expect(4);
        assert!(refused.stderr.contains("--force"), "{refused:?}");
        assert_eq!(fs::read(&target).unwrap(), b"mine");
        cache.run(&["export", "1", path, "--force", "--reflink", "never"]).expect(0);
        assert_eq!(fs::read(&target).unwrap(), bytes);
        cache.run(&["export", "1", "."]).expect(0);
        assert_eq!(fs::read(cache.beside("1")).unwrap(), bytes);
        let output = cache.command(&["export", "1", "-"]).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes);
        cache.run(&["export", "absent", "absent"]).expect(3);
        assert!(!cache.beside("absent").exists());
        // Nothing is left of parts.
        let mut names: Vec<_> =
            fs::read_dir(cache.scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["1", "cache", "out"]);
    }
}

#[test]
fn the_queue_is_filled_and_emptied() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("cached", b"hello");
        let added = cache.json(&["queue", "add", "1", "2", "1", "cached"]);
        let states: Vec<_> = added["images"].as_array().unwrap().iter().map(|image| &image["state"]).collect();
        assert_eq!(states, ["queued", "queued", "queued_before", "cached"]);
        assert_eq!(ids(&cache.json(&["queue"])["images"]), ["1", "2"]);
        assert_eq!(cache.run(&["queue", "list", "-q"]).expect(0).stdout, "1\n2\n");
        assert_eq!(cache.json(&["show", "1"])["state"], "queued");
        assert_eq!(cache.json(&["queue", "remove", "--all", "--dry-run"])["removed"], json!(["1", "2"]));
        cache.run(&["queue", "remove", "1", "absent"]).expect(3);
        assert_eq!(ids(&cache.json(&["queue", "list"])["images"]), ["2"]);
        cache.run(&["queue", "remove", "--all"]).expect(0);
        assert_eq!(cache.run(&["queue", "list"]).expect(0).stdout, "No image is queued.\n");
    }
}

#[test]
fn a_dry_deletion_deletes_nothing_and_an_image_in_use_can_be_left() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("1", b"hello");
        cache.add("2", b"hello!");
        let agent = cache.open();
        let reader = agent.open_for_read("1").unwrap();
        let dry = cache.run(&["delete", "--all", "--unused", "--dry-run", "--json"]).expect(4).json();
        assert_eq!((ids(&dry["deleted"]), ids(&dry["failed"]), &dry["bytes"]), (vec!["2"], vec!["1"], &json!(6)));
        assert_eq!(cache.ids(), ["1", "2"]);
        cache.run(&["delete", "--all", "--unused"]).expect(4);
        assert_eq!(cache.ids(), ["1"]);
        cache.run(&["delete", "1", "absent"]).expect(3);
        assert!(cache.ids().is_empty());
        drop(reader);
    }
}

#[test]
fn verify_finds_a_damaged_image_and_moves_it_away() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("good", b"hello");
        cache.add("bad", b"hello");
        let intact = cache.json(&["verify", "--rate", "1G/s"]);
        assert_eq!((&intact["intact"], &intact["bytes_read"]), (&json!(2), &json!(10)));
        assert_eq!(cache.json(&["verify", "--skip", "1h"])["skipped"], 2);
        let path = cache.directory().join("bad");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let damaged = fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&damaged, b"H", 0).unwrap();
        damaged.set_modified(modified).unwrap();
        drop(damaged);
        let found = cache.run(&["verify", "--json"]).expect(5).json();
        assert_eq!((&found["intact"], &found["damaged"]), (&json!(1), &json!(1)));
        assert_eq!(found["damaged_images"].as_array().unwrap().len(), 1, "{found}");
        assert_eq!(cache.ids(), ["good"]);
        assert_eq!(cache.json(&["stats"])["found_damaged"], 1);
        cache.run(&["verify", "good"]).expect(0);
        cache.run(&["verify", "bad"]).expect(3);
    }
}

#[test]
fn clean_removes_what_failed_after_a_dry_run_that_removes_nothing() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.run_with(&["add", "failed", "--size", "1"], b"hello").expect(5);
        let agent = cache.open();
        let writer = agent.begin_write("live").unwrap();
        let dry = cache.json(&["clean", "--dry-run"]);
        assert_eq!((ids(&dry["files"]), &dry["removed"]), (vec!["failed"], &json!(1)));
        let stalled = cache.json(&["clean", "--dry-run", "--stall-time", "0"]);
        assert_eq!(ids(&stalled["files"]), ["failed", "live"]);
        assert_eq!(cache.json(&["status"])["invalid"]["images"], 1);
        assert_eq!(cache.json(&["clean"])["removed"], 1);
        assert_eq!(cache.json(&["status"])["invalid"]["images"], 0);
        writer.abort("the test ends");
    }
}

#[test]
fn the_statistics_are_those_of_all_processes() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("1", b"hello");
        cache.run(&["export", "1", "-"]).expect(0);
        cache.run_with(&["add", "2", "--size", "1"], b"hello").expect(5);
        let stats = cache.json(&["stats"]);
        assert_eq!((&stats["hits"], &stats["commits"], &stats["bytes_served"]), (&json!(1), &json!(1), &json!(5)));
        assert_eq!(stats["failures"]["wrong_size"], 1);
        let text = cache.run(&["stats"]).expect(0).stdout;
        assert!(text.contains("wrong size  1"), "{text}");
    }
}

#[test]
fn a_conversion_keeps_hits_and_order_and_is_refused_beside_an_agent() {
    for driver in DRIVERS {
        let other = if driver == "sqlite" { "xattr" } else { "sqlite" };
        let cache = Cache::new(driver);
        for id in ["1", "2", "3"] {
            cache.add(id, b"hello");
        }
        for id in ["1", "1", "2"] {
            cache.run(&["export", id, "-"]).expect(0);
        }
        let agent = cache.open();
        let busy = cache.run(&["convert", other]).expect(4);
        assert!(busy.stderr.contains("Stop the agents"), "{busy:?}");
        drop(agent);
        let before = cache.json(&["list"]);
        assert_eq!(cache.json(&["convert", other, "--dry-run"])["hits"], 3);
        assert_eq!(cache.json(&["status"])["driver"], driver);
        for to in [other, driver] {
            assert_eq!(cache.json(&["convert", to])["hits"], 3);
            assert_eq!(cache.json(&["status"])["driver"], to);
            assert_eq!(cache.json(&["list"]), before);
            assert_eq!(cache.run(&["list", "-q", "--sort", "accessed"]).stdout, "3\n1\n2\n");
            assert_eq!(cache.directory().join("cache.db").exists(), to == "sqlite");
        }
        // One more hit: those that the other driver has already are not counted twice.
        cache.run(&["export", "1", "-"]).expect(0);
        cache.run(&["convert", other]).expect(0);
        let hits = |image: &Value| image["hits"].as_u64().unwrap();
        let listed = cache.json(&["list"]);
        assert_eq!(listed["images"].as_array().unwrap().iter().map(hits).collect::<Vec<_>>(), [3, 1, 0]);
        cache.run(&["convert", other]).expect(2);
    }
}

#[test]
fn a_signal_stops_an_addition_and_leaves_no_writer() {
    let cache = Cache::new("sqlite");
    let mut child = cache
        .command(&["add", "1"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let agent = cache.open();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !agent.is_being_cached("1").unwrap() {
        assert!(std::time::Instant::now() < deadline, "the image is not begun");
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    // Twice, as timeout(1) does.
    assert!(std::process::Command::new("kill").args(["-INT", &pid, &pid]).status().unwrap().success());
    // Its stdin stays open: only the signal ends it.
    let stdin = child.stdin.take();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if std::time::Instant::now() < deadline => std::thread::yield_now(),
            None => {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
        }
    };
    assert_eq!(status.code(), Some(130));
    drop(stdin);
    assert_eq!(ids(&cache.json(&["list", "--invalid"])["invalid"]), ["1"]);
    cache.add("1", b"hello");
}
