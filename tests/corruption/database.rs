//! Damage of every kind to a closed cache's database: the open repairs it, or refuses it as one of a newer version.

use libtest_mimic::{Failed, Trial};

use crate::fixture::Fixture;
use crate::mutation::{Mutation, bytes, foreign_files, is_full_run, pages, sweep, truncations};

const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER: usize = 100;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("database::damage_to_a_database_of_large_pages_is_repaired", || damage(8, 4096)),
        // So small that tables, indexes and the schema have inner pages.
        Trial::test("database::damage_to_a_database_of_small_pages_is_repaired", || damage(16, 512)),
    ]
}

fn damage(images: usize, page: usize) -> Result<(), Failed> {
    let fixture = Fixture::new(images, &format!("PRAGMA page_size = {page}; VACUUM;"));
    let original = &fixture.index["cache.db"];
    assert_eq!(original.len() % page, 0);
    let mut mutations = vec![Mutation { name: "nothing".to_owned(), bytes: original.clone() }];
    mutations.extend(bytes(original, 0, HEADER, 1, is_full_run() || page == 512));
    let stride = if is_full_run() { 1 } else { 61 };
    mutations.extend(bytes(original, HEADER, original.len(), stride, false));
    mutations.extend(truncations(original, page, 0));
    mutations.extend(pages(original, page, 0));
    mutations.extend(foreign_files(MAGIC));
    sweep(&format!("pages of {page}"), &fixture, "cache.db", &mutations, is_newer)
}

/// Whether the bytes declare a newer schema version.
fn is_newer(mutation: &Mutation) -> bool {
    let version = mutation.bytes.get(60..64).and_then(|bytes| bytes.try_into().ok());
    mutation.bytes.starts_with(MAGIC) && version.is_some_and(|bytes| i32::from_be_bytes(bytes) > 1)
}
