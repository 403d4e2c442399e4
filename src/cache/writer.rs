//! The handle of an image that is being cached.

use std::sync::Arc;

use crate::cache::bounds::reserve;
use crate::cache::incomplete::IncompleteFile;
use crate::cache::ingest::{Ingest, Rejected};
use crate::cache::inner::CacheInner;
use crate::digest::algorithm::Algorithm;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::sys::fork_guard::ForkGuard;

/// Caches one image. It is the image's only writer on this host until it ends.
///
/// [`Writer::commit`] and [`Writer::abort`] end it. Dropping it aborts. Use it from one thread at a time.
pub struct Writer(ForkGuard<State>);

struct State {
    image: Ingest,
    /// The first failure. It is final, and every later call returns it again.
    failure: Option<Error>,
}

impl Writer {
    pub(crate) fn begin(cache: &Arc<CacheInner>, id: &ImageId) -> Result<Self> {
        let file = IncompleteFile::begin(cache, id.clone(), reserve::PATIENCE)?;
        Ok(Self(ForkGuard::new(State { image: Ingest::new(id.clone(), Some(file)), failure: None })))
    }

    /// Expects a size, in bytes. To be called before the first chunk.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] after the first chunk, or when another size is expected already; [`Error::NoRoom`] if the cache has a
    /// hard limit or a floor, and so many bytes do not fit; [`Error::Forked`].
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.0.get_mut()?.expect_size(bytes)
    }

    /// Expects a digest, in hexadecimal digits of either case. To be called before the first chunk.
    ///
    /// Several digests can be expected. They are computed in one pass, and the strongest is stored with the image. A digest that is
    /// refused is not expected, and the writer can still be used.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] after the first chunk, or when `hex` has the wrong length or letters; [`Error::Forked`].
    pub fn expect_digest(&mut self, algorithm: Algorithm, hex: &str) -> Result<()> {
        self.0.get_mut()?.image.expectations.expect_digest(algorithm, hex)
    }

    /// Appends bytes to the image. The first failure is final: each later call, and the commit, return it again.
    ///
    /// # Errors
    /// [`Error::System`] (a full disk among others), [`Error::SizeMismatch`] as soon as there are more bytes than expected,
    /// [`Error::Lost`] when the file was cleaned or changed, [`Error::Forked`].
    pub fn write_chunk(&mut self, data: &[u8]) -> Result<()> {
        self.0.get_mut()?.push(|image| image.push(data))
    }

    /// Appends a hole of so many bytes, which are 0, and take up no room on the disk. The first failure is final, as that of a chunk.
    ///
    /// The bytes are hashed, and neither written nor read. That takes no time with the digest that is computed where none is expected. A
    /// SHA-256 of a long hole takes its time.
    ///
    /// # Errors
    /// As for [`Self::write_chunk`].
    pub fn write_hole(&mut self, bytes: u64) -> Result<()> {
        self.0.get_mut()?.push(|image| image.push_hole(bytes))
    }

    /// Publishes the image if it meets the expectations. With durability full, it is on the disk when this returns. On failure its
    /// file goes to `invalid/`.
    ///
    /// # Errors
    /// An earlier failure of this writer; [`Error::SizeMismatch`], [`Error::DigestMismatch`], [`Error::Refused`],
    /// [`Error::Lost`], [`Error::AlreadyCached`] when another program put a file there meanwhile, [`Error::System`], [`Error::Forked`].
    pub fn commit(self) -> Result<()> {
        let State { image, failure } = self.0.into_inner()?;
        image.commit(failure)
    }

    /// Ends the writer without publishing. Its file goes to `invalid/`, with the reason: that of the first failure, if there was one.
    pub fn abort(self, reason: &str) {
        match self.0.get().map(|state| state.failure.clone()) {
            Ok(Some(failure)) => self.fail(&failure),
            _ => self.end_file(|file| file.invalidate(reason)),
        }
    }

    /// As [`Self::abort`], for an error of the fetch.
    pub(crate) fn fail(self, error: &Error) {
        self.end_file(|file| file.invalidate_for(error));
    }

    /// Ends the writer, and removes its file.
    pub(crate) fn discard(self) {
        self.end_file(IncompleteFile::discard);
    }

    /// In a forked child the file is the parent's, and is left alone.
    fn end_file(self, end: impl FnOnce(IncompleteFile)) {
        if let Ok(State { image, .. }) = self.0.into_inner()
            && let Some(file) = image.file
        {
            end(file);
        }
    }
}

impl State {
    fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.image.expect_size(bytes).map_err(|rejected| match rejected {
            // The writer can still be used.
            Rejected::Unexpected(error) => error,
            Rejected::NotKept(error) => {
                self.failure.get_or_insert_with(|| error.clone());
                error
            }
        })
    }

    fn push(&mut self, push: impl FnOnce(&mut Ingest) -> std::result::Result<(), Rejected>) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        push(&mut self.image).map_err(|(Rejected::Unexpected(error) | Rejected::NotKept(error))| {
            self.image.expectations.stop();
            self.failure = Some(error.clone());
            error
        })
    }
}
