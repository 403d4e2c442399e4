//! Delivers a source's bytes, and caches them on the way. A failure of the caching never stops the delivery.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use crate::cache::bounds::reserve;
use crate::cache::incomplete::IncompleteFile;
use crate::cache::ingest::{Ingest, Rejected};
use crate::cache::inner::CacheInner;
use crate::digest::algorithm::Algorithm;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::log::LogLevel;
use crate::store::image_id::ImageId;
use crate::sys::fork_guard::ForkGuard;

/// Reads from a source, and caches the bytes.
///
/// At the source's end the image is published. The tee gives up caching, and delivers without it, if the image is cached already or
/// has another writer, if the disk is full, or if anything else fails except the source. Expectations are checked at the end in
/// either case. Dropping the tee before the end gives up caching. Exception: if a size was expected, and that many bytes have come,
/// the drop counts as the end. Use it from one thread at a time.
pub struct Tee<S>(ForkGuard<State<S>>);

struct State<S> {
    cache: Arc<CacheInner>,
    source: S,
    image: Ingest,
    /// A mismatch that was found before the end.
    verdict: Result<()>,
    /// The result of the end, after it.
    end: Option<Result<()>>,
    is_cached: bool,
}

impl<S: Read> Tee<S> {
    pub(crate) fn open(cache: &Arc<CacheInner>, id: &ImageId, source: S) -> Self {
        let file = IncompleteFile::begin(cache, id.clone(), reserve::SHORT_PATIENCE)
            .inspect_err(|error| {
                let level = match error {
                    Error::AlreadyCached(_) | Error::BeingCached(_) => LogLevel::Info,
                    _ => LogLevel::Warning,
                };
                cache.log().write(level, || format!("{error}; image '{id}' is delivered without caching"));
            })
            .ok();
        Self(ForkGuard::new(State {
            cache: Arc::clone(cache),
            source,
            image: Ingest::new(id.clone(), file),
            verdict: Ok(()),
            end: None,
            is_cached: false,
        }))
    }

    /// Expects a size of the source, in bytes. To be called before the first read.
    ///
    /// # Errors
    /// As for [`crate::Writer::expect_size`]. Caching is given up then: bytes that cannot be checked are not kept.
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.0.get_mut()?.expect_size(bytes)
    }

    /// Refuses an empty image: a source that ends at once, without a byte, fails the tee with [`Error::Empty`]. For sources that may
    /// return 0 by accident. To be called before the first read.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] after the first read, [`Error::Forked`].
    pub fn refuse_empty(&mut self) -> Result<()> {
        self.0.get_mut()?.expect(Expectations::refuse_empty)
    }

    /// Expects a digest of the source's bytes. To be called before the first read.
    ///
    /// # Errors
    /// As for [`crate::Writer::expect_digest`]. Caching is given up then: bytes that cannot be checked are not kept.
    pub fn expect_digest(&mut self, algorithm: Algorithm, hex: &str) -> Result<()> {
        self.0.get_mut()?.expect(|expectations| expectations.expect_digest(algorithm, hex))
    }

    /// Gives up caching; delivery continues. The file goes to `invalid/`, with the reason.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn give_up(&mut self, reason: &str) -> Result<()> {
        self.0.get_mut()?.give_up(reason);
        Ok(())
    }

    /// Reads the source's next bytes, with one call of the source. Returns 0 at the end, where the image is published.
    ///
    /// # Errors
    /// [`Error::Source`] when the source failed; at the end, after all bytes were delivered, [`Error::SizeMismatch`],
    /// [`Error::Empty`] or [`Error::DigestMismatch`]. Each is returned again by every later call. [`Error::Forked`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.get_mut()?.read(buffer)
    }

    /// Whether the bytes are being cached, or were cached. False after caching was given up.
    pub fn is_caching(&self) -> bool {
        self.0.get().is_ok_and(|state| state.is_cached || state.image.file.is_some())
    }
}

impl<S: Read> Read for Tee<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Tee::read(self, buffer).map_err(io::Error::other)
    }
}

impl<S: Read> State<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if let Some(end) = &self.end {
            return end.clone().map(|()| 0);
        }
        // A source returns 0 at its end, so it is not called with an empty buffer.
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut read = || self.source.read(buffer);
        let length = match std::iter::repeat_with(&mut read).find(|read| !is_interrupted(read)).unwrap_or(Ok(0)) {
            Ok(length) if length <= buffer.len() => length,
            Ok(length) => return self.fail(format!("it returned {length} bytes for a buffer of {}", buffer.len())),
            Err(error) => return self.fail(error.to_string()),
        };
        if length == 0 {
            let end = self.finish();
            self.end = Some(end.clone());
            return end.map(|()| 0);
        }
        self.push(&buffer[..length]);
        Ok(length)
    }
}

fn is_interrupted(read: &io::Result<usize>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

impl<S> State<S> {
    /// Without room for so many bytes, caching is given up.
    fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.expect(|expectations| expectations.expect_size(bytes))?;
        if let Some(file) = &mut self.image.file
            && let Err(error) = file.expect_size(bytes)
        {
            self.give_up(&error.to_string());
        }
        Ok(())
    }

    fn expect(&mut self, expectation: impl FnOnce(&mut Expectations) -> Result<()>) -> Result<()> {
        if self.end.is_some() {
            return Err(Error::InvalidArgument("size and digest must be expected before the first read".to_owned()));
        }
        expectation(&mut self.image.expectations).inspect_err(|error| self.give_up_for(error))
    }

    fn give_up(&mut self, reason: &str) {
        self.end_file(reason, |file| file.invalidate(reason));
    }

    fn give_up_for(&mut self, error: &Error) {
        self.end_file(error, |file| file.invalidate_for(error));
    }

    fn end_file(&mut self, reason: impl fmt::Display, end: impl FnOnce(IncompleteFile)) {
        if let Some(file) = self.image.file.take() {
            self.cache.log().warning(|| format!("the tee gives up caching image '{}': {reason}", self.image.id));
            end(file);
        }
    }

    /// A mismatch is reported at the end, also if nothing is cached. A failed write only ends the caching.
    fn push(&mut self, data: &[u8]) {
        if self.verdict.is_err() {
            return;
        }
        match self.image.push(data) {
            Ok(()) => {}
            Err(Rejected::NotKept(error)) => self.give_up_for(&error),
            Err(Rejected::Unexpected(error)) => {
                self.give_up_for(&error);
                self.verdict = Err(error);
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(file) = &mut self.image.file
            && let Err(error) = file.end_of_bytes()
        {
            self.give_up_for(&error);
        }
        let verdict = self.verdict.clone().and_then(|()| self.image.verify());
        let digest = verdict.inspect_err(|error| self.give_up_for(error))?;
        match self.image.publish(digest.as_deref()) {
            Ok(is_cached) => self.is_cached = is_cached,
            // The caller has all bytes, and they are right.
            Err(error) => self.cache.log().warning(|| format!("{error}; the bytes were delivered without caching")),
        }
        Ok(())
    }

    fn fail(&mut self, cause: String) -> Result<usize> {
        let error = Error::Source { image_id: self.image.id.to_string(), cause };
        self.give_up_for(&error);
        self.image.expectations.stop();
        self.end = Some(Err(error.clone()));
        Err(error)
    }
}

impl<S> Drop for State<S> {
    /// A caller that knows the size need not read the end: after all expected bytes, the drop counts as the end.
    fn drop(&mut self) {
        if self.end.is_none() && self.image.file.is_some() && self.image.expectations.has_expected_size() {
            // On a mismatch, the file goes to invalid/, which is logged.
            let _ = self.finish();
        }
    }
}
