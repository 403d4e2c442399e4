//! Caches that are filled before anything is measured. The files are created behind the library's back, which adopts them at
//! its next open: a million commits would take too long.
//!
//! The images have a length but no blocks, so that a million of them cost inodes only. That makes removing them cheaper than
//! it is for real ones, for the floor as well as for ours.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image_cache::{DriverChoice, ImageCache, Options};
use tempfile::TempDir;

use crate::floor::Directory;

/// The length of every prepared image.
pub const IMAGE_BYTES: u64 = 4096;

/// How many inodes are left alone, whatever is asked for.
const INODES_TO_SPARE: u64 = 100_000;

pub fn name_of(number: usize) -> String {
    format!("image-{number:07}")
}

/// The folder of one run, with all that was prepared in it.
pub struct Caches {
    root: TempDir,
    prepared: BTreeMap<usize, Prepared>,
    scratches: usize,
}

/// A cache of many images, whose SQLite index knows them; and a plain directory with files of the same names.
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
            .with_context(|| format!("no folder can be made in {}", parent.display()))?;
        Ok(Self { root, prepared: BTreeMap::new(), scratches: 0 })
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A place where nothing is yet.
    pub fn scratch(&mut self, name: &str) -> PathBuf {
        self.scratches += 1;
        self.root.path().join(format!("{name}-{}", self.scratches))
    }

    /// A cache of so many images. It is made once, and whoever changes it calls [`Caches::changed`].
    pub fn prepared(&mut self, count: usize) -> Result<Prepared> {
        if let Some(prepared) = self.prepared.get(&count) {
            return Ok(prepared.clone());
        }
        let needed = 2 * count as u64 + INODES_TO_SPARE;
        let status = rustix::fs::statvfs(self.root.path())?;
        if status.f_files != 0 && status.f_favail < needed {
            bail!("two directories of {count} files need {needed} inodes, and {} are free", status.f_favail);
        }
        eprintln!("  (making a cache of {count} images, once)");
        let directory = self.root.path().join(format!("{count}-images"));
        let plain = self.root.path().join(format!("{count}-plain-files"));
        // Opened first: a directory that has files, and none of a cache's folders, is refused.
        drop(ImageCache::open(&directory, Options::new())?);
        std::fs::create_dir(&plain)?;
        for folder in [&directory, &plain] {
            fill(folder, 0..count)?;
        }
        drop(ImageCache::open(&directory, Options::new())?);
        let prepared = Prepared { directory, plain, count, first: 0 };
        self.prepared.insert(count, prepared.clone());
        Ok(prepared)
    }

    /// The oldest images of a prepared cache and of its plain directory were removed: as many new ones take their place.
    pub fn replace_oldest(&mut self, count: usize, removed: usize) -> Result<()> {
        let prepared = self.prepared.get_mut(&count).context("no such cache was prepared")?;
        let end = prepared.first + prepared.count;
        for folder in [&prepared.directory, &prepared.plain] {
            fill(folder, end..end + removed)?;
        }
        prepared.first += removed;
        drop(ImageCache::open(&prepared.directory, Options::new())?);
        Ok(())
    }
}

impl Prepared {
    pub fn open(&self, driver: DriverChoice) -> Result<ImageCache> {
        Ok(ImageCache::open(&self.directory, Options::new().driver(driver).max_size(u64::MAX))?)
    }

    /// The names of at most `limit` of its images, shuffled, always in the same way.
    pub fn shuffled_names(&self, limit: usize) -> Vec<String> {
        let mut numbers: Vec<_> = (self.first..self.first + self.count).collect();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for index in 0..limit.min(numbers.len()) {
            // Marsaglia's xorshift: random enough to keep caches from guessing.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let other = index + usize::try_from(state).unwrap_or(usize::MAX) % (numbers.len() - index);
            numbers.swap(index, other);
        }
        numbers.truncate(limit);
        numbers.into_iter().map(name_of).collect()
    }

    /// Reads the images once, so that what is measured is not the kernel's first look at them.
    pub fn warm(&self, names: &[String]) -> Result<()> {
        let directory = Directory::open(&self.directory)?;
        let mut buffer = [0; IMAGE_BYTES as usize];
        names.iter().try_for_each(|name| directory.hit(name, &mut buffer))
    }
}

fn fill(folder: &Path, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        let path = folder.join(name_of(number));
        let file = File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
        file.set_len(IMAGE_BYTES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffled_names_are_all_there_and_each_once() {
        let prepared = Prepared { directory: PathBuf::new(), plain: PathBuf::new(), count: 100, first: 7 };
        let mut names = prepared.shuffled_names(1000);
        assert_ne!(names[0], name_of(7));
        names.sort();
        assert_eq!(names, (7..107).map(name_of).collect::<Vec<_>>());
    }
}
