//! The hard limit beside other handles, programs and users, and with files of ours that are damaged.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use image_cache::{Error, ImageCache, LimitMode, Options};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::blocks::allocated;
use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 4 * MIB + MIB / 2;

fn hard(scratch: &Scratch) -> ImageCache {
    scratch.open_with(scratch.options.clone().max_size(LIMIT).limit_mode(LimitMode::Hard))
}

fn mib(count: usize) -> Vec<u8> {
    vec![7; count << 20]
}

fn deleted(scratch: &Scratch) -> usize {
    std::fs::read_dir(scratch.file(".image_cache/deleted")).map_or(0, Iterator::count)
}

#[test]
fn a_handle_that_was_open_before_the_limit_keeps_deleted_images_in_sight() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let before = scratch.open();
        let cache = hard(&scratch);
        for delete in [
            |cache: &ImageCache| cache.delete_cached_image("1").unwrap(),
            |cache: &ImageCache| {
                assert_eq!(cache.delete_all_cached_images().unwrap(), 1);
            },
        ] {
            cache_image(&cache, "1", &mib(2));
            let reader = cache.open_for_read("1").unwrap();
            delete(&before);
            assert_eq!(cache.usage().unwrap().deleted / MIB, 2);
            assert_eq!(allocated(&scratch.path()) / MIB, 2);
            drop(reader);
            assert_eq!(deleted(&scratch), 0);
        }
    }
}

#[test]
fn deleted_images_leave_the_disk_after_the_limit_became_soft() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        cache_image(&cache, "1", &mib(2));
        cache_image(&cache, "2", &mib(2));
        let reader = cache.open_for_read("1").unwrap();
        let other = std::fs::File::open(scratch.file("2")).unwrap();
        cache.delete_all_cached_images().unwrap();
        let soft = scratch.open_with(scratch.options.clone().limit_mode(LimitMode::Soft));
        cache_image(&soft, "3", b"x");
        cache_image(&cache, "4", b"x");
        assert_eq!(deleted(&scratch), 2);
        drop(reader);
        assert_eq!(deleted(&scratch), 1, "its reader removes it");
        drop(other);
        soft.clean(None).unwrap();
        assert_eq!(deleted(&scratch), 0, "a clean removes what another program had open");
    }
}

#[test]
fn a_corrupt_limit_caches_nothing_until_it_is_set_again() {
    for driver in DRIVERS {
        for text in ["", "many", "-1", "99999999999999999999999\n"] {
            let scratch = Scratch::new(driver);
            let cache = hard(&scratch);
            cache_image(&cache, "1", b"x");
            std::fs::write(scratch.file(".image_cache/limit"), text).unwrap();
            let Err(refused) = cache.begin_write("2") else { panic!("{text:?} is no limit") };
            assert!(refused.to_string().contains("set the limit again"), "{refused}");
            assert_eq!(read_image(&scratch.open(), "1"), b"x");
            cache.set_max_size(3 * MIB).unwrap();
            cache_image(&cache, "2", b"x");
            assert_eq!(cache.usage().unwrap().limit, 3 * MIB);
        }
    }
}

#[test]
fn a_limit_that_another_program_removes_is_stored_again() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        std::fs::remove_file(scratch.file(".image_cache/limit")).unwrap();
        for number in 0..6 {
            cache_image(&cache, &number.to_string(), &mib(1));
            assert!(allocated(&scratch.path()) <= LIMIT);
        }
        std::fs::remove_dir_all(scratch.file(".image_cache")).unwrap();
        for number in 6..12 {
            cache_image(&cache, &number.to_string(), &mib(1));
            assert!(allocated(&scratch.path()) <= LIMIT);
        }
        assert!(scratch.logged("it is stored again"));
        drop(scratch.open_with(scratch.options.clone().limit_mode(LimitMode::Soft)));
        cache_image(&cache, "large", &mib(6));
        assert!(!cache.usage().unwrap().is_hard, "one of ours removed it");
        drop(hard(&scratch));
        assert!(cache.usage().unwrap().is_hard);
    }
}

#[test]
fn the_limit_holds_without_a_ledger() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        drop(hard(&scratch));
        std::fs::remove_file(scratch.file(".image_cache/ledger")).unwrap();
        std::fs::create_dir(scratch.file(".image_cache/ledger")).unwrap();
        let cache = scratch.open();
        for number in 0..8 {
            cache_image(&cache, &number.to_string(), &mib(1));
            assert!(allocated(&scratch.path()) <= LIMIT);
        }
        assert_eq!(ids(&cache).len(), 4);
        assert_eq!(cache.usage().unwrap().cached / MIB, 4);
        assert_eq!(cache.prune_to(0).unwrap().images, 4);
        assert!(scratch.logged("the images are counted for each reservation"));
    }
}

#[test]
fn what_another_program_writes_to_an_image_counts_after_a_clean() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        let mut copied = std::fs::File::create(scratch.file("copied")).unwrap();
        cache_image(&cache, "1", &mib(1));
        copied.write_all(&mib(3)).unwrap();
        drop(copied);
        cache.clean(None).unwrap();
        assert_eq!(cache.usage().unwrap().cached / MIB, 4);
        cache_image(&cache, "2", &mib(1));
        assert!(allocated(&scratch.path()) <= LIMIT);
    }
}

#[test]
fn the_message_says_what_the_limit_lacks() {
    let scratch = Scratch::new(DRIVERS[0]);
    let cache = scratch.open_with(scratch.options.clone().max_size(4096).limit_mode(LimitMode::Hard));
    let refused = cache.begin_write("1").unwrap().write_chunk(b"x").unwrap_err().to_string();
    assert!(refused.contains("the limit is 4096 bytes") && !refused.contains("on the disk"), "{refused}");
    assert!(refused.contains("for their attributes and extents"), "{refused}");
}

// ---- In another process -------------------------------------------------------------------------------------------------------------

const ROLE: &str = "IMAGE_CACHE_BOUNDS_ROLE";
const DIRECTORY: &str = "IMAGE_CACHE_BOUNDS_DIRECTORY";
const NOBODY: u32 = 65534;

/// This program again, in a role.
fn as_role(role: &str, directory: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "beside_others::in_a_role", "--nocapture"]).env(ROLE, role).env(DIRECTORY, directory);
    command
}

#[test]
fn in_a_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    match role.as_str() {
        "limited" => limited(&directory),
        "open" => drop(open(&directory)),
        "delete" => delete_as_another_user(&directory),
        _ => panic!("{role}"),
    }
}

/// tmpfs applies the limit of a process on file sizes to reservations, too.
#[test]
fn a_reservation_beyond_the_file_size_limit_does_not_end_the_host() {
    let Ok(scratch) = tempfile::tempdir_in("/dev/shm") else { return };
    let status = as_role("limited", scratch.path()).status().unwrap();
    assert!(status.success(), "{status}");
}

fn limited(directory: &Path) {
    let size = Some(3 * MIB / 2);
    setrlimit(Resource::Fsize, Rlimit { current: size, maximum: size }).unwrap();
    let options = Options::new().max_size(16 * MIB).limit_mode(LimitMode::Hard);
    let cache = ImageCache::open(directory.join("cache"), options).unwrap();
    let mut writer = cache.begin_write("1").unwrap();
    assert!(matches!(writer.expect_size(2 * MIB), Err(Error::System { .. })));
    drop(writer);
    // What is reserved ahead would be too long, but not the image.
    let mut writer = cache.begin_write("2").unwrap();
    for _ in 0..5 {
        writer.write_chunk(&mib(1)[..1 << 18]).unwrap();
    }
    writer.commit().unwrap();
}

/// Without `CAP_LEASE`, it is unknown whether anybody has another user's image open.
#[test]
fn another_users_deleted_image_leaves_the_disk() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("shared");
    std::fs::create_dir(&directory).unwrap();
    for path in [scratch.path(), &directory] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    for role in ["open", "delete"] {
        let status = as_role(role, &directory).uid(NOBODY).gid(NOBODY).status().unwrap();
        assert!(status.success(), "{status}");
        std::fs::write(directory.join("cache/roots"), mib(3)).unwrap();
    }
}

fn open(directory: &Path) -> ImageCache {
    let options = Options::new().max_size(LIMIT).limit_mode(LimitMode::Hard);
    ImageCache::open(directory.join("cache"), options).unwrap()
}

fn delete_as_another_user(directory: &Path) {
    let cache = open(directory);
    assert_eq!(ids(&cache), ["roots"]);
    cache.delete_cached_image("roots").unwrap();
    assert_eq!(cache.usage().unwrap().deleted, 0);
    cache_image(&cache, "1", &mib(4));
}

#[test]
fn what_was_taken_from_a_live_writer_counts_until_it_ends() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        let mut writer = cache.begin_write("1").unwrap();
        writer.expect_size(3 * MIB).unwrap();
        writer.write_chunk(&mib(1)).unwrap();
        assert_eq!(cache.clean(Some(Duration::ZERO)).unwrap(), 1);
        assert_eq!(cache.usage().unwrap().deleted / MIB, 3);
        let mut other = cache.begin_write("1").unwrap();
        assert!(matches!(other.expect_size(3 * MIB), Err(Error::NoRoom { .. })));
        drop(other);
        assert!(matches!(writer.write_chunk(&mib(1)), Err(Error::Lost { .. })));
        drop(writer);
        assert_eq!(cache.usage().unwrap().total(), 0);
        assert_eq!(deleted(&scratch), 0);
        cache_image(&cache, "1", &mib(3));
    }
}

/// An operator's copy shares the image's blocks.
#[test]
fn a_deleted_image_with_another_name_keeps_its_bytes() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        let bytes = mib(2);
        for delete in [
            |cache: &ImageCache| cache.delete_cached_image("1").unwrap(),
            |cache: &ImageCache| assert!(cache.delete_unused_image("1").unwrap()),
            |cache: &ImageCache| assert_eq!(cache.prune_to(0).unwrap().images, 1),
        ] {
            cache_image(&cache, "1", &bytes);
            std::fs::hard_link(scratch.file("1"), scratch.file("../link")).unwrap();
            delete(&cache);
            assert_eq!((cache.usage().unwrap().total(), deleted(&scratch)), (0, 0));
            assert!(std::fs::read(scratch.file("../link")).unwrap() == bytes);
            std::fs::remove_file(scratch.file("../link")).unwrap();
        }
    }
}

/// Another program takes the blocks of an image from it, and the image is deleted. No name shows how much the first one took.
fn lose_blocks(scratch: &Scratch, cache: &ImageCache, length: u64) {
    cache_image(cache, "1", &vec![7; usize::try_from(length).unwrap()]);
    let image = std::fs::File::options().write(true).open(scratch.file("1")).unwrap();
    fallocate(&image, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, length).unwrap();
    drop(image);
    cache.delete_cached_image("1").unwrap();
}

#[test]
fn what_changes_without_a_name_does_not_add_up() {
    const LENGTH: u64 = 64 << 10;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        for _ in 0..40 {
            lose_blocks(&scratch, &cache, LENGTH);
            let cached = cache.usage().unwrap().cached;
            assert!(cached <= 18 * LENGTH, "{cached} bytes are counted in an empty cache");
        }
    }
}

#[test]
fn nothing_is_refused_for_what_is_not_there() {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = hard(&scratch);
        for _ in 0..12 {
            lose_blocks(&scratch, &cache, MIB);
        }
    }
}
