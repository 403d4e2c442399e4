//! Evictions, their dry runs, and the limit, on both drivers.

mod common;

use common::{Cache, DRIVERS, program, run};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// Four images of 1 MiB; "1" was accessed first.
fn filled(driver: &'static str) -> Cache {
    let cache = Cache::new(driver);
    for id in ["1", "2", "3", "4"] {
        cache.add(id, &vec![b'x'; MIB]);
    }
    cache
}

fn evicted(plan: &Value) -> Vec<&str> {
    plan["evicted"].as_array().unwrap().iter().map(|image| image["id"].as_str().unwrap()).collect()
}

/// The images that a dry run names are those that go.
#[test]
fn a_dry_run_shows_what_the_eviction_then_does() {
    for driver in DRIVERS {
        for command in [
            ["prune", "--to", "2M"].as_slice(),
            &["prune", "--to", "2047K"],
            &["make-room", "4M", "--config", "conf"],
            &["limit", "set", "3M"],
        ] {
            let cache = filled(driver);
            common::file(&cache.beside("conf"), b"max-size = '6M'");
            cache.run(&["pin", "1"]).expect(0);
            let agent = cache.open();
            let reader = agent.open_for_read("2").unwrap();
            // The pin leaves 2, which is in use, 3 and 4.
            let dry = cache.json(&[command, &["--dry-run"]].concat());
            assert_eq!(dry["dry_run"], true);
            let would_go = evicted(&dry["plan"]);
            assert!(!would_go.is_empty(), "{command:?}: {dry}");
            assert_eq!(cache.ids(), ["1", "2", "3", "4"], "{command:?}");
            cache.run(command).expect(0);
            let left = cache.ids();
            let gone: Vec<_> =
                ["1", "2", "3", "4"].into_iter().filter(|id| !left.contains(&(*id).to_owned())).collect();
            assert_eq!(gone, would_go, "{command:?} with {driver}");
            drop(reader);
        }
    }
}

#[test]
fn prune_says_what_stays_and_what_is_missing() {
    for driver in DRIVERS {
        let cache = filled(driver);
        cache.run(&["pin", "1", "2"]).expect(0);
        let dry = cache.json(&["prune", "--to", "1M", "--dry-run"]);
        assert_eq!((&dry["plan"]["pinned"], &dry["missing"]), (&json!(2), &json!(MIB)));
        let pruned = cache.json(&["prune", "--to", "1M"]);
        assert_eq!(
            (&pruned["images"], &pruned["bytes"], &pruned["missing"]),
            (&json!(2), &json!(2 * MIB), &json!(MIB))
        );
        let text = cache.run(&["prune", "--to", "1M"]).expect(0).stdout;
        assert!(text.contains("The limit is missed by 1.00 MiB"), "{text}");
    }
}

#[test]
fn prune_without_a_limit_is_refused_and_evicts_nothing() {
    let cache = filled("sqlite");
    let refused = cache.run(&["prune"]).expect(2);
    assert!(refused.stderr.contains("has no limit") && refused.stderr.contains("--to"), "{refused:?}");
    assert_eq!(cache.ids().len(), 4);
}

#[test]
fn the_limit_of_the_configuration_holds_for_its_directory_only() {
    let cache = filled("sqlite");
    let other = filled("sqlite");
    let text = format!("directory = '{}'\nmax-size = '3M'\nmin-free = '1K,0%'\n", cache.directory().display());
    let config = common::file(&cache.beside("conf"), text.as_bytes());
    other.run(&["--config", &config, "prune"]).expect(2);
    assert_eq!(other.ids().len(), 4);
    let shown = run(program().args(["--config", &config, "limit", "--json"])).expect(0).json();
    assert_eq!((&shown["limit"], &shown["hard"], &shown["min_free"]), (&json!(3 * MIB), &json!(false), &json!(1024)));
    run(program().args(["--config", &config, "prune"])).expect(0);
    assert_eq!(cache.ids(), ["2", "3", "4"]);
    // A link to it is the same directory.
    std::os::unix::fs::symlink(cache.directory(), cache.beside("link")).unwrap();
    run(program().arg("-C").arg(cache.beside("link")).args(["--config", &config, "prune", "--to", "2M"])).expect(0);
    assert_eq!(cache.ids(), ["3", "4"]);
}

#[test]
fn room_that_cannot_be_made_evicts_nothing() {
    for driver in DRIVERS {
        let cache = filled(driver);
        cache.run(&["limit", "set", "8M"]).expect(0);
        for arguments in [["make-room", "9M"].as_slice(), &["make-room", "9M", "--dry-run"], &["make-room", "8E"]] {
            let refused = cache.run(arguments).expect(6);
            assert!(refused.stderr.contains("MiB") || refused.stderr.contains("EiB"), "{refused:?}");
            assert_eq!(cache.ids().len(), 4, "{arguments:?}");
        }
    }
}

#[test]
fn a_hard_limit_is_set_for_all_and_removed() {
    for driver in DRIVERS {
        let cache = filled(driver);
        let agent = cache.open();
        assert_eq!(cache.json(&["limit"])["limit"], Value::Null);
        let set = cache.json(&["limit", "set", "3M"]);
        assert_eq!((&set["limit"], &set["hard"]), (&json!(3 * MIB), &json!(true)));
        let usage = agent.usage().unwrap();
        assert!(usage.is_hard && usage.total() <= usage.limit, "{usage:?}");
        assert!(cache.ids().len() < 4);
        let text = cache.run(&["limit"]).expect(0).stdout;
        assert!(text.contains("3.00 MiB, hard"), "{text}");
        assert_eq!(cache.json(&["limit", "remove"])["hard"], false);
        assert!(!agent.usage().unwrap().is_hard);
    }
}
