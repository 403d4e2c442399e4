//! Caches that are filled before a measurement. This program creates the files itself, and the library adopts them at its
//! next open: a million commits would take too long.
//!
//! The images have a length but no blocks, so a million of them cost inodes only. Removing them is cheaper than removing
//! real ones, for the floor and for ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image_cache::{DriverChoice, ImageCache};
use tempfile::TempDir;

use crate::bench::{name_of_driver, open_with_limit};
use crate::floor::Directory;
use crate::random::Random;

/// The length of every prepared image.
pub const IMAGE_BYTES: u64 = 4096;

/// How many inodes always stay free.
const INODES_TO_SPARE: u64 = 100_000;

pub fn name_of(number: usize) -> String {
    format!("image-{number:07}")
}

/// The directory of one run, and the caches prepared in it.
pub struct Caches {
    root: TempDir,
    /// By the number of images and the driver's name.
    prepared: BTreeMap<(usize, &'static str), Prepared>,
    scratches: usize,
}

/// A cache of many images, and a plain directory with files of the same names.
#[derive(Clone)]
pub struct Prepared {
    pub directory: PathBuf,
    pub plain: PathBuf,
    pub driver: DriverChoice,
    pub count: usize,
    /// The images are `first..first + count`, and were created in that order.
    pub first: usize,
}

impl Caches {
    pub fn new(parent: &Path) -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("image-cache-bench-")
            .tempdir_in(parent)
            .with_context(|| format!("creating a directory in {}", parent.display()))?;
        Ok(Self { root, prepared: BTreeMap::new(), scratches: 0 })
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path that does not exist yet.
    pub fn scratch(&mut self, name: &str) -> PathBuf {
        self.scratches += 1;
        self.root.path().join(format!("{name}-{}", self.scratches))
    }

    /// A cache of so many images, created once for each driver. A row that evicts from it calls [`Caches::replace_oldest`] afterwards.
    pub fn prepared(&mut self, count: usize, driver: DriverChoice) -> Result<Prepared> {
        let who = name_of_driver(driver);
        if let Some(prepared) = self.prepared.get(&(count, who)) {
            return Ok(prepared.clone());
        }
        let needed = 2 * count as u64 + INODES_TO_SPARE;
        let status = rustix::fs::statvfs(self.root.path())?;
        if status.f_files != 0 && status.f_favail < needed {
            bail!("two directories of {count} files need {needed} inodes, and {} are free", status.f_favail);
        }
        eprintln!("  (creating a cache of {count} images, {who}, once)");
        let directory = self.root.path().join(format!("{count}-images-{who}"));
        let plain = self.root.path().join(format!("{count}-plain-files-{who}"));
        // Opened first: the library refuses a directory with files but without a cache's subdirectories.
        drop(open_with_limit(&directory, driver, u64::MAX)?);
        std::fs::create_dir(&plain)?;
        for target in [&directory, &plain] {
            fill(target, 0..count)?;
        }
        let prepared = Prepared { directory, plain, driver, count, first: 0 };
        drop(prepared.open()?);
        self.prepared.insert((count, who), prepared.clone());
        Ok(prepared)
    }

    /// Creates as many new images as were removed, in the cache and in its plain directory. The oldest were removed.
    pub fn replace_oldest(&mut self, count: usize, driver: DriverChoice, removed: usize) -> Result<()> {
        let prepared = self.prepared.get_mut(&(count, name_of_driver(driver))).context("no such cache was prepared")?;
        let end = prepared.first + prepared.count;
        for target in [&prepared.directory, &prepared.plain] {
            fill(target, end..end + removed)?;
        }
        prepared.first += removed;
        drop(prepared.open()?);
        Ok(())
    }
}

impl Prepared {
    pub fn open(&self) -> Result<ImageCache> {
        open_with_limit(&self.directory, self.driver, u64::MAX)
    }

    /// The names of at most `limit` of its images, in the same random order at each run.
    pub fn shuffled_names(&self, limit: usize) -> Vec<String> {
        let mut numbers: Vec<_> = (self.first..self.first + self.count).collect();
        let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
        for index in 0..limit.min(numbers.len()) {
            let other = index + usize::try_from(random.number()).unwrap_or(usize::MAX) % (numbers.len() - index);
            numbers.swap(index, other);
        }
        numbers.truncate(limit);
        numbers.into_iter().map(name_of).collect()
    }

    /// Reads the images once, so that the measurement finds their inodes in the kernel's caches.
    pub fn warm(&self, names: &[String]) -> Result<()> {
        let directory = Directory::open(&self.directory)?;
        let mut buffer = [0; IMAGE_BYTES as usize];
        names.iter().try_for_each(|name| directory.hit(name, &mut buffer))
    }
}

fn fill(directory: &Path, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        let path = directory.join(name_of(number));
        let file = File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
        file.set_len(IMAGE_BYTES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_names_contain_each_name_once() {
        let driver = DriverChoice::Sqlite;
        let prepared = Prepared { directory: PathBuf::new(), plain: PathBuf::new(), driver, count: 100, first: 7 };
        let mut names = prepared.shuffled_names(1000);
        assert_ne!(names[0], name_of(7));
        names.sort();
        assert_eq!(names, (7..107).map(name_of).collect::<Vec<_>>());
    }
}
