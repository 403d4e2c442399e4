//! Caches that are filled before a measurement. This program creates the files itself, and the library adopts them at its
//! next open: a million commits would take too long.
//!
//! The images have a length but no blocks, so a million of them cost inodes only. Removing them is cheaper than removing
//! real ones, for the floor and for ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image_cache::{DriverChoice, ImageCache, Options};
use tempfile::TempDir;

use crate::bench::open_with_limit;
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
    prepared: BTreeMap<usize, Prepared>,
    scratches: usize,
}

/// A cache of many images, which its SQLite index has too, and a plain directory with files of the same names.
#[derive(Clone)]
pub struct Prepared {
    pub directory: PathBuf,
    pub plain: PathBuf,
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

    /// A cache of so many images, created once. A row that evicts from it calls [`Caches::replace_oldest`] afterwards.
    pub fn prepared(&mut self, count: usize) -> Result<Prepared> {
        if let Some(prepared) = self.prepared.get(&count) {
            return Ok(prepared.clone());
        }
        let needed = 2 * count as u64 + INODES_TO_SPARE;
        let status = rustix::fs::statvfs(self.root.path())?;
        if status.f_files != 0 && status.f_favail < needed {
            bail!("two directories of {count} files need {needed} inodes, and {} are free", status.f_favail);
        }
        eprintln!("  (creating a cache of {count} images, once)");
        let directory = self.root.path().join(format!("{count}-images"));
        let plain = self.root.path().join(format!("{count}-plain-files"));
        // Opened first: the library refuses a directory with files but without a cache's subdirectories.
        drop(ImageCache::open(&directory, Options::new())?);
        std::fs::create_dir(&plain)?;
        for target in [&directory, &plain] {
            fill(target, 0..count)?;
        }
        drop(ImageCache::open(&directory, Options::new())?);
        let prepared = Prepared { directory, plain, count, first: 0 };
        self.prepared.insert(count, prepared.clone());
        Ok(prepared)
    }

    /// Creates as many new images as were removed, in the cache and in its plain directory. The oldest were removed.
    pub fn replace_oldest(&mut self, count: usize, removed: usize) -> Result<()> {
        let prepared = self.prepared.get_mut(&count).context("no such cache was prepared")?;
        let end = prepared.first + prepared.count;
        for target in [&prepared.directory, &prepared.plain] {
            fill(target, end..end + removed)?;
        }
        prepared.first += removed;
        drop(ImageCache::open(&prepared.directory, Options::new())?);
        Ok(())
    }
}

impl Prepared {
    pub fn open(&self, driver: DriverChoice) -> Result<ImageCache> {
        open_with_limit(&self.directory, driver, u64::MAX)
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
        let prepared = Prepared { directory: PathBuf::new(), plain: PathBuf::new(), count: 100, first: 7 };
        let mut names = prepared.shuffled_names(1000);
        assert_ne!(names[0], name_of(7));
        names.sort();
        assert_eq!(names, (7..107).map(name_of).collect::<Vec<_>>());
    }
}
