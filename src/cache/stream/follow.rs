//! The file of a writer or tee, as streams follow it while it grows.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use crate::cache::stream::waiting::Waiters;
use crate::digest::algorithm::Algorithm;
use crate::error::{Error, Result};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::sys::file;
use crate::sys::stat::{FileId, presence};

/// A writer's incomplete file, open for reading.
#[derive(Debug)]
pub(crate) struct FollowedFile {
    pub file: File,
    pub file_id: FileId,
    path: PathBuf,
    waiters: Waiters,
}

/// What became of a file whose last bytes were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Growing,
    Published,
    /// The writer gave it up, or it was replaced.
    Gone,
}

impl FollowedFile {
    pub fn new(file: File, file_id: FileId, path: PathBuf) -> Self {
        Self { file, file_id, path, waiters: Waiters::default() }
    }

    /// Reads bytes that were written; 0 at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        file::read_at(&self.file, || self.path.clone(), offset, buffer)
    }

    /// Its length, in bytes.
    pub fn length(&self) -> Result<u64> {
        presence(&self.file, || self.path.clone()).map(|present| present.size)
    }

    pub fn fate(&self, layout: &Layout, id: &ImageId) -> Result<Fate> {
        let has_name = |area| Ok(layout.stat(area, id)?.image().is_some_and(|stat| stat.id == self.file_id));
        // In this order: a commit moves it from the first to the second.
        if has_name(Area::Incomplete)? {
            return Ok(Fate::Growing);
        }
        Ok(if has_name(Area::Cached)? { Fate::Published } else { Fate::Gone })
    }

    /// The mismatch for which the writer gave it up. Unknown where the file system has no attributes.
    pub fn wrong_digest(&self, image_id: &str) -> Option<Error> {
        let text = attributes::get(&self.file, Attribute::WrongDigest).ok().flatten()?;
        let [name, expected, actual] = text.split(':').collect::<Vec<_>>()[..] else { return None };
        Some(Error::DigestMismatch {
            image_id: image_id.to_owned(),
            algorithm: Algorithm::from_name(name).ok()?.name(),
            expected: expected.to_owned(),
            actual: actual.to_owned(),
        })
    }

    /// Waits until the file has more than `length` bytes, or another fate. May return early.
    pub fn wait(&self, layout: &Layout, id: &ImageId, length: u64, deadline: Instant) {
        let version = self.waiters.version();
        self.waiters
            .wait(version, deadline, || self.length() != Ok(length) || self.fate(layout, id) != Ok(Fate::Growing));
    }
}
