//! One file that cannot be read or deleted. It is skipped and logged, and everything else goes on.

use std::any::Any;
use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, FULL, IMAGE_CACHE_ERROR_IO, NONE, Settings};
use crate::child::{Process, Task, become_member, share};
use crate::disk::{Disk, FileSystem, disk, need, text};
use crate::fixture::{
    DONE, DRIVERS, LENGTH, Scratch, Test, bytes, files, marked, missing_root, missing_tool, pretend_restart, run,
    trials as of,
};

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, Test); 15] = [
        ("a_broken_inode_after_a_restart", broken_inode),
        ("an_image_of_another_user_after_a_restart", |scratch| other_user(scratch, "600", true)),
        ("an_image_that_nobody_may_read_after_a_restart", |scratch| other_user(scratch, "0", true)),
        ("an_image_of_another_user", |scratch| other_user(scratch, "600", false)),
        ("an_image_of_the_same_user_that_is_not_readable", own_unreadable),
        ("an_immutable_image_over_the_limit_alone_used_first", |scratch| alone(scratch, "+i", 0)),
        ("an_immutable_image_over_the_limit_alone_used_second", |scratch| alone(scratch, "+i", 1)),
        ("an_immutable_image_over_the_limit_alone_used_last", |scratch| alone(scratch, "+i", 3)),
        ("an_append_only_image_over_the_limit_alone", |scratch| alone(scratch, "+a", 0)),
        ("an_image_of_another_user_in_a_sticky_directory_over_the_limit_alone", sticky),
        ("an_immutable_image_that_is_oldest", |scratch| oldest(scratch, 3, 1)),
        ("an_immutable_image_that_is_oldest_and_two_go", |scratch| oldest(scratch, 2, 2)),
        ("an_immutable_image_that_is_left_alone", |scratch| oldest(scratch, 1, 3)),
        ("delete_all_beside_an_immutable_image", delete_all),
        ("room_on_the_disk_is_not_made_by_images_that_take_up_none", takes_up_nothing),
    ];
    of("one_bad_file", &DRIVERS, &tests)
}

pub const TASKS: [(&str, Task); 1] = [("commit_unsynced", commit_unsynced)];

/// Commits images with durability none, and leaves the cache open.
fn commit_unsynced(arguments: &[String]) -> Box<dyn Any> {
    let [directory, driver, ids @ ..] = arguments else { panic!("{arguments:?}") };
    let cache = Settings::new(driver.parse().unwrap()).durability(NONE).open(Path::new(directory)).unwrap();
    for id in ids {
        cache.put(id, &bytes(id, LENGTH)).unwrap();
    }
    Box::new(cache)
}

/// Images that a process committed with durability none before it was killed.
pub fn leave_unsynced(driver: i32, directory: &Path, ids: &[&str]) {
    let driver = driver.to_string();
    let arguments: Vec<_> = [text(directory), &driver].into_iter().chain(ids.iter().copied()).collect();
    Process::start("commit_unsynced", &arguments).kill();
    let marked = marked(directory);
    assert!(ids.iter().all(|id| marked.iter().any(|name| name == id)), "of {ids:?}, marked are {marked:?}");
}

/// What goes on beside the bad file.
fn goes_on(cache: &Cache, directory: &Path) -> Result<(), Failed> {
    let ids = cache.ids()?;
    assert!(ids.iter().any(|id| id == "good"), "listed are {ids:?}");
    assert!(!ids.iter().any(|id| id == "torn"), "the torn image is listed: {ids:?}");
    assert!(!directory.join("torn").exists(), "the torn image is dropped");
    assert_eq!(cache.read("good")?, bytes("good", LENGTH));
    cache.put("new", &bytes("new", LENGTH))?;
    assert_eq!(cache.read("new")?, bytes("new", LENGTH));
    cache.delete("new")?;
    cache.cache_size()?;
    Ok(())
}

fn broken_inode(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("debugfs"));
    let disk = disk!(FileSystem::Ext4);
    let cache = scratch.settings().open(&disk.cache())?;
    for id in ["good", "bad"] {
        cache.put(id, &bytes(id, LENGTH))?;
    }
    drop(cache);
    leave_unsynced(scratch.driver, &disk.cache(), &["torn"]);
    pretend_restart(&disk.cache());
    disk.unmount()?;
    disk.debugfs("clri /cache/bad")?;
    disk.mount()?;
    assert!(fs::symlink_metadata(disk.cache().join("bad")).is_err(), "the inode is broken");
    // Not only the first one.
    for _ in 0..2 {
        let settings = scratch.settings();
        let cache = settings.open(&disk.cache())?;
        goes_on(&cache, &disk.cache())?;
        assert!(settings.logged("bad"), "logged are {:?}", settings.messages);
    }
    DONE
}

/// A file with another name, and a sparse one, are older than the image whose eviction makes room.
fn takes_up_nothing(scratch: &Scratch) -> Result<Option<String>, Failed> {
    const LONG: u64 = 4 << 20;
    let disk = disk!(FileSystem::Ext4);
    let cache = scratch.settings().open(&disk.cache())?;
    cache.put("linked", &bytes("linked", LONG))?;
    fs::hard_link(disk.cache().join("linked"), disk.point().join("another name"))?;
    cache.put("sparse", b"")?;
    fs::File::options().write(true).open(disk.cache().join("sparse"))?.set_len(8 << 20)?;
    // They take up a block.
    for name in xattr::list(disk.cache().join("sparse"))?.collect::<Vec<_>>() {
        xattr::remove(disk.cache().join("sparse"), name)?;
    }
    cache.clean()?;
    cache.put("dense", &bytes("dense", LONG))?;
    let status = rustix::fs::statvfs(disk.point())?;
    assert_eq!(cache.make_room(status.f_bavail * status.f_frsize + (1 << 20))?, (1, LONG));
    assert_eq!(cache.ids()?, ["linked", "sparse"]);
    DONE
}

/// On a thread with the permissions of a user who may write the directory.
fn as_member(work: impl FnOnce() -> Result<(), Failed> + Send) -> Result<(), Failed> {
    let work = || {
        become_member();
        work()
    };
    let outcome = std::thread::scope(|scope| scope.spawn(work).join());
    outcome.unwrap_or_else(|panic| Err(panic.downcast_ref::<String>().map_or("it panicked", String::as_str).into()))
}

fn other_user(scratch: &Scratch, mode: &str, restarted: bool) -> Result<Option<String>, Failed> {
    need!(missing_root());
    let cache = scratch.open();
    for id in ["good", "full"] {
        cache.put(id, &bytes(id, LENGTH))?;
    }
    drop(cache);
    let image = scratch.file("full");
    if restarted {
        leave_unsynced(scratch.driver, &scratch.path(), &["torn"]);
        pretend_restart(&scratch.path());
    }
    share(&scratch.path())?;
    run(Command::new("chmod").arg(mode).arg(&image))?;
    as_member(|| {
        for _ in 0..2 {
            let settings = scratch.settings();
            let cache = settings.open(&scratch.path())?;
            goes_on(&cache, &scratch.path())?;
        }
        Ok(())
    })?;
    assert!(image.exists(), "the image that was committed with durability full is dropped");
    assert_eq!(fs::read(image)?, bytes("full", LENGTH), "it was committed with durability full");
    // Its owner finds it as well.
    assert_eq!(scratch.open().read("full")?, bytes("full", LENGTH));
    DONE
}

/// The user's own image has no permission for reading. It was synced, so it stays.
fn own_unreadable(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_root());
    fs::create_dir(scratch.path())?;
    share(&scratch.path())?;
    as_member(|| {
        let cache = scratch.open();
        for id in ["good", "full"] {
            cache.put(id, &bytes(id, LENGTH))?;
        }
        Ok(())
    })?;
    leave_unsynced(scratch.driver, &scratch.path(), &["torn"]);
    pretend_restart(&scratch.path());
    share(&scratch.path())?;
    run(Command::new("chmod").arg("0").arg(scratch.file("full")))?;
    as_member(|| {
        let settings = scratch.settings();
        goes_on(&settings.open(&scratch.path())?, &scratch.path())
    })?;
    assert!(scratch.file("full").exists(), "the image that was committed with durability full is dropped");
    assert_eq!(fs::read(scratch.file("full"))?, bytes("full", LENGTH));
    DONE
}

fn change_flag(flag: &str, file: &Path) -> Result<(), Failed> {
    run(Command::new("chattr").arg(flag).arg(file)).map(drop)
}

/// A closed cache on a disk of its own, with images of these lengths in the order of use.
fn on_disk(scratch: &Scratch, disk: &Disk, images: &[(&str, u64)]) -> Result<(), Failed> {
    let cache = scratch.settings().durability(FULL).open(&disk.cache())?;
    for (id, length) in images {
        cache.put(id, &bytes(id, *length))?;
    }
    for (id, _) in images {
        cache.read(id)?;
    }
    Ok(())
}

/// An undeletable image is over the limit alone: nothing is evicted in vain. `place` is its place in the order of use.
fn alone(scratch: &Scratch, flag: &str, place: usize) -> Result<Option<String>, Failed> {
    need!(missing_tool("chattr"));
    let disk = disk!(FileSystem::Ext4);
    let mut images = vec![("a", LENGTH), ("b", LENGTH), ("c", LENGTH)];
    images.insert(place, ("undeletable", 100 * LENGTH));
    on_disk(scratch, &disk, &images)?;
    let before = files(&disk.cache());
    change_flag(flag, &disk.cache().join("undeletable"))?;
    let cache = scratch.settings().max_size(50 * LENGTH).open(&disk.cache())?;
    for _ in 0..2 {
        let pruned = cache.prune();
        assert_eq!(files(&disk.cache()), before, "nothing is evicted in vain; the prune returned {pruned:?}");
        let failure = pruned.unwrap_err();
        assert_eq!(failure.status, IMAGE_CACHE_ERROR_IO, "{failure}");
        assert!(failure.message.contains("undeletable"), "{failure}");
    }
    drop(cache);
    // Once it can be deleted, one prune suffices.
    change_flag(&flag.replace('+', "-"), &disk.cache().join("undeletable"))?;
    scratch.settings().max_size(50 * LENGTH).open(&disk.cache())?.prune()?;
    assert!(!disk.cache().join("undeletable").exists());
    DONE
}

/// Another user's image may not be deleted by this one, though the directory may be written.
fn sticky(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_root());
    let cache = scratch.open();
    cache.put("undeletable", &bytes("u", 100 * LENGTH))?;
    drop(cache);
    share(&scratch.path())?;
    run(Command::new("chmod").arg("+t").arg(scratch.path()))?;
    as_member(|| {
        let cache = scratch.settings().max_size(50 * LENGTH).open(&scratch.path())?;
        for id in ["a", "b"] {
            cache.put(id, &bytes(id, LENGTH))?;
        }
        let before = files(&scratch.path());
        let pruned = cache.prune();
        assert_eq!(files(&scratch.path()), before, "nothing is evicted in vain; the prune returned {pruned:?}");
        assert!(pruned.unwrap_err().message.contains("undeletable"));
        Ok(())
    })?;
    DONE
}

/// The oldest image is undeletable, and the limit can be reached with others: the next oldest ones go, as many as needed.
fn oldest(scratch: &Scratch, limit: u64, evicted: u64) -> Result<Option<String>, Failed> {
    need!(missing_tool("chattr"));
    let disk = disk!(FileSystem::Ext4);
    let images = ["undeletable", "a", "b", "c"];
    on_disk(scratch, &disk, &images.map(|id| (id, LENGTH)))?;
    change_flag("+i", &disk.cache().join("undeletable"))?;
    let cache = scratch.settings().max_size(limit * LENGTH).open(&disk.cache())?;
    let pruned = cache.prune();
    change_flag("-i", &disk.cache().join("undeletable"))?;
    let left: Vec<_> = files(&disk.cache()).into_keys().collect();
    let stay = images[1..].iter().skip(usize::try_from(evicted).unwrap()).chain(&images[..1]);
    assert_eq!(left, stay.copied().collect::<Vec<_>>(), "the prune returned {pruned:?}");
    assert_eq!(pruned?, (evicted, evicted * LENGTH));
    DONE
}

fn delete_all(scratch: &Scratch) -> Result<Option<String>, Failed> {
    need!(missing_tool("chattr"));
    let disk = disk!(FileSystem::Ext4);
    on_disk(scratch, &disk, &["undeletable", "a", "b"].map(|id| (id, LENGTH)))?;
    change_flag("+i", &disk.cache().join("undeletable"))?;
    let cache = scratch.settings().open(&disk.cache())?;
    let deleted = cache.delete_all();
    change_flag("-i", &disk.cache().join("undeletable"))?;
    assert_eq!(files(&disk.cache()).into_keys().collect::<Vec<_>>(), ["undeletable"]);
    let failure = deleted.unwrap_err();
    assert!(failure.status == IMAGE_CACHE_ERROR_IO && failure.message.contains("undeletable"), "{failure}");
    crate::fixture::compare(&cache, &disk.cache())?;
    DONE
}
