//! The context of every row: the sizes of this run, the caches and the report.

use std::path::{Path, PathBuf};

use anyhow::Result;
use image_cache::{DriverChoice, Durability, ImageCache, Options};

use crate::caches::{Caches, Prepared};
use crate::report::Report;

/// How much work a run is.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Numbers of images for the growth curves, ascending.
    pub counts: Vec<usize>,
    /// The number of images of a large cache: for hits, prune, and the open after a crash.
    pub large: usize,
    /// The number of images of the largest cache.
    pub largest: usize,
    /// The most images that a prune evicts.
    pub victims: usize,
    pub stream: usize,
    pub ingest: usize,
    /// The length of the file that a neighbour cleans.
    pub cleaned: usize,
    /// How long processes compete.
    pub seconds: f64,
    /// How often a large file is written.
    pub rounds: usize,
}

impl Sizes {
    pub fn full() -> Self {
        Self {
            counts: vec![1_000, 10_000, 100_000, 1_000_000],
            large: 100_000,
            largest: 1_000_000,
            victims: 10_000,
            stream: 1 << 30,
            ingest: 4 << 30,
            cleaned: 4 << 30,
            seconds: 10.0,
            rounds: 9,
        }
    }

    pub fn quick() -> Self {
        Self {
            counts: vec![1_000, 10_000],
            large: 10_000,
            largest: 10_000,
            victims: 1_000,
            stream: 64 << 20,
            ingest: 256 << 20,
            cleaned: 1 << 30,
            seconds: 1.0,
            rounds: 3,
        }
    }
}

/// A run.
pub struct Bench {
    pub sizes: Sizes,
    pub caches: Caches,
    pub report: Report,
    /// This program, for rows that start child processes.
    pub program: PathBuf,
}

pub const DRIVERS: [DriverChoice; 2] = [DriverChoice::Sqlite, DriverChoice::Xattr];

pub fn name_of_driver(driver: DriverChoice) -> &'static str {
    match driver {
        DriverChoice::Xattr => "xattr",
        _ => "sqlite",
    }
}

pub fn driver_of_name(name: &str) -> DriverChoice {
    if name == "xattr" { DriverChoice::Xattr } else { DriverChoice::Sqlite }
}

/// Opens a cache with the default options, except for these.
pub fn open_with_limit(directory: &Path, driver: DriverChoice, max_size: u64) -> Result<ImageCache> {
    Ok(ImageCache::open(directory, Options::new().driver(driver).max_size(max_size))?)
}

impl Bench {
    /// A cache of so many images. If it cannot be created, the row is skipped for this number.
    pub fn prepared_or_skip(&mut self, row: &str, count: usize, driver: DriverChoice) -> Option<Prepared> {
        self.caches
            .prepared(count, driver)
            .map_err(|error| {
                let what = format!("{row}, {} images, {}", with_commas(count), name_of_driver(driver));
                self.report.skip(what, format!("{error:#}"));
            })
            .ok()
    }

    /// A new, empty cache, and where it is.
    pub fn new_cache(&mut self, driver: DriverChoice, durability: Durability) -> Result<(ImageCache, PathBuf)> {
        self.new_cache_with(Options::new().driver(driver).durability(durability))
    }

    /// A new, empty cache with these options, and where it is.
    pub fn new_cache_with(&mut self, options: Options) -> Result<(ImageCache, PathBuf)> {
        let directory = self.caches.scratch("cache");
        Ok((ImageCache::open(&directory, options.max_size(u64::MAX))?, directory))
    }
}

/// 100000 as 100,000.
pub fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// 67108864 as 64 MiB.
pub fn in_binary(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| format!("{bytes} bytes"), |(size, name)| format!("{} {name}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(with_commas(999), "999");
        assert_eq!(with_commas(1_000_000), "1,000,000");
        assert_eq!(in_binary(64 << 20), "64 MiB");
        assert_eq!(in_binary(64 << 10), "64 KiB");
        assert_eq!(in_binary(1 << 30), "1 GiB");
    }
}
