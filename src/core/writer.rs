//! The handle of an image that is being cached: what is written, what is expected of it, and how it ended.

use std::sync::Arc;

use crate::core::digest::{Algorithm, Expectations};
use crate::core::incomplete::IncompleteFile;
use crate::core::shared::Shared;
use crate::error::{Error, Result};
use crate::system::process_bound::ProcessBound;

/// Caches one image, and is its only writer on this host until it ends.
///
/// [`Writer::commit`] and [`Writer::abort`] end it. Dropping it aborts. One thread at a time may use it.
pub struct Writer(ProcessBound<State>);

struct State {
    file: IncompleteFile,
    expectations: Expectations,
    /// The first failure: no call after it can succeed, and each says why.
    failure: Option<Error>,
}

impl Writer {
    pub(crate) fn begin(shared: &Arc<Shared>, image_id: &str) -> Result<Self> {
        let file = IncompleteFile::begin(shared, shared.image_id(image_id)?)?;
        Ok(Self(ProcessBound::new(State { file, expectations: Expectations::default(), failure: None })))
    }

    /// Expects the image to have that many bytes. Before the first chunk.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] after the first chunk, or when another size is expected already; [`Error::Forked`].
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.0.get_mut()?.expectations.expect_size(bytes)
    }

    /// Expects the image to have a digest, in hexadecimal digits of either case. Before the first chunk. Several can be
    /// expected; the bytes are hashed in one pass, and the strongest digest is kept with the image. One that is refused is not
    /// expected, and the writer goes on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] after the first chunk or when `hex` has the wrong length or letters; [`Error::Forked`].
    pub fn expect_digest(&mut self, algorithm: Algorithm, hex: &str) -> Result<()> {
        self.0.get_mut()?.expectations.expect_digest(algorithm, hex)
    }

    /// Appends bytes to the image. The first failure is final: each later call, and the commit, return it again.
    ///
    /// # Errors
    /// [`Error::System`] (a full disk among them), [`Error::SizeMismatch`] as soon as there are more bytes than
    /// expected, [`Error::Lost`] when the file was cleaned away or changed, [`Error::Forked`].
    pub fn write_chunk(&mut self, data: &[u8]) -> Result<()> {
        self.0.get_mut()?.write(data)
    }

    /// Publishes the image, if it is what was expected. With durability full, it is on disk when this returns. On failure
    /// the file goes to `invalid/`.
    ///
    /// # Errors
    /// An earlier failure of this writer; [`Error::SizeMismatch`], [`Error::DigestMismatch`], [`Error::Lost`],
    /// [`Error::AlreadyCached`] when something else put a file there meanwhile, [`Error::System`], [`Error::Forked`].
    pub fn commit(self) -> Result<()> {
        let State { mut file, mut expectations, failure } = self.0.into_inner()?;
        let verdict = match failure {
            Some(failure) => Err(failure),
            None => file.end_of_bytes().and_then(|()| expectations.conclude(file.id().as_str())),
        };
        match verdict {
            Ok(digest) => file.publish(digest.as_deref()),
            Err(error) => {
                file.invalidate(&error.to_string());
                Err(error)
            }
        }
    }

    /// Gives the image up: its file goes to `invalid/`, with the reason.
    pub fn abort(self, reason: &str) {
        // In a forked child the file is the parent's.
        if let Ok(State { file, .. }) = self.0.into_inner() {
            file.invalidate(reason);
        }
    }

    /// Gives the image up as if it had never begun: nothing is left of it.
    pub(crate) fn discard(self) {
        if let Ok(State { file, .. }) = self.0.into_inner() {
            file.discard();
        }
    }
}

impl State {
    fn write(&mut self, data: &[u8]) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let received = self.expectations.receive(self.file.id().as_str(), data);
        let written = received.and_then(|()| self.expectations.hash(data, |part| self.file.append(part)));
        written.inspect_err(|error| {
            self.expectations.stop();
            self.failure = Some(error.clone());
        })
    }
}
