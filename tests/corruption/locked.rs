//! A database that another process has locked. It is never waited for. Images are read, cached and deleted, and the index is
//! repaired when the lock is gone.

use image_cache::{DriverChoice, Error};
use libtest_mimic::{Failed, Trial};

use crate::child_process::ChildProcess;
use crate::common::{Scratch, cache_image, ids, read_image};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("locked::a_live_handle_goes_on_beside_a_transaction_that_does_not_end", live),
        Trial::test("locked::a_live_handle_reads_beside_a_transaction_that_has_not_written", reads),
        Trial::test("locked::a_prune_between_transactions_of_another_program_is_not_interrupted", prune),
        Trial::test("locked::a_cache_whose_index_is_locked_opens_without_it", open),
    ]
}

fn live() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().max_size(7));
    cache_image(&cache, "1", b"12345");
    cache_image(&cache, "2", b"12345");
    let database = scratch.file("cache.db");
    let other = ChildProcess::start("lock", &[database.to_str().unwrap(), "BEGIN EXCLUSIVE"]);
    for _ in 0..3 {
        assert_eq!(read_image(&cache, "1"), b"12345");
    }
    // With its rollback journal, the index can neither be read nor written now.
    is_locked(cache.hit_count("1"))?;
    is_locked(cache.list_cached())?;
    cache_image(&cache, "3", b"12345");
    cache.delete_cached_image("2")?;
    is_locked(cache.list_cached())?;
    assert_eq!(cache.cache_size()?, 10, "by the directory");
    assert_eq!(cache.prune()?.images, 1, "by the files' times of access");
    assert!(cache.queue_image("4")? && cache.is_cached("3")?);
    drop(other);
    assert_eq!((ids(&cache), cache.cache_size()?), (vec!["3".to_owned()], 5));
    drop(cache);
    assert_eq!(ids(&scratch.open()), ["3"]);
    Ok(())
}

fn is_locked<T: std::fmt::Debug>(result: image_cache::Result<T>) -> Result<(), Failed> {
    match result {
        Err(Error::Index { cause, .. }) if cause.contains("locked") => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn reads() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    cache_image(&cache, "1", b"12345");
    let database = scratch.file("cache.db");
    let other = ChildProcess::start("lock", &[database.to_str().unwrap(), "BEGIN IMMEDIATE"]);
    for _ in 0..3 {
        assert_eq!(read_image(&cache, "1"), b"12345");
    }
    assert_eq!((cache.hit_count("1")?, ids(&cache), cache.cache_size()?), (3, vec!["1".to_owned()], 5));
    drop(other);
    drop(cache);
    assert_eq!(scratch.open().hit_count("1")?, 3);
    Ok(())
}

/// Each of these prunes reads the order of access in many batches: all but the last images are in use.
fn prune() -> Result<(), Failed> {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open();
    let images: Vec<_> = (0..300).map(|number| format!("{number:03}")).collect();
    let mut readers = Vec::new();
    for id in &images {
        cache_image(&cache, id, b"12345");
        readers.push(cache.open_for_read(id)?);
    }
    let database = scratch.file("cache.db");
    let _other = ChildProcess::start("lock repeatedly", &[database.to_str().unwrap()]);
    for _ in 0..80 {
        cache.prune_to(5 * 299)?;
        cache.statistics()?;
        assert!(ids_in(&scratch) == images.len(), "all are in use");
    }
    Ok(())
}

fn ids_in(scratch: &Scratch) -> usize {
    std::fs::read_dir(scratch.path()).unwrap().filter(|entry| entry.as_ref().unwrap().file_name().len() == 3).count()
}

fn open() -> Result<(), Failed> {
    for statements in
        ["BEGIN EXCLUSIVE", "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; UPDATE cached_images SET hits = 7"]
    {
        let scratch = Scratch::new(DriverChoice::Sqlite);
        cache_image(&scratch.open(), "1", b"12345");
        let database = scratch.file("cache.db");
        let other = ChildProcess::start("lock", &[database.to_str().unwrap(), statements]);
        let cache = scratch.open();
        assert!(scratch.logged("locked by another program"), "{statements}: {:?}", scratch.messages);
        let logged = scratch.messages.lock().unwrap().len();
        assert_eq!(read_image(&cache, "1"), b"12345");
        is_locked(cache.list_cached())?;
        cache_image(&cache, "2", b"x");
        assert_eq!(cache.cache_size()?, 6, "by the directory");
        assert!(cache.is_cached("2")?);
        let again =
            scratch.messages.lock().unwrap()[logged..].iter().filter(|text| text.contains("until then")).count();
        assert_eq!(again, 0, "{statements}: {:?}", scratch.messages);
        drop(other);
        assert_eq!((ids(&cache), cache.hit_count("1")?), (vec!["1".to_owned(), "2".to_owned()], 1), "{statements}");
        drop(cache);
        assert_eq!(ids(&scratch.open()), ["1", "2"]);
    }
    Ok(())
}
