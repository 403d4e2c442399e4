//! Where a sweep works: a folder in memory, if it keeps extended attributes there, and one on the disk otherwise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const MEMORY: &str = "/dev/shm";

/// A folder that removes itself.
pub struct Workspace(TempDir);

impl Workspace {
    pub fn new() -> io::Result<Self> {
        let in_memory = TempDir::new_in(MEMORY).ok().filter(|folder| has_attributes(folder.path()));
        in_memory.map_or_else(TempDir::new, Ok).map(Self)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path where nothing is.
    pub fn empty(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        self.remove(&path)?;
        Ok(path)
    }

    /// An empty folder, or the one that is there.
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

fn has_attributes(folder: &Path) -> bool {
    xattr::set(folder, "user.image_cache.probe", b"1").is_ok()
        && xattr::remove(folder, "user.image_cache.probe").is_ok()
}
