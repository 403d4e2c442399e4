//! A database that another process has locked for longer than the busy timeout. Images are read, cached and deleted,
//! and the index is repaired when the lock is gone.

use image_cache::{DriverChoice, Error, ImageCache};
use libtest_mimic::{Failed, Trial};

use crate::child_process::ChildProcess;
use crate::common::{Scratch, cache_image, ids, read_image};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("locked::a_live_handle_goes_on_beside_a_transaction_that_does_not_end", live),
        Trial::test("locked::an_open_of_a_locked_index_is_an_index_error_and_changes_nothing", || {
            open();
            Ok(())
        }),
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
    assert_eq!(cache.hit_count("1")?, 3);
    assert_eq!(ids(&cache), ["1", "2"], "what is listed needs no write");
    cache_image(&cache, "3", b"12345");
    cache.delete_cached_image("2")?;
    // A listing must write now.
    assert!(matches!(cache.list_cached(), Err(Error::Index { .. })));
    assert_eq!(cache.cache_size()?, 10, "by the directory");
    assert_eq!(cache.prune()?.images, 1, "by the files' times of access");
    assert!(cache.queue_image("4")? && cache.is_cached("3")?);
    drop(other);
    assert_eq!((ids(&cache), cache.cache_size()?), (vec!["3".to_owned()], 5));
    drop(cache);
    assert_eq!(ids(&scratch.open()), ["3"]);
    Ok(())
}

fn open() {
    let scratch = Scratch::new(DriverChoice::Sqlite);
    cache_image(&scratch.open(), "1", b"12345");
    let database = scratch.file("cache.db");
    let other =
        ChildProcess::start("lock", &[database.to_str().unwrap(), "PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE"]);
    let refused = ImageCache::open(scratch.path(), scratch.options.clone());
    assert!(matches!(&refused, Err(Error::Index { cause, .. }) if cause.contains("locked")), "{refused:?}");
    drop(other);
    let cache = scratch.open();
    assert_eq!((ids(&cache), read_image(&cache, "1")), (vec!["1".to_owned()], b"12345".to_vec()));
}
