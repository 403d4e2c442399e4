//! Damage to the files that a killed process leaves beside the database (a journal, the write-ahead log of another program or of
//! the first version), and to all of them under a live handle.

use std::collections::BTreeMap;
use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::checks::INDEX_FILES;
use crate::child_process::ChildProcess;
use crate::common::cache_image;
use crate::fixture::{Fixture, read};
use crate::mutation::{Mutation, bytes, foreign_files, is_full_run, pages, sweep, truncations};

const PAGE: usize = 512;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("wal::damage_to_a_log_that_was_not_merged_is_repaired", log),
        Trial::test("wal::damage_to_a_journal_that_was_not_rolled_back_is_repaired", journal),
        Trial::test("wal::damage_under_a_live_handle_is_repaired_or_an_index_error", live),
    ]
}

/// Copies the index's files while a handle has them open, or within a transaction.
fn copy_index(fixture: &mut Fixture) {
    let copies = tempfile::tempdir().unwrap();
    for name in INDEX_FILES {
        let (from, to) = (fixture.file(name), copies.path().join(name));
        // Another process copies them: a close in this one would drop SQLite's locks.
        if from.exists() {
            ChildProcess::start("copy", &[from.to_str().unwrap(), to.to_str().unwrap()]);
        }
    }
    fixture.keep();
    fixture.index =
        INDEX_FILES.iter().filter_map(|name| Some((*name, fs::read(copies.path().join(name)).ok()?))).collect();
}

/// The index as the first version of this library left it when it was killed: in WAL mode, with a log.
fn log() -> Result<(), Failed> {
    let mut fixture = Fixture::new(8, &format!("PRAGMA page_size = {PAGE}; VACUUM;"));
    let database = rusqlite::Connection::open(fixture.file("cache.db")).unwrap();
    let changes = "PRAGMA journal_mode = WAL; UPDATE cached_images SET hits = hits + 1;
        DELETE FROM cached_images WHERE image_id LIKE '0001%'; UPDATE cached_images SET hits = hits + 3 WHERE size > 50;";
    database.execute_batch(changes).unwrap();
    copy_index(&mut fixture);
    drop(database);
    fixture.listed = fixture.open(u64::MAX)?.list_cached()?.collect();
    let original = fixture.index["cache.db-wal"].clone();
    let (header, frame) = (32, 24 + PAGE);
    assert!(original.len() > header + 5 * frame);
    let mut mutations = vec![Mutation { name: "nothing".to_owned(), bytes: original.clone() }];
    mutations.extend(bytes(&original, 0, header, 1, false));
    for start in (header..original.len()).step_by(frame * if is_full_run() { 1 } else { 6 }) {
        mutations.extend(bytes(&original, start, start + 24, 3, false));
    }
    mutations.extend(bytes(&original, header, original.len(), if is_full_run() { 1 } else { 211 }, false));
    let thin =
        |mutations: Vec<Mutation>, step: usize| mutations.into_iter().step_by(if is_full_run() { 1 } else { step });
    mutations.extend(thin(truncations(&original, frame, header), 3));
    mutations.extend(thin(pages(&original, frame, header), 7));
    mutations.extend(foreign_files(&[0x37, 0x7f, 0x06, 0x82]));
    sweep("hot log", &fixture, "cache.db-wal", &mutations, |_| false)?;
    // The same log, beside a damaged database.
    let database = fixture.index["cache.db"].clone();
    let mut mutations: Vec<_> = thin(truncations(&database, PAGE, 0), 4).collect();
    mutations.extend(thin(pages(&database, PAGE, 0), 5));
    mutations.extend(foreign_files(b"SQLite format 3\0").into_iter().step_by(4));
    sweep("hot log", &fixture, "cache.db", &mutations, |_| false)?;
    let shared_memory = fixture.index["cache.db-shm"].clone();
    let mut mutations = bytes(&shared_memory, 0, 136, 5, false);
    mutations.extend(bytes(&shared_memory, 136, shared_memory.len(), 1999, false));
    sweep("hot log", &fixture, "cache.db-shm", &mutations, |_| false)
}

fn journal() -> Result<(), Failed> {
    let mut fixture = Fixture::new(8, &format!("PRAGMA page_size = {PAGE}; VACUUM;"));
    let database = rusqlite::Connection::open(fixture.file("cache.db")).unwrap();
    // So small a cache that changed pages reach the file before the transaction ends.
    let change = "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN IMMEDIATE;
        UPDATE cached_images SET hits = 77; UPDATE cached_images SET size = 1, last_accessed = 5;
        INSERT INTO cached_images (image_id, size) VALUES ('ghost', 5);";
    database.execute_batch(change).unwrap();
    copy_index(&mut fixture);
    drop(database);
    let original = fixture.index["cache.db-journal"].clone();
    assert!(original.len() > 4 * PAGE);
    let mut mutations = bytes(&original, 0, 28, 1, false);
    mutations.extend(bytes(&original, 28, original.len(), if is_full_run() { 1 } else { 151 }, false));
    let record = PAGE + 8;
    let thin =
        |mutations: Vec<Mutation>, step: usize| mutations.into_iter().step_by(if is_full_run() { 1 } else { step });
    mutations.extend(thin(truncations(&original, record, PAGE), 3));
    mutations.extend(thin(pages(&original, record, PAGE), 5));
    mutations.extend(foreign_files(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]).into_iter().step_by(2));
    sweep("hot journal", &fixture, "cache.db-journal", &mutations, |_| false)
}

fn live() -> Result<(), Failed> {
    let fixture = Fixture::new(8, &format!("PRAGMA page_size = {PAGE}; VACUUM;"));
    let expected: BTreeMap<_, _> = fixture.bytes().collect();
    let (mut count, mut failed, mut violations) = (0, 0, Vec::new());
    let cases = if is_full_run() { 200 } else { 20 };
    for (name, stride) in [("cache.db", 389), ("cache.db-journal", 467)] {
        for case in 0..cases {
            fixture.restore_with("", &[]);
            let cache = fixture.open(u64::MAX)?;
            cache_image(&cache, "passing", b"passing");
            cache.delete_cached_image("passing")?;
            let length = usize::try_from(fs::metadata(fixture.file(name)).unwrap().len()).unwrap();
            let offset = (case * stride % length).to_string();
            ChildProcess::start("write", &[fixture.file(name).to_str().unwrap(), &offset, "255"]);
            count += 1;
            let context = |what: String| format!("byte {offset} of {name}: {what}");
            for (id, bytes) in &expected {
                match read(&cache, id) {
                    Ok(read) if read == *bytes => {}
                    other => violations.push(context(format!("{id}: {other:?}"))),
                }
            }
            // An index error is returned, and does not keep images from being cached and deleted.
            for _ in 0..3 {
                match cache.list_cached() {
                    Ok(_) => {}
                    Err(image_cache::Error::Index { .. }) => failed += 1,
                    Err(error) => violations.push(context(error.to_string())),
                }
            }
            cache_image(&cache, "passing", b"passing");
            cache.delete_cached_image("passing")?;
            drop(cache);
            fixture.messages();
            let reopened = fixture.open(u64::MAX).map_err(|error| error.to_string());
            violations.extend(reopened.and_then(|cache| fixture.check_images(&cache, &expected)).err().map(context));
        }
    }
    println!("swept: live: {count} bytes changed, {failed} listings failed, {} violations", violations.len());
    violations.truncate(12);
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n").into()) }
}
