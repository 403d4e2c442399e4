//! The handle of a cached image that is being read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::cache::access::{record_hit, record_open};
use crate::cache::inner::CacheInner;
use crate::cache::query::{not_found, open_served};
use crate::error::{Error, Result};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::file;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::stat::FileStat;

/// Reads one cached image. It keeps the same bytes when the image is deleted, evicted or cached again.
///
/// Opening counts as an access, dropping as a hit. Use it from one thread at a time.
pub struct Reader {
    state: ForkGuard<State>,
    size: u64,
}

struct State {
    cache: Arc<CacheInner>,
    id: ImageId,
    file: File,
    /// The status at the open.
    stat: FileStat,
    position: u64,
}

impl Reader {
    pub(crate) fn open(cache: &Arc<CacheInner>, id: &ImageId) -> Result<Self> {
        let Some((file, stat)) = open_served(cache, id)? else {
            return Err(not_found(cache, id));
        };
        record_open(cache, id, &file, &stat);
        let state = State { cache: Arc::clone(cache), id: id.clone(), file, stat, position: 0 };
        Ok(Self { state: ForkGuard::new(state), size: stat.size })
    }

    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Damaged`] when the file has become shorter than it was, [`Error::Forked`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let state = self.state.get_mut()?;
        let length = state.read_at(state.position, buffer)?;
        state.position += length as u64;
        Ok(length)
    }

    /// Reads bytes at an offset; 0 at or beyond the end. The position of [`Self::read`] does not change.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.state.get()?.read_at(offset, buffer)
    }

    /// The image's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest that was stored at the commit, as `algorithm:hex`.
    pub(crate) fn stored_digest(&self) -> Option<String> {
        attributes::get(&self.state.get().ok()?.file, Attribute::Digest).ok().flatten()
    }

    /// The descriptor of the image's file, open for reading. [`Self::read`] does not use its offset.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.state.get()?.file.as_fd())
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Reader::read(self, buffer).map_err(io::Error::other)
    }
}

impl State {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if offset >= self.stat.size || buffer.is_empty() {
            return Ok(0);
        }
        // Bytes that another program appended are not part of the image.
        let left = usize::try_from(self.stat.size - offset).unwrap_or(usize::MAX).min(buffer.len());
        let path = || self.cache.layout().path(Area::Cached, &self.id);
        match file::read_at(&self.file, path, offset, &mut buffer[..left])? {
            0 => {
                let size = self.stat.size;
                let why =
                    format!("it had {size} bytes when it was opened, and has no byte at offset {offset} any more");
                Err(Error::Damaged { operation: "read", path: path(), why })
            }
            length => Ok(length),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        record_hit(&self.cache, &self.id, &self.stat);
    }
}
