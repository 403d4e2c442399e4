//! Rows, tables, triggers and totals that another program wrote: the listing is the directory's, whatever they hold.

use std::collections::BTreeMap;

use libtest_mimic::{Failed, Trial};

use crate::common::{Scratch, cache_image, ids, read_image};
use crate::fixture::Fixture;
use crate::mutation::is_full_run;
use image_cache::DriverChoice::Sqlite;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("rows::the_next_open_lists_the_directory_whatever_a_column_holds", values),
        Trial::test("rows::a_schema_that_another_program_changed_is_repaired_at_the_next_open", schemas),
        Trial::test("rows::what_another_program_writes_under_a_live_handle_is_repaired_or_an_index_error", live),
        Trial::test("rows::sizes_that_no_integer_can_add_up_do_not_keep_prune_from_its_limit", huge),
        Trial::test("rows::hits_do_not_overflow", hits),
        Trial::test("rows::totals_and_rows_that_were_written_by_hand_under_a_live_handle_are_compared_again", totals),
        Trial::test("rows::a_database_of_a_newer_version_is_left_as_it_is", newer),
    ]
}

const COLUMNS: [&str; 6] = ["image_id", "last_accessed", "last_modified", "size", "hits", "checksum"];

const VALUES: [&str; 26] = [
    "NULL",
    "0",
    "-1",
    "1",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1.5",
    "-0.0",
    "9e999",
    "-9e999",
    "9e999 - 9e999",
    "1e300",
    "''",
    "'text'",
    "'  7  '",
    "x''",
    "x'00ff'",
    "zeroblob(100000)",
    "CAST(x'ff' AS TEXT)",
    "CAST(x'6100' AS TEXT)",
    "'../../etc/passwd'",
    "'queue'",
    "'cache.db'",
    "'md5:00'",
    "'md5:d41d8cd98f00b204e9800998ecf8427e'",
];

/// Statements on one row, on all rows, and new rows.
fn updates() -> impl Iterator<Item = String> {
    COLUMNS.iter().flat_map(|column| VALUES.iter().map(move |value| (column, value))).flat_map(|(column, value)| {
        [
            format!("UPDATE cached_images SET {column} = {value} WHERE rowid = 1"),
            format!("UPDATE OR IGNORE cached_images SET {column} = {value}"),
            format!("INSERT OR IGNORE INTO cached_images ({column}) VALUES ({value})"),
        ]
    })
}

fn values() -> Result<(), Failed> {
    let step = if is_full_run() { 1 } else { 2 };
    sweep("values", 6, updates().step_by(step))
}

/// Runs each statement on a closed cache; the next open must repair it.
fn sweep(subject: &str, images: usize, statements: impl Iterator<Item = String>) -> Result<(), Failed> {
    let mut fixture = Fixture::new(images, "");
    fixture.is_edited = true;
    let (mut count, mut violations) = (0, Vec::new());
    for statement in statements {
        fixture.restore_with("", &[]);
        let database = rusqlite::Connection::open(fixture.file("cache.db")).unwrap();
        let done = database
            .execute_batch(&format!("PRAGMA writable_schema = ON; PRAGMA ignore_check_constraints = ON; {statement}"));
        drop(database);
        if let Err(error) = done {
            return Err(format!("{statement}: {error}").into());
        }
        count += 1;
        violations.extend(fixture.check(false).err().map(|violation| format!("{statement}: {violation}")));
    }
    println!("swept: {subject}: {count} statements, {} violations", violations.len());
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n").into()) }
}

const SCHEMAS: [&str; 31] = [
    "DROP TRIGGER image_cache_inserted",
    "DROP TRIGGER image_cache_deleted; DELETE FROM cached_images WHERE rowid = 2",
    "DROP TRIGGER image_cache_changed; UPDATE cached_images SET size = 1, image_id = image_id || 'x'",
    "DROP INDEX image_cache_by_use",
    "UPDATE cached_images SET hits = rowid; DROP INDEX image_cache_by_use; CREATE UNIQUE INDEX image_cache_by_use ON cached_images (hits)",
    "DROP INDEX image_cache_by_use; CREATE TABLE other (a); CREATE INDEX image_cache_by_use ON other (a)",
    "UPDATE cached_images SET size = rowid; CREATE UNIQUE INDEX no_two_of_a_size ON cached_images (size)",
    "CREATE INDEX dear ON cached_images (length(zeroblob(size + 100000000)))",
    "CREATE TRIGGER refuses BEFORE INSERT ON cached_images BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE TRIGGER ignores BEFORE INSERT ON cached_images BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER keeps BEFORE DELETE ON cached_images BEGIN SELECT RAISE(IGNORE); END;
     INSERT INTO cached_images (image_id) VALUES ('ghost')",
    "CREATE TRIGGER deletes AFTER INSERT ON cached_images BEGIN DELETE FROM cached_images; END",
    "CREATE TRIGGER deletes AFTER UPDATE ON cached_images BEGIN DELETE FROM cached_images; END",
    "CREATE TRIGGER lies AFTER UPDATE ON image_cache_state BEGIN UPDATE image_cache_state SET bytes = 7; END",
    "CREATE TRIGGER calls AFTER INSERT ON cached_images BEGIN SELECT load_extension('/tmp/x'); END",
    "CREATE TRIGGER endless AFTER INSERT ON cached_images BEGIN
         INSERT INTO cached_images (image_id) VALUES (hex(randomblob(16))); END",
    "DROP TABLE cached_images; CREATE VIEW cached_images AS SELECT 'ghost' AS image_id, 1.0 AS last_accessed,
         1.0 AS last_modified, 1 AS size, 1 AS hits, NULL AS checksum",
    "DROP TABLE cached_images; CREATE TABLE cached_images (image_id TEXT PRIMARY KEY)",
    "DROP TABLE cached_images; CREATE TABLE cached_images (image_id BLOB, last_accessed TEXT, last_modified TEXT,
         size TEXT, hits TEXT, checksum INTEGER)",
    "DROP TABLE cached_images; CREATE TABLE cached_images (image_id TEXT PRIMARY KEY COLLATE NOCASE, last_accessed REAL,
         last_modified REAL, size INTEGER, hits INTEGER, checksum TEXT)",
    "DROP TABLE cached_images; CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, last_accessed REAL,
         last_modified REAL, size INTEGER, hits INTEGER CHECK (hits > 5), checksum TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "DROP TABLE cached_images; CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, last_accessed REAL, last_modified REAL,
         size INTEGER, hits INTEGER GENERATED ALWAYS AS (7) VIRTUAL, checksum TEXT)",
    "ALTER TABLE cached_images ADD COLUMN more TEXT DEFAULT 'x'",
    "ALTER TABLE cached_images RENAME TO other",
    "ALTER TABLE cached_images DROP COLUMN checksum",
    "DROP TABLE image_cache_state; CREATE VIEW image_cache_state AS SELECT 1 AS id, 1 AS images, 1 AS bytes, 1 AS seal",
    "DROP TABLE image_cache_state; CREATE TABLE image_cache_state (id, images, bytes, seal)",
    "INSERT INTO image_cache_state VALUES (0, 5, 5, (SELECT seal FROM image_cache_state)), (2, 9, 9, 9)",
    "UPDATE image_cache_state SET seal = 'text', bytes = 'text', images = x'ff'",
    "UPDATE image_cache_state SET seal = 1.5",
    "UPDATE sqlite_schema SET sql = 'CREATE TABLE cached_images (' WHERE name = 'cached_images'",
];

fn schemas() -> Result<(), Failed> {
    let encodings = ["UTF-16le", "UTF-16be"].map(|encoding| {
        format!("PRAGMA journal_mode = DELETE; DROP TABLE cached_images; DROP TABLE image_cache_state; VACUUM; PRAGMA encoding = '{encoding}'")
    });
    let versions = [-1, 0, i64::from(i32::MIN)].map(|version| format!("PRAGMA user_version = {version}"));
    sweep("schemas", 6, SCHEMAS.iter().map(ToString::to_string).chain(encodings).chain(versions))
}

fn live() -> Result<(), Failed> {
    let mut fixture = Fixture::new(6, "");
    fixture.is_edited = true;
    let expected: BTreeMap<_, _> = fixture.bytes().collect();
    let (mut count, mut violations) = (0, Vec::new());
    let statements = updates().step_by(5).chain(SCHEMAS.iter().map(ToString::to_string));
    for statement in statements {
        fixture.restore_with("", &[]);
        let cache = fixture.open(u64::MAX)?;
        fixture.check_images(&cache, &expected)?;
        let database = rusqlite::Connection::open(fixture.file("cache.db")).unwrap();
        // The last change of the other program removes the stamp, so that the library compares the directory.
        let rest = "INSERT OR IGNORE INTO cached_images (image_id, size) VALUES ('ghost', 5)";
        let _ = database.execute_batch(&format!(
            "PRAGMA writable_schema = ON; PRAGMA ignore_check_constraints = ON; {statement}; {rest}"
        ));
        drop(database);
        count += 1;
        std::fs::write(fixture.file("0000-"), b"").unwrap();
        std::fs::remove_file(fixture.file("0000-")).unwrap();
        for (id, bytes) in &expected {
            if crate::fixture::read(&cache, id)? != *bytes {
                violations.push(format!("{statement}: {id} has other bytes"));
            }
        }
        // What cannot be repaired beside live handles is repaired at the next open.
        let _ = cache.list_cached();
        violations
            .extend(fixture.check_images(&cache, &expected).err().map(|violation| format!("{statement}: {violation}")));
        drop(cache);
        violations.extend(fixture.check(false).err().map(|violation| format!("{statement}, reopened: {violation}")));
    }
    println!("swept: live: {count} statements, {} violations", violations.len());
    if violations.is_empty() { Ok(()) } else { Err(violations.join("\n").into()) }
}

/// Sparse files, as large as the file system allows.
fn huge() -> Result<(), Failed> {
    let fixture = Fixture::new(2, "");
    let cache = fixture.open(100)?;
    for id in ["a", "b", "c"] {
        let file = std::fs::File::create(fixture.file(id)).unwrap();
        // The largest length that the file system takes.
        let length =
            (32..63).rev().map(|bits| (1_u64 << bits) - 1 + (1 << bits)).find(|length| file.set_len(*length).is_ok());
        println!("huge: {id} has {length:?} bytes");
    }
    let check = || {
        let sum: u128 = cache.list_cached()?.map(|image| u128::from(image.size)).sum();
        assert_eq!(u128::from(cache.cache_size()?), sum.min(u64::MAX.into()));
        image_cache::Result::Ok(())
    };
    check()?;
    cache_image(&cache, "d", b"12345");
    check()?;
    cache.delete_cached_image("a")?;
    check()?;
    cache.delete_cached_image("b")?;
    check()?;
    let pruned = cache.prune()?;
    assert!(pruned.images >= 1 && cache.cache_size()? <= 100);
    Ok(())
}

fn hits() -> Result<(), Failed> {
    let scratch = Scratch::new(Sqlite);
    let cache = scratch.open();
    cache_image(&cache, "1", b"x");
    scratch.database().execute_batch("UPDATE cached_images SET hits = 9223372036854775806").unwrap();
    for _ in 0..3 {
        read_image(&cache, "1");
    }
    assert_eq!(cache.hit_count("1")?, i64::MAX as u64);
    drop(cache);
    assert_eq!(scratch.open().hit_count("1")?, i64::MAX as u64);
    Ok(())
}

fn totals() -> Result<(), Failed> {
    for bytes in [0, -1, 1, i64::MAX] {
        let scratch = Scratch::new(Sqlite);
        let cache = scratch.open_with(scratch.options.clone().max_size(2));
        for id in ["1", "2", "3"] {
            cache_image(&cache, id, b"x");
        }
        let lies = [
            "UPDATE cached_images SET image_id = 'renamed' WHERE image_id = '1'".to_owned(),
            "UPDATE cached_images SET size = 7 WHERE image_id = '1'".to_owned(),
            "DELETE FROM cached_images WHERE image_id = '1'".to_owned(),
        ];
        for lie in lies {
            scratch.database().execute_batch(&lie).unwrap();
            assert_eq!((cache.cache_size()?, ids(&cache).concat()), (3, "123".to_owned()), "{lie}");
        }
        let totals = format!("UPDATE image_cache_state SET bytes = {bytes}, images = {bytes}");
        scratch.database().execute_batch(&totals).unwrap();
        drop(cache);
        let cache = scratch.open_with(scratch.options.clone().max_size(2));
        assert_eq!(cache.cache_size()?, 3, "totals are counted again at the next open");
        cache.prune()?;
        assert_eq!(ids(&cache).len(), 2);
    }
    Ok(())
}

fn newer() -> Result<(), Failed> {
    let mut fixture = Fixture::new(3, "");
    let database = rusqlite::Connection::open(fixture.file("cache.db")).unwrap();
    database.execute_batch("PRAGMA user_version = 2; CREATE TABLE future (a); PRAGMA journal_mode = DELETE").unwrap();
    drop(database);
    fixture.keep();
    for _ in 0..2 {
        let refused = fixture.open(0);
        assert!(matches!(refused, Err(image_cache::Error::Unsupported(_))), "{refused:?}");
        assert_eq!(std::fs::read(fixture.file("cache.db")).unwrap(), fixture.index["cache.db"]);
        fixture.has_all_files()?;
    }
    Ok(())
}
