//! Subdirectories that other programs remove or replace under a live handle.

mod common;

use common::{DRIVERS, Scratch, cache_image};
use image_cache::DriverChoice;

#[test]
fn subdirectories_that_are_removed_under_a_live_handle_are_created_again() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let (cache, other) = (scratch.open(), scratch.open());
        let remove_all = || {
            for name in ["incomplete", "invalid", "queue"] {
                std::fs::remove_dir_all(scratch.file(name)).unwrap();
            }
        };
        remove_all();
        cache_image(&cache, "1", b"one");
        assert!(cache.queue_image("2").unwrap());
        let writer = cache.begin_write("3").unwrap();
        std::fs::remove_dir(scratch.file("invalid")).unwrap_or_default();
        writer.abort("tested");
        assert!(scratch.file("invalid/3").exists());
        // The other handle sees what this one created.
        assert!(other.is_queued("2").unwrap() && other.list_queued().unwrap().len() == 1);
        let writer = cache.begin_write("4").unwrap();
        assert!(other.is_being_cached("4").unwrap());
        drop(writer);
        remove_all();
        let elsewhere = scratch.file(".elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, scratch.file("incomplete")).unwrap();
        let refused = cache.begin_write("5").err().unwrap().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}

/// Another program replaces it, and the first queries after that meet at the handle.
#[test]
fn queries_beside_each_other_are_right_after_a_subdirectory_was_replaced() {
    const NAMES: usize = 10;
    const ROUNDS: usize = 4000;
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    let (new, queue) = (scratch.file(".new"), scratch.file("queue"));
    let barrier = std::sync::Barrier::new(4);
    let list_once = |round: usize| {
        barrier.wait();
        // Whoever comes first follows to the new directory, while the others look.
        let is_wrong = match round % 2 {
            0 => cache.list_queued().unwrap().len() != NAMES,
            _ => !cache.is_queued("0").unwrap(),
        };
        barrier.wait();
        usize::from(is_wrong)
    };
    let replace = || {
        std::fs::create_dir(&new).unwrap();
        for number in 0..NAMES {
            std::fs::write(new.join(number.to_string()), b"").unwrap();
        }
        std::fs::remove_dir_all(&queue).unwrap();
        std::fs::rename(&new, &queue).unwrap();
    };
    let wrong: usize = std::thread::scope(|scope| {
        let others = [(); 3].map(|()| scope.spawn(|| (0..ROUNDS).map(list_once).sum::<usize>()));
        let ours = (0..ROUNDS).map(|round| {
            replace();
            list_once(round)
        });
        ours.sum::<usize>() + others.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
    });
    assert_eq!(wrong, 0, "queries with another answer than that of the new directory");
}
