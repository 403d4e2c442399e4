//! Adds up what a cache takes up on the disk, as `du` and the kernel show it.
//!
//! It takes the cache lock, as a program of ours does: then no name moves, and no reservation is decided. Whatever is allocated
//! meanwhile was decided before, within the limit. So a sum that exceeds the limit is a violation, at any moment.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::blocks::allocated;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The bytes of the cache lock, and of the prune lock.
const CACHE: i64 = 0;
const PRUNE: i64 = 1;

/// One sample, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// By files of images that have a name.
    pub named: u64,
    /// By files without one that a process has open.
    pub nameless: u64,
    /// What the file system has free.
    pub free: u64,
}

impl Sample {
    pub fn total(self) -> u64 {
        self.named + self.nameless
    }
}

pub struct Sampler {
    cache: PathBuf,
    lock: File,
    /// What the last sample found without a name.
    nameless: Vec<Nameless>,
}

/// A file without a name that a process has open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nameless {
    inode: u64,
    bytes: u64,
    former_path: PathBuf,
    process: u32,
}

impl Sampler {
    pub fn new(cache: &Path) -> Self {
        let lock = File::options().read(true).write(true).open(cache.join(".image_cache/lock")).unwrap();
        Self { cache: cache.to_owned(), lock, nameless: Vec::new() }
    }

    pub fn nameless(&self) -> &[Nameless] {
        &self.nameless
    }

    /// `None` while another process has the cache lock. `processes`: whose open files count.
    pub fn sample(&mut self, processes: &[u32]) -> Option<Sample> {
        self.set_lock(CACHE, nix::libc::F_WRLCK).then(|| {
            let named = allocated(&self.cache);
            let mut nameless: Vec<_> = processes.iter().flat_map(|process| self.nameless_of(*process)).collect();
            let space = statvfs(&self.cache).unwrap();
            self.set_lock(CACHE, nix::libc::F_UNLCK);
            nameless.sort_unstable();
            nameless.dedup_by_key(|file| file.inode);
            self.nameless = nameless;
            let nameless = self.nameless.iter().map(|file| file.bytes).sum();
            Sample { named, nameless, free: space.f_bavail * space.f_frsize }
        })
    }

    /// Fills the disk as another program does: a file of so many bytes, or as many as there are. Under the prune lock, so that no
    /// reservation is in flight. `None` while another process has that lock.
    pub fn fill(&mut self, file: &Path, bytes: u64) -> Option<Sample> {
        if !self.set_lock(PRUNE, nix::libc::F_WRLCK) {
            return None;
        }
        let file = File::create(file).unwrap();
        let free = statvfs(&self.cache).map(|space| space.f_bavail * space.f_frsize).unwrap();
        let bytes = bytes.min(free);
        // The index may have taken some of it meanwhile: then less is filled.
        let sizes = (0..=bytes).rev().step_by(1 << 20);
        let fits = |size: &u64| *size == 0 || fallocate(&file, FallocateFlags::empty(), 0, *size).is_ok();
        let _ = sizes.into_iter().find(fits);
        let sample = loop {
            if let Some(sample) = self.sample(&[]) {
                break sample;
            }
        };
        self.set_lock(PRUNE, nix::libc::F_UNLCK);
        Some(sample)
    }

    fn set_lock(&self, byte: i64, kind: i32) -> bool {
        let lock =
            nix::libc::flock { l_type: kind.try_into().unwrap(), l_whence: 0, l_start: byte, l_len: 1, l_pid: 0 };
        nix::fcntl::fcntl(&self.lock, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).is_ok()
    }

    fn nameless_of(&self, process: u32) -> Vec<Nameless> {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
        let nameless = descriptors.flatten().filter_map(|entry| {
            let descriptor = entry.path();
            let former_path = std::fs::read_link(&descriptor).ok()?;
            let is_ours = former_path.starts_with(&self.cache)
                && former_path.to_string_lossy().ends_with(" (deleted)")
                && !former_path.starts_with(self.cache.join(".image_cache/streams"));
            let stat = is_ours.then(|| std::fs::metadata(&descriptor).ok()).flatten()?;
            Some(Nameless { inode: stat.ino(), bytes: stat.blocks() * 512, former_path, process })
        });
        nameless.collect()
    }
}
