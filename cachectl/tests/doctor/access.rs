//! Whether a user can use the cache: the directory, its kinds of files, owners and modes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};

use image_cache::DriverChoice;
use libtest_mimic::Completion;

use crate::Test;
use crate::cache::{Cache, NOBODY, doctor, examined};

pub const TESTS: &[(&str, bool, Test)] = &[
    ("a_sound_cache_has_no_finding", false, sound),
    ("a_directory_that_is_missing_or_a_file", false, missing),
    ("a_directory_that_the_user_may_not_read", true, closed),
    ("a_directory_of_other_files", false, no_cache),
    ("an_open_that_fails", false, unopenable),
    ("a_part_of_the_wrong_kind", false, wrong_kind),
    ("a_directory_of_glance", false, never_opened),
    ("entries_that_are_no_images", false, no_images),
    ("a_user_who_may_only_read", true, only_reader),
    ("root_examines_what_the_directorys_owner_may_do", true, owner),
    ("a_user_who_may_not_read_an_image", true, unreadable),
    ("a_lock_that_others_may_read", false, readable_lock),
    ("a_directory_that_all_may_write", false, open_to_all),
    ("images_of_several_users", true, owners),
    ("a_user_without_a_name", true, unknown_user),
];

fn sound(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let examined = cache.doctor(&[]);
    examined.assert_only(&[]);
    // Also while a handle is open, with images being read and written.
    let handle = cache.open();
    let _reader = handle.open_for_read("one").unwrap();
    let mut writer = handle.begin_write("three").unwrap();
    writer.write_chunk(b"a part").unwrap();
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn missing(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    for name in ["nothing", "one", "one/below"] {
        let examined = examined(doctor(&cache.file(name), &["--fix"]));
        assert!(examined.numbers().contains(&"IC001"), "{name}: {examined:?}");
        assert_eq!(examined.code, 7);
    }
    Completion::Completed
}

fn closed(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.chmod(".", 0o700);
    cache.doctor(&["--user", NOBODY]).assert_only(&["IC002"]);
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn no_cache(driver: DriverChoice) -> Completion {
    let cache = Cache::empty(driver);
    cache.write("letter.txt", "not an image");
    let examined = cache.doctor(&["--fix"]);
    examined.assert_only(&["IC003"]);
    assert!(examined.items("IC003").contains("letter.txt") && examined.json["not_fixed"].is_string());
    assert!(!cache.file(".image_cache").exists());
    Completion::Completed
}

fn unopenable(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    // Something to fix, and a driver that is not the directory's.
    cache.chmod(".image_cache/lock", 0o644);
    let other = if cache.is_sqlite() { "xattr" } else { "sqlite" };
    let examined = cache.doctor(&["--fix", "--driver", other]);
    // The open repairs the mode before it compares the drivers.
    examined.assert_only(&["IC004"]);
    assert!(examined.items("IC004").contains("the cache is used with"));
    Completion::Completed
}

fn wrong_kind(driver: DriverChoice) -> Completion {
    for name in ["queue", "incomplete", ".image_cache"] {
        let cache = Cache::new(driver);
        fs::rename(cache.file(name), cache.beside("moved")).unwrap();
        symlink(cache.beside("moved"), cache.file(name)).unwrap();
        let examined = cache.doctor(&["--fix"]);
        assert!(examined.items("IC005").contains(name) && examined.json["not_fixed"].is_string());
    }
    Completion::Completed
}

fn never_opened(driver: DriverChoice) -> Completion {
    let cache = Cache::empty(driver);
    cache.doctor(&[]).assert_only(&["IC007"]);
    for name in ["queue", "incomplete", "invalid"] {
        fs::create_dir(cache.file(name)).unwrap();
    }
    cache.write("image", "cached by Glance");
    cache.doctor(&["--fix"]).assert_only(&["IC007"]);
    assert!(!cache.file(".image_cache").exists());
    Completion::Completed
}

fn no_images(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.write(".hidden", "");
    fs::create_dir(cache.file("directory")).unwrap();
    symlink("one", cache.file("queue/link")).unwrap();
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC008"]);
    assert_eq!(examined.code, 0);
    let items = examined.items("IC008");
    assert!([".hidden", "directory", "queue/link"].iter().all(|name| items.contains(name)), "{items}");
    Completion::Completed
}

fn only_reader(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let examined = cache.doctor(&["--user", NOBODY]);
    let expected: &[_] = if cache.is_sqlite() { &["IC010", "IC011", "IC048"] } else { &["IC010", "IC011"] };
    examined.assert_only(expected);
    assert!(examined.items("IC010").contains("incomplete") && examined.items("IC011").contains("lock"));
    // In a group that may write everything, nothing is in his way.
    let group = fs::metadata("/proc/self").map(|_| 65534).unwrap();
    for name in [".", "queue", "incomplete", "invalid", ".image_cache"] {
        chown(cache.file(name), None, Some(group)).unwrap();
        cache.chmod(name, 0o775);
    }
    for entry in fs::read_dir(cache.file(".image_cache")).unwrap().chain(fs::read_dir(&cache.path).unwrap()) {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_file() && metadata.mode() & 0o040 == 0 {
            chown(&path, None, Some(group)).unwrap();
            let name = path.strip_prefix(&cache.path).unwrap().to_str().unwrap().to_owned();
            cache.chmod(&name, 0o660);
        } else if metadata.is_file() {
            chown(&path, None, Some(group)).unwrap();
            cache.chmod(path.strip_prefix(&cache.path).unwrap().to_str().unwrap(), 0o664);
        }
    }
    cache.doctor(&["--user", NOBODY]).assert_only(&[]);
    Completion::Completed
}

/// What root has made in the cache of another user keeps that one out.
fn owner(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let give = |name: &str| chown(cache.file(name), Some(65534), Some(65534)).unwrap();
    [".", "queue", "incomplete", "invalid", ".image_cache"].into_iter().for_each(give);
    let examined = cache.doctor(&[]);
    assert!(examined.items("IC011").contains("user 65534 may not read and write"), "{:#}", examined.json);
    assert!(examined.items("IC011").contains(".image_cache/lock") && !examined.numbers().contains(&"IC010"));
    for path in ["", ".image_cache"].map(|name| cache.file(name)) {
        for entry in fs::read_dir(path).unwrap() {
            chown(entry.unwrap().path(), Some(65534), Some(65534)).unwrap();
        }
    }
    cache.doctor(&[]).assert_only(&[]);
    // It repairs as that user, so nothing is root's afterwards.
    cache.write("incomplete/old", "");
    chown(cache.file("incomplete/old"), Some(65534), Some(65534)).unwrap();
    cache.chmod("incomplete/old", 0o1644);
    let fixed = cache.doctor(&["--fix"]);
    assert!(fixed.fixed().contains(&"IC050"), "{:#}", fixed.json);
    fixed.assert_only(&[]);
    Completion::Completed
}

fn unreadable(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.chmod("one", 0o600);
    let examined = cache.doctor(&["--user", NOBODY]);
    let items = examined.items("IC012");
    assert!(items.contains("one: mode 0600") && !items.contains("two"), "{items}");
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn readable_lock(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.chmod(".image_cache/lock", 0o644);
    if cache.is_sqlite() {
        cache.chmod("cache.db", 0o644);
    }
    let found = cache.doctor(&[]);
    found.assert_only(&["IC013"]);
    assert_eq!(found.items("IC013").contains("cache.db"), cache.is_sqlite());
    let fixed = cache.doctor(&["--fix"]);
    fixed.assert_only(&[]);
    assert_eq!(fixed.fixed(), ["IC013"]);
    Completion::Completed
}

fn open_to_all(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.chmod(".", 0o777);
    let examined = cache.doctor(&["--fix"]);
    examined.assert_only(&["IC014"]);
    assert!(!examined.items("IC014").contains("queue"));
    Completion::Completed
}

fn owners(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    chown(cache.file("one"), Some(12345), None).unwrap();
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC015"]);
    assert!(examined.items("IC015").contains("user 12345: 1 image"));
    Completion::Completed
}

fn unknown_user(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let output = doctor(&cache.path, &["--user", "no-such-user"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no user"));
    // A number needs no name.
    assert!(cache.doctor(&["--user", "4000000:4000000"]).numbers().contains(&"IC010"));
    Completion::Completed
}
