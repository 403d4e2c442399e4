//! A source's bytes, handed on and cached on the way. Whatever becomes of the caching, the bytes go on.

use std::io::{self, Read};
use std::sync::Arc;

use crate::core::digest::{Algorithm, Expectations};
use crate::core::image_id::ImageId;
use crate::core::incomplete::IncompleteFile;
use crate::core::log::LogLevel;
use crate::core::shared::Shared;
use crate::error::{Error, Result};
use crate::system::process_bound::ProcessBound;

/// Reads from a source and caches what it reads.
///
/// At the source's end the image is published. Caching is given up, and the bytes go on, when the image is cached
/// already or has another writer, when the disk is full, or when anything else fails that is not the source. What was
/// expected of the bytes is checked at the end in every case, cached or not. Dropping it before the end gives caching up, unless
/// a size was expected and so many bytes have come: that is the end as well.
/// One thread at a time may use it.
pub struct Tee<S>(ProcessBound<State<S>>);

struct State<S> {
    shared: Arc<Shared>,
    id: ImageId,
    source: S,
    /// The file being written, while caching goes on.
    file: Option<IncompleteFile>,
    expectations: Expectations,
    /// What is wrong with the bytes, known before their end.
    verdict: Result<()>,
    /// How it ended, once it has.
    end: Option<Result<()>>,
    cached: bool,
}

impl<S: Read> Tee<S> {
    pub(crate) fn open(shared: &Arc<Shared>, image_id: &str, source: S) -> Result<Self> {
        let id = shared.image_id(image_id)?;
        let file = IncompleteFile::begin(shared, id.clone())
            .inspect_err(|error| {
                let level = match error {
                    Error::AlreadyCached(_) | Error::BeingCached(_) => LogLevel::Info,
                    _ => LogLevel::Warning,
                };
                shared.log.write(level, || format!("{error}; the bytes of image '{id}' are handed on only"));
            })
            .ok();
        Ok(Self(ProcessBound::new(State {
            shared: Arc::clone(shared),
            id,
            source,
            file,
            expectations: Expectations::default(),
            verdict: Ok(()),
            end: None,
            cached: false,
        })))
    }

    /// Expects the source to have that many bytes. Before the first read.
    ///
    /// # Errors
    /// As for [`crate::Writer::expect_size`]. Caching is given up then: what cannot be checked is not kept.
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.0.get_mut()?.expect(|expectations| expectations.expect_size(bytes))
    }

    /// Expects the source's bytes to have a digest. Before the first read.
    ///
    /// # Errors
    /// As for [`crate::Writer::expect_digest`]. Caching is given up then: what cannot be checked is not kept.
    pub fn expect_digest(&mut self, algorithm: Algorithm, hex: &str) -> Result<()> {
        self.0.get_mut()?.expect(|expectations| expectations.expect_digest(algorithm, hex))
    }

    /// Gives caching up, since what was to be checked cannot be, say; the bytes go on. The file goes to `invalid/`, with
    /// the reason.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn give_up(&mut self, reason: &str) -> Result<()> {
        self.0.get_mut()?.give_up(reason);
        Ok(())
    }

    /// Reads the source's next bytes, with one call of the source; 0 at the end, where the image is published.
    ///
    /// # Errors
    /// [`Error::Source`] when the source failed; at the end [`Error::SizeMismatch`] or [`Error::DigestMismatch`], after
    /// all bytes were handed on; each again at every later call. [`Error::Forked`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.get_mut()?.read(buffer)
    }

    /// Whether the bytes are being cached, or were cached; false once that was given up.
    pub fn is_caching(&self) -> bool {
        self.0.get().is_ok_and(|state| state.cached || state.file.is_some())
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
        // A source says with 0 that it is at its end; it must not be asked for nothing.
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
        self.keep(&buffer[..length]);
        Ok(length)
    }
}

fn is_interrupted(read: &io::Result<usize>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
}

impl<S> State<S> {
    fn expect(&mut self, expectation: impl FnOnce(&mut Expectations) -> Result<()>) -> Result<()> {
        if self.end.is_some() {
            return Err(Error::InvalidArgument("size and digest must be expected before the first read".to_owned()));
        }
        expectation(&mut self.expectations).inspect_err(|error| self.give_up(&error.to_string()))
    }

    fn give_up(&mut self, reason: &str) {
        if let Some(file) = self.file.take() {
            self.shared.log.warning(|| format!("caching image '{}' is given up: {reason}", self.id));
            file.invalidate(reason);
        }
    }

    /// What is wrong with the bytes, and what is with keeping them, are two things: the former is told at the end even where
    /// nothing is kept.
    fn keep(&mut self, data: &[u8]) {
        if self.verdict.is_err() {
            return;
        }
        let (file, mut kept) = (&mut self.file, Ok(()));
        self.verdict = self.expectations.receive(self.id.as_str(), data).and_then(|()| {
            self.expectations.hash(data, |part| {
                // What cannot be kept is hashed all the same.
                if kept.is_ok() {
                    kept = file.as_mut().map_or(Ok(()), |file| file.append(part));
                }
                Ok(())
            })
        });
        if let Err(error) = self.verdict.clone().and(kept) {
            self.give_up(&error.to_string());
        }
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file
            && let Err(error) = file.end_of_bytes()
        {
            self.give_up(&error.to_string());
        }
        let verdict = self.verdict.clone().and_then(|()| self.expectations.conclude(self.id.as_str()));
        let digest = verdict.inspect_err(|error| self.give_up(&error.to_string()))?;
        if let Some(file) = self.file.take() {
            match file.publish(digest.as_deref()) {
                Ok(()) => self.cached = true,
                // The reader has all its bytes, and they are right.
                Err(error) => self.shared.log.warning(|| format!("{error}; the bytes were handed on only")),
            }
        }
        Ok(())
    }

    fn fail(&mut self, cause: String) -> Result<usize> {
        let error = Error::Source { image_id: self.id.to_string(), cause };
        self.give_up(&error.to_string());
        self.expectations.stop();
        self.end = Some(Err(error.clone()));
        Err(error)
    }
}

impl<S> Drop for State<S> {
    /// A reader that knows the length need not ask for the end: with all bytes that were expected, this is it.
    fn drop(&mut self) {
        if self.end.is_none() && self.file.is_some() && self.expectations.has_expected_size() {
            // Should the digest not be the expected one, the file goes to invalid/ and the log says so.
            let _ = self.finish();
        }
    }
}
