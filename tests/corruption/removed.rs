//! A cache's directory, or a part of it, removed or replaced under a live handle. Each call works or returns an error,
//! the handle closes, and the replacement stays untouched.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use image_cache::{DriverChoice, Error, ImageCache, Result as CacheResult};
use libtest_mimic::{Failed, Trial};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::common::{DRIVERS, Scratch, cache_image, ids, read_image};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for driver in DRIVERS {
        for part in ["", "incomplete", "invalid", "queue", "1", "cache.db"] {
            let name = format!("removed::{driver:?}::{part:?}_removed_under_a_live_handle");
            trials.push(Trial::test(name, move || removed(driver, part)));
        }
        let name = format!("removed::{driver:?}::a_directory_that_moved_stays_the_handles_own");
        trials.push(Trial::test(name, move || moved(driver)));
        let name = format!("removed::{driver:?}::a_directory_put_in_its_place_is_not_touched");
        trials.push(Trial::test(name, move || replaced(driver)));
        let name = format!("removed::{driver:?}::an_empty_directory_put_in_its_place_stays_empty");
        trials.push(Trial::test(name, move || emptied(driver)));
    }
    for replacement in REPLACEMENTS {
        let name = format!("removed::Sqlite::a_live_handle_goes_on_with_an_index_that_is_{}", replacement.name());
        trials.push(Trial::test(name, move || index_replaced(replacement)));
    }
    let name = "removed::Sqlite::a_fifo_in_place_of_an_index_in_doubt_is_not_waited_for";
    trials.push(Trial::test(name, fifo_in_place_of_the_index));
    trials
}

/// Makes every call; each error has a message.
fn use_all(cache: &ImageCache) -> Result<(), Failed> {
    let mut failures = Vec::new();
    let mut note = |what: &str, result: CacheResult<()>| match result {
        Err(error) if error.to_string().len() < 10 => failures.push(what.to_owned()),
        _ => {}
    };
    for id in ["1", "2", "new"] {
        note("is_cached", cache.is_cached(id).map(drop));
        note("is_queued", cache.is_queued(id).map(drop));
        note("is_being_cached", cache.is_being_cached(id).map(drop));
        note("image_size", cache.image_size(id).map(drop));
        note("hit_count", cache.hit_count(id).map(drop));
        note("open_for_read", cache.open_for_read(id).map(drop));
        note("queue", cache.queue_image(id).map(drop));
        note(
            "write",
            cache.begin_write(id).and_then(|mut writer| writer.write_chunk(b"x").and_then(|()| writer.commit())),
        );
        note("delete_queued", cache.delete_queued_image(id));
    }
    note("list", cache.list_cached().map(drop));
    note("list_queued", cache.list_queued().map(drop));
    note("size", cache.cache_size().map(drop));
    note("prefetch", cache.prefetch(|_, writer| writer.write_chunk(b"x")).map(drop));
    note("prune", cache.prune().map(drop));
    note("clean", cache.clean(Some(Duration::ZERO)).map(drop));
    note("delete", cache.delete_cached_image("1"));
    note("delete_all_queued", cache.delete_all_queued_images().map(drop));
    note("delete_all", cache.delete_all_cached_images().map(drop));
    let mut delivered = Vec::new();
    cache.tee("tee", &b"the source's bytes"[..])?.read_to_end(&mut delivered).map_err(|error| error.to_string())?;
    assert_eq!(delivered, b"the source's bytes");
    if failures.is_empty() { Ok(()) } else { Err(failures.join(", ").into()) }
}

fn removed(driver: DriverChoice, part: &str) -> Result<(), Failed> {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    cache_image(&cache, "2", b"12345");
    let mut reader = cache.open_for_read("1")?;
    let mut writer = cache.begin_write("writing")?;
    writer.write_chunk(b"half")?;
    let gone = scratch.file(part);
    if gone.is_dir() {
        fs::remove_dir_all(&gone).unwrap();
    } else {
        let _ = fs::remove_file(&gone);
    }
    use_all(&cache)?;
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    assert_eq!(bytes, b"12345", "a reader goes on");
    drop(writer);
    drop(reader);
    drop(cache);
    // The next open works with what is left.
    let cache = scratch.open();
    cache_image(&cache, "fresh", b"fresh");
    assert_eq!(read_image(&cache, "fresh"), b"fresh");
    assert_eq!(cache.cache_size()?, cache.list_cached()?.map(|image| image.size).sum::<u64>());
    Ok(())
}

fn moved(driver: DriverChoice) -> Result<(), Failed> {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let elsewhere = scratch.path().with_file_name("elsewhere");
    fs::rename(scratch.path(), &elsewhere).unwrap();
    cache_image(&cache, "2", b"x");
    assert_eq!((ids(&cache).len(), cache.cache_size()?, read_image(&cache, "1")), (2, 6, b"12345".to_vec()));
    drop(cache);
    let cache = ImageCache::open(&elsewhere, scratch.options.clone())?;
    assert_eq!((ids(&cache).len(), cache.hit_count("1")?), (2, 1));
    Ok(())
}

fn emptied(driver: DriverChoice) -> Result<(), Failed> {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let elsewhere = scratch.path().with_file_name("elsewhere");
    fs::rename(scratch.path(), &elsewhere).unwrap();
    fs::create_dir(scratch.path()).unwrap();
    cache_image(&cache, "2", b"x");
    read_image(&cache, "1");
    assert_eq!((ids(&cache).len(), cache.hit_count("1")?), (2, 1));
    assert!(cache.delete_cached_image("2").is_ok() && cache.cache_size()? == 5);
    drop(cache);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let cache = ImageCache::open(&elsewhere, scratch.options.clone())?;
    assert_eq!((ids(&cache).len(), cache.hit_count("1")?), (1, 1));
    Ok(())
}

fn replaced(driver: DriverChoice) -> Result<(), Failed> {
    let scratch = Scratch::new(driver);
    let old = scratch.open();
    cache_image(&old, "1", b"old bytes");
    fs::rename(scratch.path(), scratch.path().with_file_name("elsewhere")).unwrap();
    let new = scratch.open();
    cache_image(&new, "1", b"new");
    read_image(&new, "1");
    assert_eq!(read_image(&old, "1"), b"old bytes");
    use_all(&old)?;
    drop(old);
    // The other cache's files must stay.
    assert_eq!((ids(&new), new.hit_count("1")?, new.cache_size()?), (vec!["1".to_owned()], 1, 3));
    if driver == DriverChoice::Sqlite {
        assert!(scratch.file("cache.db-journal").exists());
    }
    cache_image(&new, "2", b"x");
    drop(new);
    let cache = scratch.open();
    assert_eq!((ids(&cache).len(), cache.hit_count("1")?, cache.cache_size()?), (2, 1, 4));
    Ok(())
}

/// What becomes of the index under a live handle.
#[derive(Debug, Clone, Copy)]
enum Replacement {
    Removed,
    ReplacedByACopy,
    ReplacedByAnEmptyFile,
    ReplacedByAnotherHandles,
}

const REPLACEMENTS: [Replacement; 4] = [
    Replacement::Removed,
    Replacement::ReplacedByACopy,
    Replacement::ReplacedByAnEmptyFile,
    Replacement::ReplacedByAnotherHandles,
];

impl Replacement {
    fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::ReplacedByACopy => "replaced_by_a_copy",
            Self::ReplacedByAnEmptyFile => "replaced_by_an_empty_file",
            Self::ReplacedByAnotherHandles => "replaced_by_another_handles",
        }
    }
}

/// The handle need not be opened again: its lists, hits and totals are those of the directory and of the present index.
fn index_replaced(replacement: Replacement) -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    read_image(&cache, "1");
    assert_eq!(cache.hit_count("1")?, 1);
    let (index, other) = (scratch.file("cache.db"), scratch.file(".other"));
    let mut other_handle = None;
    match replacement {
        Replacement::Removed => fs::remove_file(&index).unwrap(),
        Replacement::ReplacedByACopy => {
            fs::copy(&index, &other).unwrap();
            fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
            fs::rename(&other, &index).unwrap();
        }
        Replacement::ReplacedByAnEmptyFile => {
            fs::File::create(&other).unwrap();
            fs::rename(&other, &index).unwrap();
        }
        Replacement::ReplacedByAnotherHandles => {
            fs::remove_file(&index).unwrap();
            let handle = scratch.open();
            cache_image(&handle, "other", b"123");
            other_handle = Some(handle);
        }
    }
    let kept = u64::from(matches!(replacement, Replacement::ReplacedByACopy));
    let others = usize::from(other_handle.is_some());
    assert_eq!((ids(&cache).len(), cache.hit_count("1")?), (1 + others, kept), "at once");
    cache_image(&cache, "2", b"1");
    read_image(&cache, "1");
    assert_eq!(cache.hit_count("1")?, kept + 1, "hits are counted again");
    let mode = fs::metadata(&index).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600, "who may only read the directory cannot lock the index");
    // All handles have one index.
    let next = scratch.open();
    assert_eq!(next.hit_count("1")?, kept + 1);
    for handle in [Some(&cache), other_handle.as_ref(), Some(&next)].into_iter().flatten() {
        assert_eq!(handle.cache_size()?, handle.list_cached()?.map(|image| image.size).sum::<u64>());
        assert_eq!(ids(handle).len(), 2 + others);
    }
    Ok(())
}

/// Another program changed rows, so the next query reads the whole index by its name.
fn fifo_in_place_of_the_index() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let index = scratch.file("cache.db");
    rusqlite::Connection::open(&index)?.execute("UPDATE cached_images SET size = size + 1", [])?;
    fs::remove_file(&index).unwrap();
    mknodat(CWD, &index, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let (ended, end) = mpsc::channel();
    // A call that hangs ends with the process.
    thread::spawn(move || {
        let listed = cache.list_cached().map(drop);
        let _ = ended.send((listed, cache.cache_size()));
    });
    let (listed, size) = end.recv_timeout(Duration::from_secs(30)).map_err(|_| "a query waits for the fifo")?;
    assert!(matches!(listed, Err(Error::Index { .. })), "{listed:?}");
    assert_eq!(size?, 5);
    Ok(())
}
