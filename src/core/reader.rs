//! The handle of a cached image that is being read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::io::{pread, retry_on_intr};

use crate::core::image_id::ImageId;
use crate::core::layout::Place;
use crate::core::shared::Shared;
use crate::error::{Error, Result};
use crate::system::directory::Facts;
use crate::system::process_bound::ProcessBound;

/// Reads one cached image. It goes on with the same bytes when the image is deleted, pruned or cached anew.
///
/// Opening counts as use, dropping it counts one hit. One thread at a time may use it.
pub struct Reader {
    state: ProcessBound<State>,
    size: u64,
}

struct State {
    shared: Arc<Shared>,
    id: ImageId,
    file: File,
    /// Of the file, when it was opened.
    facts: Facts,
    position: u64,
}

impl Reader {
    pub(crate) fn open(shared: &Arc<Shared>, image_id: &str) -> Result<Self> {
        let id = shared.image_id(image_id)?;
        let Some((file, facts)) = shared.layout.open_file(Place::Cached, &id)? else {
            return Err(not_found(shared, &id));
        };
        shared.note_use(&id, &file, &facts);
        let state = State { shared: Arc::clone(shared), id, file, facts, position: 0 };
        Ok(Self { state: ProcessBound::new(state), size: facts.size })
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

    /// Reads bytes at an offset, which [`Self::read`] takes no notice of; 0 at or beyond the end.
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

    /// The image's file, open for reading. Its own offset is not used by [`Self::read`].
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
        if offset >= self.facts.size || buffer.is_empty() {
            return Ok(0);
        }
        // What another program appended is none of the image.
        let left = usize::try_from(self.facts.size - offset).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..left];
        let path = || self.shared.layout.path(Place::Cached, &self.id);
        match retry_on_intr(|| pread(&self.file, &mut *buffer, offset)) {
            Ok(0) => {
                let why = format!(
                    "it had {} bytes when it was opened, and has no byte at offset {offset} now",
                    self.facts.size
                );
                Err(Error::Damaged { operation: "read", path: path(), why })
            }
            Ok(length) => Ok(length),
            Err(errno) => Err(Error::system("read", &path(), errno)),
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.shared.note_hit(&self.id, &self.facts);
    }
}

/// The answer for an image that is not there.
pub(crate) fn not_found(shared: &Shared, id: &ImageId) -> Error {
    let occupied = matches!(shared.layout.examine(Place::Cached, id), Ok(crate::core::layout::Standing::Other));
    Error::NotFound { image_id: id.to_string(), occupied }
}
