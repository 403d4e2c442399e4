//! `take-over`: hits and last accesses that another program counted.

mod common;

use common::{Cache, DRIVERS, file};
use serde_json::json;

const LINES: &str = "2\t7\t2026-01-02 03:04:05.678901\n1\t0\t2026-01-02 03:04:06\n\nabsent\t5\t2026-01-01 00:00:00\n";

#[test]
fn images_get_the_hits_and_accesses_of_their_lines() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        for id in ["1", "2", "3"] {
            cache.add(id, b"hello");
        }
        let lines = file(&cache.beside("lines"), LINES.as_bytes());
        let taken_over = cache.run(&["take-over", &lines, "--dry-run"]).expect(0);
        let text = "2 images would get hits (7) and last accesses\n1 line of an image that is not cached: skipped\n\
                    1 image without a line: as before\n";
        assert_eq!((taken_over.stdout.as_str(), taken_over.stderr.as_str()), (text, ""));
        assert_eq!(cache.json(&["show", "2"])["cached"]["hits"], 0, "nothing was changed");
        // A second time, it changes nothing.
        for _ in 0..2 {
            let taken_over = cache.run_with(&["take-over", "-", "--json"], LINES.as_bytes()).expect(0).json();
            let expected =
                json!({"dry_run": false, "images": 2, "hits": 7, "not_cached": ["absent"], "without_line": 1});
            assert_eq!(taken_over, expected, "{driver}");
        }
        let image = cache.json(&["show", "2"])["cached"].clone();
        assert_eq!((&image["hits"], &image["accessed_at"]), (&json!(7), &json!("2026-01-02T03:04:05Z")), "{driver}");
        // They decide what is evicted.
        cache.run(&["prune", "--to", "10"]).expect(0);
        assert_eq!(cache.ids(), ["1", "3"], "{driver}");
        cache.run(&["prune", "--to", "5"]).expect(0);
        assert_eq!(cache.ids(), ["3"], "{driver}");
    }
}

#[test]
fn input_with_a_wrong_line_changes_nothing() {
    for driver in DRIVERS {
        let cache = Cache::new(driver);
        cache.add("1", b"hello");
        let wrong = cache.run_with(&["take-over", "-"], b"1\t7\t2026-01-02 03:04:05\n1 7 0\n").expect(2);
        assert!(wrong.stderr.contains("line 2: it must have an id, hits and a last access"), "{wrong:?}");
        cache.run_with(&["take-over", "-"], b"1\t7\t\xff\n").expect(1);
        cache.run(&["take-over", "absent"]).expect(1);
        assert_eq!(cache.json(&["show", "1"])["cached"]["hits"], 0);
    }
}
