//! Extended attributes and times with impossible values.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use image_cache::DriverChoice;
use libtest_mimic::{Completion, Failed, Trial};

use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};

pub fn trials() -> Vec<Trial> {
    vec![
        with_attributes("nothing_is_evicted_for_an_image_that_cannot_be_removed", undeletable),
        with_attributes("hits_that_are_no_number_count_from_0", hits),
        with_attributes("a_malformed_digest_is_not_listed", digests),
        with_attributes("a_malformed_unsynced_mark_drops_its_image_only", marks),
        with_attributes("an_image_that_cannot_be_examined_is_not_dropped_and_stops_nothing", unexamined),
        with_attributes("a_torn_image_that_cannot_be_removed_is_not_served_and_dropped_later", unremovable),
        with_attributes("marks_of_a_process_that_died_are_removed_by_a_clean", marks_of_the_dead),
        with_attributes("many_unsynced_images_are_synced_at_the_close", || {
            many_marks();
            Ok(())
        }),
        with_attributes("times_in_the_future_and_before_the_epoch_are_listed_and_pruned_in_their_order", times),
        with_attributes("an_unreadable_image_is_listed_and_blocks_no_other", unreadable),
        with_attributes("a_directory_with_any_mtime_is_compared_once", directory_times),
    ]
}

fn with_attributes(name: &str, test: fn() -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(format!("attributes::{name}"), move || {
        let probe = tempfile::tempdir().unwrap();
        if xattr::set(probe.path(), "user.probe", b"1").is_err() {
            return Ok(Completion::ignored_with("no user attributes on this file system"));
        }
        test().map(|()| Completion::Completed)
    })
}

/// Values that an attribute can hold on this file system.
fn values() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        "",
        " ",
        "-1",
        "+",
        "0x10",
        "1e3",
        "18446744073709551615",
        "18446744073709551616",
        "1\n",
        "1\0",
        "٣",
        "md5:",
        "md5:00",
        "sha256:d41d8cd98f00b204e9800998ecf8427e",
        "none:d41d8cd98f00b204e9800998ecf8427e",
        "\u{7f}",
        "../../etc/passwd",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    values.push(vec![0xff; 3]);
    values.push(crate::mutation::noise(7).take(100).collect());
    values.extend([513, 1000, 3000, 4096, 65_535, 65_536].map(|length| vec![b'9'; length]));
    values
}

/// Sets the attribute, unless the value is too long for the file system.
fn set(scratch: &Scratch, name: &str, attribute: &str, value: &[u8]) -> bool {
    xattr::set(scratch.file(name), attribute, value).is_ok()
}

fn hits() -> Result<(), Failed> {
    let mut count = 0;
    for value in values() {
        let scratch = Scratch::new(DriverChoice::Xattr);
        let cache = scratch.open();
        cache_image(&cache, "1", b"x");
        if !set(&scratch, "1", "user.hits", &value) {
            continue;
        }
        count += 1;
        let parsed = std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        assert_eq!(cache.hit_count("1")?, parsed, "{value:?}");
        assert_eq!(cache.list_cached()?.next().unwrap().hits, parsed);
        assert_eq!(read_image(&cache, "1"), b"x");
        assert_eq!(cache.hit_count("1")?, parsed.saturating_add(1), "{value:?}");
    }
    println!("swept: attributes: {count} values of user.hits");
    Ok(())
}

fn digests() -> Result<(), Failed> {
    let mut count = 0;
    for value in values() {
        let scratch = Scratch::new(DriverChoice::Xattr);
        let cache = scratch.open();
        cache_image(&cache, "1", b"x");
        if set(&scratch, "1", "user.image_cache.digest", &value) {
            count += 1;
            assert_eq!(cache.list_cached()?.next().unwrap().digest, None, "{value:?}");
            assert_eq!(read_image(&cache, "1"), b"x");
        }
    }
    println!("swept: attributes: {count} values of user.image_cache.digest");
    Ok(())
}

fn marks() -> Result<(), Failed> {
    let mut count = 0;
    for driver in DRIVERS {
        for value in values() {
            let scratch = Scratch::new(driver);
            {
                let cache = scratch.open();
                cache_image(&cache, "1", b"x");
                cache_image(&cache, "2", b"y");
            }
            if !set(&scratch, ".image_cache", "user.image_cache.unsynced", &value)
                || !set(&scratch, "1", "user.image_cache.unsynced", &value)
            {
                continue;
            }
            count += 1;
            let cache = scratch.open();
            assert_eq!((ids(&cache), cache.cache_size()?), (vec!["2".to_owned()], 1), "{value:?}");
            assert!(scratch.logged("1 images that were not synced"));
        }
    }
    println!("swept: attributes: {count} values of user.image_cache.unsynced");
    Ok(())
}

const MARK: &str = "user.image_cache.unsynced";

fn mark(scratch: &Scratch, name: &str) -> Option<Vec<u8>> {
    xattr::get(scratch.file(name), MARK).unwrap()
}

/// Another user's image, which was committed with a sync, in a directory that is marked.
fn unexamined() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    if !crate::workspace::is_root() {
        return Ok(());
    }
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        {
            let cache = scratch.open();
            for id in ["private", "public", "torn"] {
                cache_image(&cache, id, b"12345");
            }
        }
        for name in [".image_cache", "torn"] {
            assert!(set(&scratch, name, MARK, b"an earlier boot"));
        }
        std::fs::set_permissions(scratch.file("private"), std::fs::Permissions::from_mode(0o600)).unwrap();
        for directory in ["incomplete", "invalid", "queue", ".", ".image_cache", ".image_cache/lock"] {
            std::fs::set_permissions(scratch.file(directory), std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let parent = scratch.path().parent().unwrap().to_owned();
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o755)).unwrap();
        crate::workspace::on_own_thread(|| {
            crate::workspace::become_nobody();
            let cache = scratch.open();
            assert_eq!(ids(&cache), ["private", "public"]);
            assert_eq!(read_image(&cache, "public"), b"12345");
            assert!(matches!(cache.open_for_read("private"), Err(image_cache::Error::System { .. })));
            Ok(())
        })?;
        assert!(!scratch.file("torn").exists() && scratch.file("private").exists());
        // Who may read it, decides.
        let cache = scratch.open();
        assert_eq!(read_image(&cache, "private"), b"12345");
        assert_eq!(ids(&cache), ["private", "public"]);
    }
    Ok(())
}

fn unremovable() -> Result<(), Failed> {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        {
            let cache = scratch.open();
            for id in ["stuck", "torn", "whole"] {
                cache_image(&cache, id, b"12345");
            }
        }
        for name in [".image_cache", "stuck", "torn"] {
            assert!(set(&scratch, name, MARK, b"00000000-0000-0000-0000-000000000000 1"));
        }
        if !set_immutable(&scratch, "stuck", true) {
            return Ok(());
        }
        let check = || -> Result<(), Failed> {
            let (first, second) = (scratch.open(), scratch.open());
            cache_image(&first, "new", b"12345");
            for cache in [&first, &second] {
                assert_eq!(ids(cache), ["new", "whole"]);
                assert!(matches!(cache.open_for_read("stuck"), Err(image_cache::Error::NotFound { .. })));
                assert_eq!((read_image(cache, "whole"), read_image(cache, "new")), (b"12345".into(), b"12345".into()));
            }
            drop(first);
            second.delete_cached_image("new")?;
            Ok(())
        };
        let checked = check().and_then(|()| check());
        assert!(set_immutable(&scratch, "stuck", false));
        checked?;
        assert_eq!(ids(&scratch.open()), ["whole"]);
        assert_eq!((mark(&scratch, "."), scratch.file("stuck").exists()), (None, false));
    }
    Ok(())
}

fn undeletable() -> Result<(), Failed> {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "fixed", &[b'x'; 100]);
        for id in ["1", "2", "3"] {
            cache_image(&cache, id, &[b'x'; 10]);
        }
        drop(cache);
        if !set_immutable(&scratch, "fixed", true) {
            return Ok(());
        }
        let prune = |limit| {
            let cache = scratch.open_with(scratch.options.clone().max_size(limit));
            (cache.prune(), ids(&cache))
        };
        let pruned = [prune(99), prune(115), prune(100)];
        assert!(set_immutable(&scratch, "fixed", false));
        let [(alone, all), (within, left), (exactly, fixed)] = pruned;
        assert!(matches!(&alone, Err(error) if error.to_string().contains("fixed")), "{alone:?}");
        assert_eq!(all, ["1", "2", "3", "fixed"], "in vain");
        assert_eq!((within?.images, left), (2, vec!["3".to_owned(), "fixed".to_owned()]));
        assert_eq!((exactly?.images, fixed), (1, vec!["fixed".to_owned()]));
    }
    Ok(())
}

/// False where that is not possible.
pub fn set_immutable(scratch: &Scratch, name: &str, is_immutable: bool) -> bool {
    let change = if is_immutable { "+i" } else { "-i" };
    let mut chattr = std::process::Command::new("chattr");
    let silent = chattr.arg(change).arg(scratch.file(name)).stderr(std::process::Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

fn marks_of_the_dead() -> Result<(), Failed> {
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        cache_image(&cache, "1", b"x");
        let present = mark(&scratch, "1").unwrap();
        drop(cache);
        // The state after a kill.
        for name in [".image_cache", "1"] {
            assert!(set(&scratch, name, MARK, &present));
        }
        let cache = scratch.open_with(scratch.options.clone().durability(image_cache::Durability::Full));
        cache.clean(None)?;
        assert_eq!((mark(&scratch, "1"), read_image(&cache, "1")), (None, b"x".into()));
    }
    Ok(())
}

fn many_marks() {
    const IMAGES: usize = 1100; // more than the library keeps the ids of
    let scratch = Scratch::new(DriverChoice::Xattr);
    let cache = scratch.open();
    for number in 0..IMAGES {
        cache_image(&cache, &number.to_string(), b"x");
    }
    assert!((0..IMAGES).all(|number| mark(&scratch, &number.to_string()).is_some()));
    drop(cache);
    assert!((0..IMAGES).all(|number| mark(&scratch, &number.to_string()).is_none()));
}

/// The range of times that file systems store, and beyond.
fn moments() -> Vec<SystemTime> {
    let epoch = SystemTime::UNIX_EPOCH;
    let far = [1, 1 << 31, 1 << 32, (1 << 33) + 5, 1 << 34, 15_000_000_000, 1 << 40];
    let after = far.iter().filter_map(|seconds| epoch.checked_add(Duration::from_secs(*seconds)));
    let before = far.iter().filter_map(|seconds| epoch.checked_sub(Duration::from_secs(*seconds)));
    let now = SystemTime::now();
    let near = [now, now + Duration::from_secs(60 * 60), now - Duration::from_secs(60 * 60)];
    after.chain(before).chain(near).chain([epoch]).collect()
}

fn set_times(scratch: &Scratch, name: &str, time: SystemTime) {
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    File::open(scratch.file(name)).unwrap().set_times(times).unwrap();
}

fn times() -> Result<(), Failed> {
    let mut count = 0;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let moments = moments();
        {
            let cache = scratch.open();
            for number in 0..moments.len() {
                cache_image(&cache, &format!("{number:02}"), b"x");
            }
        }
        // Without its index every image is a foreign file.
        let _ = std::fs::remove_file(scratch.file("cache.db"));
        for (number, moment) in moments.iter().enumerate() {
            set_times(&scratch, &format!("{number:02}"), *moment);
            count += 1;
        }
        let cache = scratch.open_with(scratch.options.clone().max_size(1));
        let mut listed: Vec<_> = cache.list_cached()?.collect();
        assert_eq!(listed.len(), moments.len());
        listed.sort_by_key(|image| (image.last_accessed, image.image_id.clone()));
        assert!(listed[0].last_accessed < 0 && listed.last().unwrap().last_accessed > 1 << 61);
        cache.prune()?;
        // One that lies in the future counts as accessed when it was stamped. That of the next hour was stamped last.
        let next_hour = format!("{:02}", moments.len() - 3);
        assert_eq!(ids(&cache), [next_hour.as_str()]);
        // An access replaces a time in the future.
        read_image(&cache, &next_hour);
        let used = cache.list_cached()?.next().unwrap().last_accessed;
        let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        assert!(used <= now + 1000 && used > now - 3_600_000_000_000, "{used}");
        for subdirectory in ["queue", "invalid", "incomplete"] {
            for (number, moment) in moments.iter().enumerate() {
                let name = format!("{subdirectory}/{number:02}x");
                std::fs::write(scratch.file(&name), b"").unwrap();
                set_times(&scratch, &name, *moment);
                count += 1;
            }
        }
        let queued = cache.list_queued()?;
        assert!(queued.len() == moments.len() && queued.is_sorted_by_key(|image| image.queued));
        cache.queue_image("later")?;
        assert_eq!(cache.delete_all_queued_images()?, moments.len() as u64 + 1);
        // A clean removes an incomplete file whose mtime is long ago. One in the future may be a live writer's, before whose time the
        // clock was set back: it must be seen like this for the stall time.
        let is_stalled = |moment: &&SystemTime| {
            SystemTime::now().duration_since(**moment).is_ok_and(|idle| idle > Duration::from_secs(24 * 60 * 60))
        };
        let stalled = moments.iter().filter(is_stalled).count();
        assert_eq!(cache.clean(None)?, (moments.len() + stalled) as u64);
        assert_eq!(cache.clean(Some(Duration::ZERO))?, (moments.len() - stalled) as u64);
    }
    println!("swept: attributes: {count} times");
    Ok(())
}

fn unreadable() -> Result<(), Failed> {
    use std::os::unix::fs::PermissionsExt as _;
    for driver in DRIVERS {
        let scratch = Scratch::new(driver);
        let cache = scratch.open();
        for id in ["1", "2"] {
            cache_image(&cache, id, b"12345");
        }
        std::fs::set_permissions(scratch.file("1"), std::fs::Permissions::from_mode(0o000)).unwrap();
        drop(cache);
        let work = || {
            if crate::workspace::is_root() {
                crate::workspace::make_readable(scratch.path().parent().unwrap());
                crate::workspace::become_nobody();
            }
            let cache = scratch.open();
            assert_eq!((ids(&cache).len(), cache.cache_size()?), (2, 10));
            assert!(cache.is_cached("1")?);
            assert!(matches!(cache.open_for_read("1"), Err(image_cache::Error::System { .. })));
            assert_eq!(read_image(&cache, "2"), b"12345");
            Ok(())
        };
        crate::workspace::on_own_thread(work)?;
    }
    Ok(())
}

/// A clock that stepped back leaves the directory with an mtime in the future.
fn directory_times() -> Result<(), Failed> {
    let mut count = 0;
    for moment in moments() {
        let scratch = Scratch::new(DriverChoice::Sqlite);
        let cache = scratch.open();
        cache_image(&cache, "1", b"x");
        std::fs::write(scratch.file("2"), b"yz").unwrap();
        set_times(&scratch, ".", moment);
        assert_eq!(cache.cache_size()?, 3, "{moment:?}");
        set_times(&scratch, ".", moment);
        cache_image(&cache, "3", b"w");
        assert_eq!((ids(&cache).len(), cache.cache_size()?), (3, 4), "{moment:?}");
        std::fs::remove_file(scratch.file("1")).unwrap();
        assert_eq!((ids(&cache).len(), cache.cache_size()?), (2, 3), "{moment:?}");
        drop(cache);
        set_times(&scratch, ".", moment);
        let cache = scratch.open();
        assert_eq!((ids(&cache).len(), cache.cache_size()?), (2, 3), "{moment:?}");
        drop(cache);
        scratch.messages.lock().unwrap().clear();
        scratch.open();
        assert_eq!(*scratch.messages.lock().unwrap(), Vec::<String>::new(), "{moment:?}");
        count += 1;
    }
    println!("swept: attributes: {count} times of the directory");
    Ok(())
}
