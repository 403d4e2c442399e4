//! The index is a copy of the directory, which is the truth. Copies of a cache, restored times, and other programs leave an
//! index that looks current and is not. What is listed and counted must be what is there.

mod copies;
mod racing;
mod restored;
mod surgery;

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, IMAGE_CACHE_ERROR_ALREADY_CACHED, IMAGE_CACHE_ERROR_NOT_FOUND, Settings, status};
use crate::fixture::{LENGTH, bytes};

const KIND: &str = "the_index_is_believed";

pub use racing::TASKS;

pub fn trials() -> Vec<Trial> {
    [copies::trials(), restored::trials(), surgery::trials(), racing::trials()].into_iter().flatten().collect()
}

/// The images of a cache that is damaged, least recently used first.
const IMAGES: [&str; 4] = ["1", "2", "3", "4"];
const TOTAL: u64 = 4 * LENGTH;

/// An operation with its name, which checks its own outcome.
type Meeting = (&'static str, fn(&Cache) -> Result<(), String>);

/// What another program did to a cache behind the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// Image 2 has no file.
    Phantom,
    /// Image 9 has a file of 77 bytes, and no row.
    Orphan,
    /// Image 2 has 10 bytes.
    Length,
}

impl Damage {
    const ORPHAN: u64 = 77;
    const SHORT: u64 = 10;

    /// The size of all files afterwards.
    fn total(self) -> u64 {
        match self {
            Self::Phantom => TOTAL - LENGTH,
            Self::Orphan => TOTAL + Self::ORPHAN,
            Self::Length => TOTAL - LENGTH + Self::SHORT,
        }
    }

    /// The operations that meet it.
    fn meetings(self) -> Vec<Meeting> {
        let clean: Meeting = ("clean", |cache| expect("clean", &cache.clean(), &Ok(0)));
        match self {
            Self::Phantom => vec![
                clean,
                ("open_for_read", |cache| missing("open_for_read", status(&cache.open_for_read("2")))),
                ("get_image_size", |cache| missing("get_image_size", status(&cache.image_size("2")))),
                ("delete", |cache| expect("delete", &cache.delete("2"), &Ok(()))),
                ("commit", |cache| expect("commit", &cache.put("2", &bytes("2", 333)), &Ok(()))),
            ],
            Self::Orphan => vec![
                clean,
                ("open_for_read", |cache| {
                    expect("open_for_read", &cache.open_for_read("9").map(|reader| reader.size()), &Ok(Self::ORPHAN))
                }),
                ("get_image_size", |cache| expect("get_image_size", &cache.image_size("9"), &Ok(Self::ORPHAN))),
                ("delete", |cache| expect("delete", &cache.delete("9"), &Ok(()))),
                ("begin_write", |cache| {
                    expect("begin_write", &status(&cache.begin("9")), &IMAGE_CACHE_ERROR_ALREADY_CACHED)
                }),
            ],
            Self::Length => vec![
                clean,
                // It is not the length at the commit.
                ("open_for_read", |cache| missing("open_for_read", status(&cache.open_for_read("2")))),
                ("get_image_size", |cache| expect("get_image_size", &cache.image_size("2"), &Ok(Self::SHORT))),
                ("delete", |cache| expect("delete", &cache.delete("2"), &Ok(()))),
            ],
        }
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(call: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{call} returned {actual:?} instead of {expected:?}")) }
}

fn missing(call: &str, status: i32) -> Result<(), String> {
    expect(call, &status, &IMAGE_CACHE_ERROR_NOT_FOUND)
}

/// A prune to the real total evicts nothing; one to a byte less evicts one image that was there. The cache is closed.
fn check_prune(settings: &Settings, directory: &std::path::Path) -> Result<(), Failed> {
    let before = crate::fixture::files(directory);
    let total: u64 = before.values().sum();
    let pruned = settings.clone().max_size(total).open(directory)?.prune()?;
    if pruned != (0, 0) || crate::fixture::files(directory) != before {
        let left = crate::fixture::files(directory);
        return Err(format!("a prune to the real total, {total}, evicted {pruned:?}; {before:?} -> {left:?}").into());
    }
    let cache = settings.clone().max_size(total - 1).open(directory)?;
    let pruned = cache.prune()?;
    let after = crate::fixture::files(directory);
    let gone: Vec<_> = before.iter().filter(|(id, _)| !after.contains_key(*id)).collect();
    let bytes = gone.iter().map(|(_, length)| **length).sum();
    if gone.len() != 1 || pruned != (1, bytes) {
        return Err(format!("a prune to the real total less 1 returned {pruned:?}, and {gone:?} went").into());
    }
    Ok(crate::fixture::compare(&cache, directory)?)
}
