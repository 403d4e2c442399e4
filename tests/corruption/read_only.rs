//! Caches that cannot be written: on a read-only mount, and for a user without permission. Reads work; writes fail with
//! the reason; nothing is logged twice.

use std::io::Read as _;
use std::path::Path;

use image_cache::{DriverChoice, Error, ImageCache, Options};
use libtest_mimic::{Completion, Failed, Trial};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};
use crate::workspace::{become_nobody, is_root, make_readable, mount_read_only, on_own_thread, unshare_mounts};

/// How writing is forbidden, and what is tried then.
type Forbid = fn(&Path);
type Test = fn(DriverChoice, Forbid) -> Result<(), Failed>;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for driver in DRIVERS {
        for (means, forbid) in [("mount", forbid_all as Forbid), ("user", forbid_user)] {
            let mut add = |name: &str, test: Test| {
                let name = format!("read_only::{means}::{driver:?}::{name}");
                trials
                    .push(Trial::ignorable_test(name, move || as_root(move || on_own_thread(|| test(driver, forbid)))));
            };
            add("reads_work_and_writes_fail_with_the_reason", reads_and_writes);
            add("hits_and_accesses_are_dropped_and_logged_once", quiet_log);
            add("a_tee_goes_on_delivering", tee);
            add("prune_fails_above_the_limit_only", prune);
            add("a_directory_without_subdirectories_is_refused", without_subdirectories);
            add("an_image_that_was_not_synced_before_a_restart_is_not_served", unsynced);
        }
        let name = format!("read_only::mount::{driver:?}::the_next_writable_open_has_everything");
        trials.push(Trial::ignorable_test(name, move || as_root(move || on_own_thread(|| writable_again(driver)))));
        let name = format!("read_only::user::{driver:?}::a_reader_sees_what_a_live_writer_does");
        trials.push(Trial::ignorable_test(name, move || as_root(move || on_own_thread(|| beside_a_writer(driver)))));
    }
    let mut add = |name: &str, test: fn() -> Result<(), Failed>| {
        trials.push(Trial::ignorable_test(format!("read_only::{name}"), move || as_root(move || on_own_thread(test))));
    };
    add("mount::a_path_with_odd_characters", odd_path);
    add("mount::an_index_that_is_damaged_is_not_read", damaged);
    add("user::an_unwritable_index_in_a_writable_directory", index_alone);
    add("user::an_index_that_may_not_be_read_costs_hits_only", unreadable);
    trials
}

fn as_root(test: impl FnOnce() -> Result<(), Failed>) -> Result<Completion, Failed> {
    if !is_root() {
        return Ok(Completion::ignored_with("only root may mount and take another user's rights"));
    }
    test().map(|()| Completion::Completed)
}

/// From here on no one can write into the directory.
fn forbid_all(directory: &Path) {
    unshare_mounts();
    mount_read_only(directory);
}

/// From here on this thread cannot write anywhere.
fn forbid_user(directory: &Path) {
    make_readable(directory.parent().unwrap());
    become_nobody();
}

/// A closed cache with two images of different hits, the first one with a digest.
fn filled(driver: DriverChoice) -> Scratch {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let mut writer = cache.begin_write("1").unwrap();
    writer.expect_digest(image_cache::Algorithm::Md5, "5d41402abc4b2a76b9719d911017c592").unwrap();
    writer.write_chunk(b"hello").unwrap();
    writer.commit().unwrap();
    cache_image(&cache, "2", b"the second");
    read_image(&cache, "1");
    read_image(&cache, "1");
    cache.queue_image("queued").unwrap();
    drop(cache);
    std::fs::write(scratch.file("invalid/failed"), b"half").unwrap();
    scratch.messages.lock().unwrap().clear();
    scratch
}

/// Those of image 1. An index is not read where it may not be written.
fn known_hits(driver: DriverChoice) -> u64 {
    if driver == DriverChoice::Sqlite { 0 } else { 2 }
}

fn is_refused<T: std::fmt::Debug>(result: image_cache::Result<T>) -> Result<(), Failed> {
    match result {
        Err(error @ Error::System { .. })
            if [Errno::ROFS, Errno::ACCESS, Errno::PERM]
                .iter()
                .any(|errno| error.os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(())
        }
        other => Err(format!("{other:?}").into()),
    }
}

fn reads_and_writes(driver: DriverChoice, forbid: Forbid) -> Result<(), Failed> {
    let scratch = filled(driver);
    forbid(&scratch.path());
    let cache = scratch.open();
    assert!(cache.is_cached("1")? && !cache.is_cached("3")? && cache.is_queued("queued")?);
    assert_eq!((cache.image_size("1")?, cache.cache_size()?, cache.list_queued()?.len()), (5, 15, 1));
    let hits = known_hits(driver);
    let listed: Vec<_> = cache.list_cached()?.collect();
    assert_eq!((listed[0].hits, listed[1].hits, listed.len()), (hits, 0, 2));
    assert_eq!(listed[0].digest.as_deref(), Some("md5:5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(cache.hit_count("1")?, hits);
    assert_eq!(read_image(&cache, "2"), b"the second");
    assert!(matches!(cache.open_for_read("3"), Err(Error::NotFound { .. })));

    is_refused(cache.begin_write("3").map(drop))?;
    is_refused(cache.queue_image("3"))?;
    is_refused(cache.delete_cached_image("1"))?;
    is_refused(cache.delete_all_cached_images())?;
    is_refused(cache.delete_queued_image("queued"))?;
    is_refused(cache.delete_all_queued_images())?;
    is_refused(cache.clean(None))?;
    assert!(matches!(cache.begin_write("1"), Err(Error::AlreadyCached(_))));
    assert!(!cache.queue_image("1")?);
    cache.delete_cached_image("3")?;
    assert_eq!(cache.prefetch(|_, _| Ok(()))?.failed, 1);
    assert_eq!(ids(&cache), ["1", "2"]);
    Ok(())
}

fn quiet_log(driver: DriverChoice, forbid: Forbid) -> Result<(), Failed> {
    let scratch = filled(driver);
    forbid(&scratch.path());
    let cache = scratch.open();
    let message_count = || scratch.messages.lock().unwrap().len();
    let at_open = message_count();
    assert!((1..=2).contains(&at_open), "{:?}", scratch.messages);
    for _ in 0..50 {
        read_image(&cache, "1");
        cache.list_cached()?;
        cache.hit_count("1")?;
        cache.cache_size()?;
    }
    assert_eq!(cache.hit_count("1")?, known_hits(driver), "nothing is kept that can never be written");
    // One message for the access, one for the hit.
    assert!(message_count() <= at_open + 2, "{:?}", scratch.messages);
    drop(cache);
    assert!(message_count() <= at_open + 2, "{:?}", scratch.messages);
    Ok(())
}

fn tee(driver: DriverChoice, forbid: Forbid) -> Result<(), Failed> {
    let scratch = filled(driver);
    forbid(&scratch.path());
    let mut tee = scratch.open().tee("3", &b"from the source"[..])?;
    assert!(!tee.is_caching());
    let mut bytes = Vec::new();
    tee.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    assert_eq!(bytes, b"from the source");
    Ok(())
}

fn prune(driver: DriverChoice, forbid: Forbid) -> Result<(), Failed> {
    let scratch = filled(driver);
    forbid(&scratch.path());
    assert_eq!(scratch.open().prune()?.images, 0);
    let cache = scratch.open_with(scratch.options.clone().max_size(5));
    is_refused(cache.prune())?;
    assert_eq!(ids(&cache), ["1", "2"]);
    Ok(())
}

fn without_subdirectories(driver: DriverChoice, forbid: Forbid) -> Result<(), Failed> {
    for missing in ["incomplete", "invalid", "queue"] {
        let scratch = filled(driver);
        std::fs::remove_dir_all(scratch.file(missing)).unwrap();
        let outcome = on_own_thread(|| {
            forbid(&scratch.path());
            let refused = ImageCache::open(scratch.path(), scratch.options.clone());
            let message = refused.as_ref().map_or_else(ToString::to_string, |_| String::new());
            assert!(message.contains("create") && message.contains(missing), "{message}");
            is_refused(refused)
        });
        outcome?;
    }
    let nowhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(nowhere.path().join("cache")).unwrap();
    forbid(&nowhere.path().join("cache"));
    is_refused(ImageCache::open(nowhere.path().join("cache"), Options::new().driver(driver)))?;
    is_refused(ImageCache::open(nowhere.path().join("cache/below"), Options::new().driver(driver)))
}

/// The image may be torn, and cannot be removed. The other one is served, also by a second handle beside the first.
fn unsynced(driver: DriverChoice, forbid: Forbid) -> Result<(), Failed> {
    let scratch = filled(driver);
    for name in [".image_cache", "1"] {
        xattr::set(scratch.file(name), "user.image_cache.unsynced", b"an earlier start").unwrap();
    }
    forbid(&scratch.path());
    let handles = [scratch.open(), scratch.open()];
    for cache in &handles {
        assert!(matches!(cache.open_for_read("1"), Err(Error::NotFound { .. })));
        assert!(matches!(cache.image_size("1"), Err(Error::NotFound { .. })));
        assert!(!cache.is_cached("1")?);
        assert_eq!((ids(cache), cache.hit_count("1")?), (vec!["2".to_owned()], 0));
        assert_eq!(read_image(cache, "2"), b"the second");
    }
    assert!(scratch.logged("1 could not be examined or removed"), "{:?}", scratch.messages);
    Ok(())
}

fn writable_again(driver: DriverChoice) -> Result<(), Failed> {
    let scratch = filled(driver);
    forbid_all(&scratch.path());
    {
        let cache = scratch.open();
        read_image(&cache, "2");
        assert_eq!(cache.list_cached()?.len(), 2);
        drop(cache);
        unmount(scratch.path(), UnmountFlags::empty()).unwrap();
    }
    let cache = scratch.open();
    assert_eq!((cache.hit_count("1")?, cache.hit_count("2")?), (2, 0), "reads of the read-only cache are not counted");
    assert!(cache.list_cached()?.next().unwrap().digest.is_some());
    cache_image(&cache, "3", b"x");
    assert_eq!(cache.cache_size()?, 16);
    Ok(())
}

/// One thread may write and has the cache open; the other may not write.
fn beside_a_writer(driver: DriverChoice) -> Result<(), Failed> {
    let scratch = filled(driver);
    let writer = scratch.open();
    read_image(&writer, "1");
    assert_eq!(writer.hit_count("1")?, 3); // the query writes it
    make_readable(scratch.path().parent().unwrap());
    let step = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            become_nobody();
            // A failure is returned after the last step: otherwise the writer waits at the barrier.
            let cache = ImageCache::open(scratch.path(), scratch.options.clone());
            let before = cache.as_ref().map(|cache| cache.list_cached().map(Iterator::collect::<Vec<_>>));
            let before = format!("{before:?}");
            step.wait();
            step.wait();
            let Ok(cache) = cache else { return Err(Failed::from(before)) };
            assert!(driver == DriverChoice::Sqlite || before.contains("hits: 3"), "{before}");
            assert_eq!(ids(&cache), ["2", "3"]);
            assert_eq!(cache.cache_size()?, 13);
            assert_eq!(read_image(&cache, "3"), b"new");
            is_refused(cache.begin_write("4").map(drop))
        });
        step.wait();
        writer.delete_cached_image("1")?;
        cache_image(&writer, "3", b"new");
        step.wait();
        reader.join().unwrap_or_else(|_| Err("it panicked; see above".into()))?;
        assert_eq!(ids(&writer), ["2", "3"]);
        Ok(())
    })
}

fn odd_path() -> Result<(), Failed> {
    let scratch = filled(DriverChoice::Sqlite);
    let odd = scratch.path().with_file_name("50%20 ?immutable=0&mode=rwc#part \u{e4}");
    std::fs::rename(scratch.path(), &odd).unwrap();
    forbid_all(&odd);
    let cache = ImageCache::open(&odd, scratch.options.clone())?;
    assert_eq!((ids(&cache).len(), cache.cache_size()?), (2, 15));
    Ok(())
}

fn damaged() -> Result<(), Failed> {
    let scratch = filled(DriverChoice::Sqlite);
    std::fs::write(scratch.file("cache.db"), b"this is no database").unwrap();
    forbid_all(&scratch.path());
    let cache = scratch.open();
    assert_eq!((ids(&cache).len(), cache.cache_size()?, cache.hit_count("1")?), (2, 15, 0));
    assert!(scratch.logged("earlier hits are unknown"), "{:?}", scratch.messages);
    assert_eq!(std::fs::read(scratch.file("cache.db")).unwrap(), b"this is no database");
    Ok(())
}

/// A new index is readable for those only who may write it.
fn unreadable() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = filled(DriverChoice::Sqlite);
    for name in ["cache.db", "cache.db-journal"] {
        let mode = std::fs::metadata(scratch.file(name)).unwrap().permissions().mode() & 0o777;
        assert!([0o600, 0o660].contains(&mode), "{name}: {mode:o}");
    }
    make_readable(scratch.path().parent().unwrap());
    std::fs::set_permissions(scratch.file("cache.db"), std::fs::Permissions::from_mode(0o600)).unwrap();
    become_nobody();
    let cache = scratch.open();
    assert_eq!((ids(&cache).len(), cache.cache_size()?, cache.hit_count("1")?), (2, 15, 0));
    assert_eq!(read_image(&cache, "1"), b"hello");
    Ok(())
}

fn index_alone() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = filled(DriverChoice::Sqlite);
    for part in [".", "incomplete", "invalid", "queue", ".image_cache", ".image_cache/lock"] {
        std::fs::set_permissions(scratch.file(part), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    std::fs::set_permissions(scratch.path().parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["cache.db", "cache.db-journal"] {
        std::fs::set_permissions(scratch.file(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let before = std::fs::read(scratch.file("cache.db")).unwrap();
    on_own_thread(|| {
        become_nobody();
        let cache = scratch.open();
        cache_image(&cache, "3", b"x");
        cache.delete_cached_image("2")?;
        assert_eq!(
            (ids(&cache), cache.hit_count("1")?, cache.cache_size()?),
            (vec!["1".to_owned(), "3".to_owned()], 0, 6)
        );
        Ok(())
    })?;
    assert_eq!(std::fs::read(scratch.file("cache.db")).unwrap(), before);
    assert_eq!(ids(&scratch.open()), ["1", "3"]);
    Ok(())
}
