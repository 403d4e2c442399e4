//! Recovery after crashes and changes by other programs: the index is rebuilt from the directory.

mod common;

use common::{DRIVERS, Scratch, cache_image, files, ids, read_image, take_cache_lock};
use image_cache::{Algorithm, DriverChoice, DriverKind, Error, Options};

const SQLITE: DriverChoice = DriverChoice::Sqlite;

#[test]
fn files_without_rows_are_adopted_at_the_next_open() {
    let scratch = Scratch::new(SQLITE);
    cache_image(&scratch.open(), "1", b"known");
    std::fs::write(scratch.file("2"), b"an orphan").unwrap();
    let cache = scratch.open();
    assert_eq!(ids(&cache), ["1", "2"]);
    assert_eq!(cache.cache_size().unwrap(), 14);
    assert!(scratch.logged("1 images adopted"));
}

#[test]
fn rows_without_files_are_dropped_at_the_next_open() {
    let scratch = Scratch::new(SQLITE);
    {
        let cache = scratch.open();
        cache_image(&cache, "1", b"one");
        cache_image(&cache, "2", b"two");
    }
    std::fs::remove_file(scratch.file("1")).unwrap();
    let cache = scratch.open();
    assert_eq!(ids(&cache), ["2"]);
    assert_eq!(cache.cache_size().unwrap(), 3);
}

#[test]
fn an_orphan_under_a_live_handle_is_adopted_when_it_is_read_and_can_be_pruned() {
    let scratch = Scratch::new(SQLITE);
    let cache = scratch.open_with(scratch.options.clone().max_size(0));
    std::fs::write(scratch.file("1"), b"orphan").unwrap();
    assert_eq!(read_image(&cache, "1"), b"orphan");
    assert_eq!(cache.hit_count("1").unwrap(), 1);
    assert_eq!(cache.cache_size().unwrap(), 6);
    assert_eq!(cache.prune().unwrap().images, 1);
    assert!(!cache.is_cached("1").unwrap());
}

#[test]
fn a_row_whose_file_vanished_under_a_live_handle_is_replaced_by_a_new_image() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"old and long");
        read_image(&cache, "1");
        std::fs::remove_file(scratch.file("1")).unwrap();
        cache_image(&cache, "1", b"new");
        assert_eq!(cache.cache_size().unwrap(), 3);
        assert_eq!(cache.hit_count("1").unwrap(), 0);
    }
}

#[test]
fn opening_an_image_whose_file_vanished_removes_it_from_the_totals() {
    let scratch = Scratch::new(SQLITE);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    std::fs::remove_file(scratch.file("1")).unwrap();
    assert!(matches!(cache.open_for_read("1"), Err(Error::NotFound { occupied: false, .. })));
    assert_eq!(cache.cache_size().unwrap(), 0);
}

/// A process that dies between the two steps of a change leaves a file without its row, or a row without its file.
#[test]
fn an_unfinished_change_of_a_dead_process_is_reconciled_under_a_live_handle() {
    let scratch = Scratch::new(SQLITE);
    let live = scratch.open();
    cache_image(&live, "kept", b"kept");
    cache_image(&live, "removed", b"removed");
    read_image(&live, "kept");
    std::fs::write(scratch.file("new"), b"new image").unwrap();
    std::fs::remove_file(scratch.file("removed")).unwrap();
    // A change through the live handle must not hide them.
    cache_image(&live, "later", b"later");
    assert_eq!(live.cache_size().unwrap(), 18);
    assert_eq!(ids(&live), ["kept", "later", "new"]);
    assert_eq!(live.hit_count("kept").unwrap(), 1);
}

#[test]
fn each_driver_sees_the_other_drivers_changes() {
    let scratch = Scratch::new(SQLITE);
    let sqlite = scratch.open();
    let xattr = scratch.open_with(scratch.options.clone().driver(DriverChoice::Xattr).change_driver(true));
    cache_image(&xattr, "1", b"one");
    cache_image(&sqlite, "2", b"two");
    xattr.delete_cached_image("2").unwrap();
    drop(xattr);
    assert_eq!(ids(&sqlite), ["1"]);
    assert_eq!(sqlite.cache_size().unwrap(), 3);
    drop(sqlite);
    assert_eq!(ids(&scratch.open_with(scratch.options.clone().change_driver(true))), ["1"]);
}

#[test]
fn an_index_that_is_damaged_under_a_live_handle_is_rebuilt() {
    let scratch = Scratch::new(SQLITE);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    // dd runs as another process: closing a second descriptor in this one would drop SQLite's POSIX locks.
    for file in ["cache.db", "cache.db-wal"] {
        let target = format!("of={}", scratch.file(file).display());
        let dd = ["if=/dev/urandom", &target, "bs=64K", "count=1", "conv=notrunc", "status=none"];
        assert!(std::process::Command::new("dd").args(dd).status().unwrap().success());
    }
    std::fs::write(scratch.file("2"), b"123").unwrap();
    let size = cache.cache_size().unwrap();
    assert_eq!(size, 8);
}

#[test]
fn a_damaged_index_is_rebuilt_from_the_directory() {
    for (name, damage) in [
        ("random bytes", (0..8192_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>()),
        ("an empty file", Vec::new()),
        ("text", b"this is not a database, it is a text file that an operator put here by mistake".to_vec()),
    ] {
        let scratch = Scratch::new(SQLITE);
        cache_image(&scratch.open(), "1", b"survives");
        std::fs::write(scratch.file("cache.db"), &damage).unwrap();
        let cache = scratch.open();
        assert_eq!(ids(&cache), ["1"], "{name}");
        assert_eq!(cache.cache_size().unwrap(), 8, "{name}");
        assert_eq!(read_image(&cache, "1"), b"survives", "{name}");
        cache_image(&cache, "2", b"works again");
    }
}

#[test]
fn an_index_with_a_damaged_page_is_rebuilt_from_the_directory() {
    let scratch = Scratch::new(SQLITE);
    {
        let cache = scratch.open();
        for number in 0..100 {
            cache_image(&cache, &format!("image-{number:03}"), b"0123456789");
        }
    }
    let mut bytes = std::fs::read(scratch.file("cache.db")).unwrap();
    let (_, pages) = bytes.split_at_mut(4096);
    pages.fill(0x5a);
    std::fs::write(scratch.file("cache.db"), &bytes).unwrap();
    // A new name changes the directory, as a restore from a backup does.
    std::fs::write(scratch.file(".touch"), b"").unwrap();
    let cache = scratch.open();
    assert_eq!(ids(&cache).len(), 100);
    assert_eq!(cache.cache_size().unwrap(), 1000);
}

#[test]
fn an_index_of_a_newer_version_is_refused_and_left_as_it_is() {
    let scratch = Scratch::new(SQLITE);
    cache_image(&scratch.open(), "1", b"x");
    scratch.database().execute_batch("PRAGMA user_version = 2; PRAGMA journal_mode = DELETE;").unwrap();
    let before = std::fs::read(scratch.file("cache.db")).unwrap();
    let refused = image_cache::ImageCache::open(scratch.path(), scratch.options.clone());
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    assert_eq!(std::fs::read(scratch.file("cache.db")).unwrap(), before);
}

#[test]
fn wrong_rows_are_corrected_at_the_next_open() {
    let scratch = Scratch::new(SQLITE);
    {
        let cache = scratch.open();
        for id in ["1", "2", "3"] {
            cache_image(&cache, id, b"12345");
        }
    }
    scratch
        .database()
        .execute_batch(
            "UPDATE cached_images SET size = -7, hits = -1 WHERE image_id = '1';
             UPDATE cached_images SET size = 9223372036854775807, last_accessed = 'never' WHERE image_id = '2';
             UPDATE cached_images SET last_accessed = NULL, last_modified = NULL, hits = 'many' WHERE image_id = '3';
             INSERT INTO cached_images (image_id, size) VALUES ('../../etc/passwd', 1), ('', 2), (NULL, 3), ('queue', 4);",
        )
        .unwrap();
    let cache = scratch.open_with(scratch.options.clone().max_size(5));
    assert_eq!(ids(&cache), ["1", "2", "3"]);
    assert_eq!(cache.cache_size().unwrap(), 15);
    assert!(cache.list_cached().unwrap().all(|image| image.hits == 0 && image.size == 5));
    assert_eq!(cache.prune().unwrap().images, 2);
    assert_eq!(cache.cache_size().unwrap(), 5);
}

#[test]
fn prune_ends_although_rows_are_wrong_under_a_live_handle() {
    let scratch = Scratch::new(SQLITE);
    let cache = scratch.open_with(scratch.options.clone().max_size(0));
    cache_image(&cache, "1", b"12345");
    scratch
        .database()
        .execute_batch(
            "INSERT INTO cached_images (image_id, size, last_accessed) VALUES ('gone', 1000000, 1), ('../1', 7, NULL),
                 ('x', -5, 'text'), ('y', 9e18, 1e300), (NULL, 1, 1), (x'00ff', 1, 1), (CAST(x'ff' AS TEXT), 1, 1);
             UPDATE image_cache_state SET images = 99, bytes = 9999;",
        )
        .unwrap();
    assert_eq!(ids(&cache), ["1"]);
    assert_eq!(cache.prune().unwrap().images, 1);
    assert!(!cache.is_cached("1").unwrap());
}

#[test]
fn a_replaced_file_does_not_inherit_hits_and_digest() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        {
            let cache = scratch.open();
            let mut writer = cache.begin_write("1").unwrap();
            writer.expect_digest(Algorithm::Md5, "5d41402abc4b2a76b9719d911017c592").unwrap();
            writer.write_chunk(b"hello").unwrap();
            writer.commit().unwrap();
            assert_eq!(read_image(&cache, "1"), b"hello");
        }
        std::fs::write(scratch.file("new"), b"other").unwrap();
        std::fs::rename(scratch.file("new"), scratch.file("1")).unwrap();
        let image = scratch.open().list_cached().unwrap().next().unwrap();
        assert_eq!((image.size, image.hits, image.digest), (5, 0, None));
    }
}

#[test]
fn an_index_without_its_tables_is_rebuilt() {
    for statement in ["DROP TABLE image_cache_state", "DROP TABLE cached_images", "DELETE FROM image_cache_state"] {
        let scratch = Scratch::new(SQLITE);
        cache_image(&scratch.open(), "1", b"12345");
        scratch.database().execute_batch(statement).unwrap();
        let cache = scratch.open();
        assert_eq!(ids(&cache), ["1"], "{statement}");
        assert_eq!(cache.cache_size().unwrap(), 5, "{statement}");
        cache_image(&cache, "2", b"67");
        assert_eq!(cache.cache_size().unwrap(), 7, "{statement}");
    }
}

#[test]
fn a_reader_and_a_writer_do_not_wait_for_another_programs_transaction() {
    let scratch = Scratch::new(SQLITE);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let database = scratch.database();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(read_image(&cache, "1"), b"12345");
    cache_image(&cache, "2", b"67");
    assert_eq!(cache.hit_count("1").unwrap(), 1, "the handle counts accesses that it could not write to the index");
    database.execute_batch("COMMIT").unwrap();
    assert_eq!(cache.cache_size().unwrap(), 7);
    assert_eq!(ids(&cache), ["1", "2"]);
    drop(cache);
    assert_eq!(scratch.open().hit_count("1").unwrap(), 1);
}

#[test]
fn a_deleted_image_does_not_become_queued_again() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"x");
        // A writer that dies after publishing leaves the queue entry.
        std::fs::write(scratch.file("queue/1"), b"").unwrap();
        cache.delete_cached_image("1").unwrap();
        assert!(!cache.is_queued("1").unwrap());
    }
}

#[test]
fn a_cache_that_was_closed_is_not_scanned_again() {
    let scratch = Scratch::new(SQLITE);
    cache_image(&scratch.open(), "1", b"12345");
    // A change of a file's size does not change the directory's mtime, so only a scan finds it.
    std::fs::write(scratch.file("1"), b"1234567").unwrap();
    assert_eq!(scratch.open().cache_size().unwrap(), 5);
    std::fs::write(scratch.file("2"), b"").unwrap();
    assert_eq!(scratch.open().cache_size().unwrap(), 7);
}

#[test]
fn the_caches_own_changes_need_no_scan() {
    let scratch = Scratch::new(SQLITE);
    let (cache, other) = (scratch.open_with(scratch.options.clone().max_size(9)), scratch.open());
    cache_image(&cache, "1", b"12345");
    // Only a scan, or a reader of this image, finds these two bytes, because no name changes.
    std::fs::write(scratch.file("1"), b"1234567").unwrap();
    cache_image(&cache, "2", b"12345");
    cache_image(&other, "3", b"12345");
    read_image(&other, "3");
    other.delete_cached_image("2").unwrap();
    assert_eq!(cache.cache_size().unwrap(), 10);
    // A prune looks at its victims.
    assert_eq!(cache.prune().unwrap().images, 1);
    assert_eq!(other.cache_size().unwrap(), 5);
    assert_eq!(ids(&cache), ["3"]);
}

#[test]
fn a_wrong_length_is_corrected_when_the_image_is_read() {
    let scratch = Scratch::new(SQLITE);
    let (cache, other) = (scratch.open(), scratch.open());
    cache_image(&cache, "1", b"12345");
    // Without the length at the commit, as on a file system without attributes: with it, the image is not served.
    xattr::remove(scratch.file("1"), "user.image_cache.digest").unwrap();
    std::fs::write(scratch.file("1"), b"1234567").unwrap();
    read_image(&other, "1");
    assert_eq!(other.list_cached().unwrap().next().unwrap().size, 7);
    assert_eq!(cache.cache_size().unwrap(), 7);
}

#[test]
fn an_image_is_not_overwritten_when_its_name_is_given_as_the_database() {
    let scratch = Scratch::new(SQLITE);
    cache_image(&scratch.open(), "image", &[b'x'; 10_000]);
    let options = scratch.options.clone().database("image").unwrap().change_driver(true);
    let refused = image_cache::ImageCache::open(scratch.path(), options);
    assert!(matches!(refused, Err(Error::Index { .. })), "{refused:?}");
    assert_eq!(read_image(&scratch.open(), "image"), [b'x'; 10_000]);
}

#[test]
fn a_directory_keeps_its_driver_unless_a_change_is_asked_for() {
    let scratch = Scratch::new(SQLITE);
    drop(scratch.open());
    let asked = |options: Options| image_cache::ImageCache::open(scratch.path(), options);
    let xattr = || scratch.options.clone().driver(DriverChoice::Xattr);
    let either = || scratch.options.clone().driver(DriverChoice::XattrOrSqlite);
    let refused = asked(xattr()).unwrap_err();
    assert!(matches!(&refused, Error::InvalidArgument(why) if why.contains("xattr") && why.contains("cache.db")));
    assert!(asked(scratch.options.clone().database("other.db").unwrap()).is_err());
    assert_eq!(asked(either()).unwrap().driver(), DriverKind::Sqlite);
    drop(asked(xattr().change_driver(true)).unwrap());
    assert_eq!(asked(either()).unwrap().driver(), DriverKind::Xattr);
    assert!(asked(scratch.options.clone()).is_err());
}

#[test]
fn a_queue_entry_that_a_dead_writer_left_is_ignored_and_removed() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"x");
        std::fs::write(scratch.file("queue/1"), b"").unwrap();
        assert!(!cache.is_queued("1").unwrap());
        assert!(cache.list_queued().unwrap().is_empty());
        drop(cache);
        scratch.open();
        assert!(files(&scratch.file("queue")).is_empty());
    }
}

#[test]
fn images_that_were_not_synced_before_a_host_restart_are_dropped_and_others_stay() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "torn", b"perhaps");
        cache_image(&cache, "also torn", b"perhaps");
        let mark = xattr::get(scratch.file("torn"), "user.image_cache.unsynced").unwrap().unwrap();
        assert!(mark.len() > 36, "the boot id of this host and the number of the mount");
        drop(cache);
        // The close synced them and removed the marks.
        assert_eq!(xattr::get(scratch.file("torn"), "user.image_cache.unsynced").unwrap(), None);

        // The state after a power cut: marks of an earlier boot, or of another mount.
        let earlier = b"00000000-0000-0000-0000-000000000000 1";
        let elsewhere = [&mark[..], b"0"].concat();
        for (name, mark) in [(".image_cache", &earlier[..]), ("torn", earlier), ("also torn", &elsewhere)] {
            xattr::set(scratch.file(name), "user.image_cache.unsynced", mark).unwrap();
        }
        cache_image(&scratch.open_with(Options::new().driver(driver)), "durable", b"whole");
        let cache = scratch.open();
        assert_eq!(ids(&cache), ["durable"]);
        assert_eq!(cache.cache_size().unwrap(), 5);
    }
}

/// A directory is mounted twice, and a process uses each of the mounts.
#[test]
fn unsynced_marks_of_one_mount_survive_the_recovery_of_another() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "here", b"perhaps");
        let present = xattr::get(scratch.file("here"), "user.image_cache.unsynced").unwrap().unwrap();
        cache_image(&cache, "elsewhere", b"perhaps");
        drop(cache);
        let elsewhere = [&present[..], b"0"].concat();
        for (name, mark) in [("here", &present), ("elsewhere", &elsewhere), (".image_cache", &elsewhere)] {
            xattr::set(scratch.file(name), "user.image_cache.unsynced", mark).unwrap();
        }
        let cache = scratch.open();
        assert_eq!(ids(&cache), ["here"]);
        let directory = xattr::get(scratch.file(".image_cache"), "user.image_cache.unsynced").unwrap().unwrap();
        assert!(directory.starts_with(&present), "{driver:?}: the directory still has the mark of unsynced images");

        // After a power cut the mark is one of an earlier boot.
        for name in ["here", ".image_cache"] {
            xattr::set(scratch.file(name), "user.image_cache.unsynced", &elsewhere).unwrap();
        }
        drop(cache);
        assert!(ids(&scratch.open()).is_empty());
        assert_eq!(xattr::get(scratch.file(".image_cache"), "user.image_cache.unsynced").unwrap(), None);
    }
}

#[test]
fn a_durable_image_has_no_unsynced_mark() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open_with(Options::new().driver(driver));
        cache_image(&cache, "1", b"durable");
        assert_eq!(xattr::get(scratch.file("1"), "user.image_cache.unsynced").unwrap(), None);
        assert_eq!(xattr::get(scratch.file(".image_cache"), "user.image_cache.unsynced").unwrap(), None);
    }
}

/// The xattr driver scans the directory without the lock.
#[test]
fn a_scan_does_not_wait_for_the_cache_lock() {
    let scratch = Scratch::new(DriverChoice::Xattr);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let lock = take_cache_lock(&scratch.path());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send((cache.cache_size().unwrap(), ids(&cache))).unwrap());
        let scanned = receiver.recv_timeout(std::time::Duration::from_secs(10));
        drop(lock);
        assert_eq!(scanned, Ok((5, vec!["1".to_owned()])));
    });
}
