//! An open stream of the random roles, and what its reads may return.

use std::time::Duration;

use fastrand::Rng;
use image_cache::{Algorithm, Error, ImageCache, RangeSource, Stream, StreamRole};

use crate::images::Image;
use crate::sources::{Fault, Source};

pub struct OpenStream {
    pub image: &'static Image,
    stream: Stream<Source>,
    fault: Fault,
    position: u64,
    /// The expected size, in bytes.
    size: Option<u64>,
    /// Whether it expects a size or digest that the image does not have.
    is_wrong: bool,
    expects_wrong_digest: bool,
}

impl OpenStream {
    /// Opens one with random expectations, time-outs and source.
    pub fn open(cache: &ImageCache, image: &'static Image, random: &mut Rng) -> Result<Self, String> {
        let mut source = Source::random(image, random);
        let fault = source.fault;
        let is_wrong = image.is_contested && random.bool();
        // Without an expected size, the early end of a source would be the image's.
        let size = match (fault, random.bool()) {
            _ if is_wrong => Some(image.size + random.u64(..2)),
            (Fault::EndsEarly, _) | (_, true) => Some(image.size),
            _ => None,
        };
        source.limit = size;
        let failed = |error: Error| format!("a new stream of '{}': {error}", image.id);
        let mut stream = cache.stream(&image.id, source).map_err(failed)?;
        if let Some(size) = size {
            stream.expect_size(size).map_err(failed)?;
        }
        let mut expects_wrong_digest = false;
        if random.bool() {
            let wrong = "0".repeat(64);
            expects_wrong_digest = is_wrong;
            let hex = if is_wrong { wrong.as_str() } else { image.sha256() };
            stream.expect_digest(Algorithm::Sha256, hex).map_err(failed)?;
        }
        if random.u32(..4) == 0 {
            stream.expect_digest(Algorithm::Md5, image.md5()).map_err(failed)?;
        }
        let timeout = (random.u32(..3) == 0).then(|| Duration::from_millis(random.u64(..300)));
        stream.set_timeout(timeout).map_err(failed)?;
        stream.set_source_timeout(Duration::from_millis(random.u64(50..200))).map_err(failed)?;
        Ok(Self { image, stream, fault, position: 0, size, is_wrong, expects_wrong_digest })
    }

    pub fn role(&self) -> StreamRole {
        self.stream.role()
    }

    /// One read. Returns how the stream ended, after its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<Option<&'static str>, String> {
        let read = self.stream.read(buffer);
        let available = self.stream.available();
        if available > self.image.size {
            return Err(format!("'{}' has {available} bytes in the cache", self.image.id));
        }
        match read {
            Ok(0) if self.is_right_at_the_end() => self.end(buffer, None),
            Ok(0) => Err(self.violation("ends")),
            Ok(length) => {
                self.image.verify(self.position, &buffer[..length]).map_err(|wrong| self.violation(&wrong))?;
                self.position += length as u64;
                Ok(None)
            }
            Err(Error::TimedOut { .. }) => Ok(None),
            Err(error) if self.may_fail(&error) => self.end(buffer, Some(&error)),
            Err(error) => Err(self.violation(&error.to_string())),
        }
    }

    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<Option<&'static str>, String> {
        match self.stream.read_at(offset, buffer) {
            Ok(0) if offset >= self.image.size || self.fault == Fault::EndsEarly => Ok(None),
            Ok(0) => Err(self.violation(&format!("has no bytes at {offset}"))),
            Ok(length) => self
                .image
                .verify(offset, &buffer[..length])
                .map(|()| None)
                .map_err(|wrong| self.violation(&format!("read_at: {wrong}"))),
            Err(Error::TimedOut { .. }) => Ok(None),
            Err(Error::Source { .. }) if matches!(self.fault, Fault::Fails | Fault::ReturnsMore) => Ok(None),
            Err(error) => Err(self.violation(&format!("read_at: {error}"))),
        }
    }

    /// Whether the stream may end here as the whole image. The digest of a cached image was verified by others, or not at all.
    fn is_right_at_the_end(&self) -> bool {
        let is_verified = !self.expects_wrong_digest || self.stream.role() == StreamRole::Cached;
        self.position == self.image.size && self.size.is_none_or(|size| size == self.position) && is_verified
    }

    /// A later read has the same result.
    fn end(&mut self, buffer: &mut [u8], error: Option<&Error>) -> Result<Option<&'static str>, String> {
        let again = self.stream.read(buffer);
        if again == error.cloned().map_or(Ok(0), Err) {
            return Ok(Some(match error {
                None => "whole",
                Some(Error::Source { .. }) => "with a failed source",
                Some(Error::SizeMismatch { .. }) => "with another size",
                Some(_) => "with another digest",
            }));
        }
        Err(self.violation(&format!("ends with {error:?}, and then with {again:?}")))
    }

    /// Only a stream's own source fails it, except where other streams expect what is not so.
    fn may_fail(&self, error: &Error) -> bool {
        match error {
            Error::Source { cause, .. } => match self.fault {
                Fault::Fails => cause.contains("planned"),
                Fault::ReturnsMore => cause.contains("for a buffer"),
                _ => false,
            },
            Error::SizeMismatch { .. } => self.fault == Fault::EndsEarly || self.image.is_contested,
            Error::DigestMismatch { .. } => self.image.is_contested,
            _ => false,
        }
    }

    fn violation(&self, what: &str) -> String {
        format!(
            "a stream of '{}' (wrong expectations: {}, source: {:?}, role: {:?}), at {}: {what}",
            self.image.id,
            self.is_wrong,
            self.fault,
            self.stream.role(),
            self.position
        )
    }
}

/// Reads a stream from its beginning to its end. Panics at a byte that is wrong or missing.
pub fn read_to_end<S: RangeSource>(stream: &mut Stream<S>, image: &Image) -> Result<(), Error> {
    let mut buffer = vec![0; 100_000];
    let mut position = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        image.verify(position, &buffer[..length]).unwrap();
        position += length as u64;
        if length == 0 {
            assert_eq!(position, image.size, "'{}' ends early", image.id);
            return Ok(());
        }
    }
}
