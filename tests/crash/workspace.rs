//! Where a sweep works: in memory, if extended attributes work there, otherwise on the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const MEMORY: &str = "/dev/shm";

/// A directory that removes itself.
pub struct Workspace(TempDir);

impl Workspace {
    pub fn new() -> io::Result<Self> {
        let in_memory = TempDir::new_in(MEMORY).ok().filter(|directory| has_attributes(directory.path()));
        in_memory.map_or_else(TempDir::new, Ok).map(Self)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path at which no file is.
    pub fn empty(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        self.remove(&path)?;
        Ok(path)
    }

    /// A directory, created where it does not exist.
    pub fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    #[allow(clippy::unused_self, reason = "what is removed is in this workspace")]
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub fn has_attributes(&self) -> bool {
        has_attributes(self.0.path())
    }
}

fn has_attributes(directory: &Path) -> bool {
    xattr::set(directory, "user.image_cache.probe", b"1").is_ok()
        && xattr::remove(directory, "user.image_cache.probe").is_ok()
}
