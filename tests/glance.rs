//! A directory that Glance filled opens in place, with its images, hits and access order.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Scratch, ids, read_image};
use image_cache::{DriverChoice, DriverKind, Error};

/// What Glance 33 executes when its SQLite driver starts (`glance/image_cache/drivers/sqlite.py`, by name and column).
const GLANCE_TABLE: &str = "CREATE TABLE IF NOT EXISTS cached_images (image_id TEXT PRIMARY KEY,
    last_accessed REAL DEFAULT 0.0, last_modified REAL DEFAULT 0.0, size INTEGER DEFAULT 0, hits INTEGER DEFAULT 0,
    checksum TEXT)";

/// Images in Glance's access order: id, size, hits, seconds of the last access.
const IMAGES: [(&str, usize, u64, f64); 4] = [
    ("71c675ab-d94f-49cd-a114-e12490b328d9", 10, 3, 1_700_000_300.25),
    ("2", 20, 0, 1_700_000_400.5),
    ("1", 30, 7, 1_700_000_500.75),
    ("0f0f", 40, 1, 1_700_000_600.0),
];

fn make_directories(cache: &Path) {
    for name in ["", "incomplete", "invalid", "queue"] {
        fs::create_dir_all(cache.join(name)).unwrap();
    }
    fs::write(cache.join("queue/queued"), b"").unwrap();
    fs::write(cache.join("invalid/failed"), b"half of it").unwrap();
}

#[test]
fn a_directory_of_the_sqlite_driver_opens_in_place() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    make_directories(&scratch.path());
    let mut statements = format!("{GLANCE_TABLE};");
    // The files are created in another order than they are accessed. The table decides, not the files' times.
    for (id, size, hits, accessed) in IMAGES.iter().rev() {
        fs::write(scratch.file(id), vec![b'g'; *size]).unwrap();
        let row = format!("('{id}', {accessed}, 1700000000.5, {hits}, {size});");
        statements += "INSERT INTO cached_images (image_id, last_accessed, last_modified, hits, size) VALUES ";
        statements += &row;
    }
    scratch.database().execute_batch(&statements).unwrap();

    let cache = scratch.open_with(scratch.options.clone().max_size(70));
    assert_eq!(cache.driver(), DriverKind::Sqlite);
    let listed: Vec<_> = cache.list_cached().unwrap().collect();
    assert_eq!(listed.len(), IMAGES.len());
    for (id, size, hits, accessed) in IMAGES {
        let image = listed.iter().find(|image| image.image_id == id).unwrap();
        assert_eq!((image.size, image.hits), (size as u64, hits), "{id}");
        let accessed = Duration::from_secs_f64(accessed).as_nanos();
        assert!(accessed.abs_diff(image.last_accessed.unsigned_abs().into()) < 10_000, "{id}");
        assert_eq!(image.last_modified, 1_700_000_000_500_000_000, "{id}");
    }
    assert_eq!(cache.cache_size().unwrap(), 100);
    assert!(cache.is_queued("queued").unwrap());
    assert_eq!(cache.prune().unwrap().images, 2);
    assert_eq!(ids(&cache), ["0f0f", "1"]);
    assert_eq!(read_image(&cache, "1"), vec![b'g'; 30]);
    assert_eq!(cache.hit_count("1").unwrap(), 8);
    assert_eq!(cache.clean(None).unwrap(), 1);
}

#[test]
fn a_directory_of_the_xattr_driver_opens_in_place() {
    let scratch = Scratch::new(DriverChoice::Xattr);
    make_directories(&scratch.path());
    for (id, size, hits, accessed) in IMAGES.iter().rev() {
        let path = scratch.file(id);
        fs::write(&path, vec![b'g'; *size]).unwrap();
        xattr::set(&path, "user.hits", hits.to_string().as_bytes()).unwrap();
        let accessed = std::time::UNIX_EPOCH + Duration::from_secs_f64(*accessed);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_times(fs::FileTimes::new().set_accessed(accessed)).unwrap();
    }
    let cache = scratch.open_with(scratch.options.clone().max_size(70));
    assert_eq!(cache.driver(), DriverKind::Xattr);
    for (id, size, hits, _) in IMAGES {
        let image = cache.list_cached().unwrap().find(|image| image.image_id == id).unwrap();
        assert_eq!((image.size, image.hits), (size as u64, hits), "{id}");
    }
    assert_eq!(cache.prune().unwrap().images, 2);
    assert_eq!(ids(&cache), ["0f0f", "1"]);
    read_image(&cache, "1");
    drop(cache);
    assert_eq!(xattr::get(scratch.file("1"), "user.hits").unwrap().unwrap(), b"8");
}

#[test]
fn files_that_glance_keeps_beside_the_images_are_no_images() {
    for driver in [DriverChoice::Sqlite, DriverChoice::Xattr] {
        let scratch = Scratch::new(driver);
        make_directories(&scratch.path());
        fs::write(scratch.file("1"), b"image").unwrap();
        let locks = ["image_cache_db_init", "glance-cache", "glance-cache-clean", "glance-cache-prune"];
        for name in locks.into_iter().chain(["sqlite_centralized_migrate", "checkme"]) {
            fs::write(scratch.file(name), b"").unwrap();
        }
        let cache = scratch.open();
        assert_eq!(ids(&cache), ["1"]);
        assert!(matches!(cache.open_for_read("glance-cache"), Err(Error::InvalidImageId { .. })));
        assert_eq!(cache.delete_all_cached_images().unwrap(), 1);
        assert!(scratch.file("image_cache_db_init").exists());
    }
}

#[test]
fn glances_own_statements_work_on_the_index_and_the_totals_stay_exact() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    common::cache_image(&scratch.open(), "ours", b"12345");
    fs::write(scratch.file("glances"), b"1234567").unwrap();
    let statements = format!(
        "{GLANCE_TABLE};
             INSERT INTO cached_images (image_id, last_accessed, last_modified, hits, size) VALUES ('glances', 1.5, 1.5, 0, 7);
             UPDATE cached_images SET hits = hits + 1, last_accessed = 2.5 WHERE image_id = 'glances';
             DELETE FROM cached_images WHERE image_id = 'ours';"
    );
    scratch.database().execute_batch(&statements).unwrap();
    fs::remove_file(scratch.file("ours")).unwrap();
    let cache = scratch.open();
    assert_eq!(ids(&cache), ["glances"]);
    assert_eq!(cache.cache_size().unwrap(), 7);
    assert_eq!(cache.hit_count("glances").unwrap(), 1);
    // The cache reads the other program's changes while it is open.
    scratch
        .database()
        .execute_batch(
            "UPDATE cached_images SET size = 9; INSERT INTO cached_images (image_id, size) VALUES ('ghost', 1);",
        )
        .unwrap();
    assert_eq!(cache.cache_size().unwrap(), 7);
    assert_eq!(ids(&cache), ["glances"]);
}
