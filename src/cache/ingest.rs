//! A chunk's way into the cache, for writers and tees alike: it is counted, hashed, written.

use crate::cache::incomplete::IncompleteFile;
use crate::cache::inspection::inspect;
use crate::cache::publish::publish;
use crate::digest::expectations::Expectations;
use crate::digest::hasher::parts;
use crate::error::{Error, Result};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;

/// After so many bytes of a hole were hashed, the writer shows that it lives.
const HOLE_PART: u64 = 64 << 20;

/// The bytes of one image, and its expectations.
pub(crate) struct Ingest {
    pub id: ImageId,
    pub expectations: Expectations,
    /// The file that gets the bytes; `None` after caching was given up. Bytes are counted and hashed in either case.
    pub file: Option<IncompleteFile>,
}

/// Why a chunk was rejected.
pub(crate) enum Rejected {
    /// The image cannot meet the expectations any more.
    Unexpected(Error),
    /// The bytes could not be written.
    NotKept(Error),
}

impl Ingest {
    pub fn new(id: ImageId, file: Option<IncompleteFile>) -> Self {
        let mut expectations = Expectations::default();
        if file.is_some() {
            expectations.always_compute();
        }
        Self { id, expectations, file }
    }

    /// Expects a size, and reserves room for it if the cache is bounded.
    pub fn expect_size(&mut self, bytes: u64) -> std::result::Result<(), Rejected> {
        self.expectations.expect_size(bytes).map_err(Rejected::Unexpected)?;
        self.file.as_mut().map_or(Ok(()), |file| file.expect_size(bytes)).map_err(Rejected::NotKept)
    }

    /// Takes the next chunk. Parts of it are hashed on other threads while this one writes them.
    pub fn push(&mut self, chunk: &[u8]) -> std::result::Result<(), Rejected> {
        self.expectations.count(self.id.as_str(), chunk.len() as u64).map_err(Rejected::Unexpected)?;
        let mut kept = Ok(());
        // Parts end where those of the image do, so that units of zeros are whole.
        let written = self.file.as_ref().map_or(0, |file| file.written);
        for part in parts(written, chunk) {
            self.expectations.hash(part);
            if kept.is_ok()
                && let Some(file) = &mut self.file
            {
                kept = file.append(part);
            }
        }
        kept.map_err(Rejected::NotKept)
    }

    /// Takes a hole: bytes that are 0, and take up no room. They are hashed, but neither written nor read.
    pub fn push_hole(&mut self, length: u64) -> std::result::Result<(), Rejected> {
        self.expectations.count(self.id.as_str(), length).map_err(Rejected::Unexpected)?;
        let Some(file) = &mut self.file else {
            self.expectations.hash_zeros(length);
            return Ok(());
        };
        file.append_hole(length).map_err(Rejected::NotKept)?;
        let mut left = length;
        while left > 0 {
            let part = self.expectations.zeros_at_once(left, HOLE_PART);
            self.expectations.hash_zeros(part);
            file.beat();
            left -= part;
        }
        Ok(())
    }

    /// Publishes the image if it meets the expectations, and nothing has failed. Else its file goes to `invalid/`.
    pub fn commit(mut self, failure: Option<Error>) -> Result<()> {
        let ended = match (failure, &mut self.file) {
            (Some(failure), _) => Err(failure),
            (None, Some(file)) => file.end_of_bytes(),
            (None, None) => Ok(()),
        };
        let committed = ended.and_then(|()| self.verify()).and_then(|digest| self.publish(digest.as_deref()).map(drop));
        // A failed publish has ended the file itself.
        if let (Err(error), Some(file)) = (&committed, self.file) {
            file.invalidate_for(error);
        }
        committed
    }

    /// Checks the image at its end. Returns the digest to be stored.
    pub fn verify(&mut self) -> Result<Option<String>> {
        let verified = self.expectations.conclude(self.id.as_str());
        if let (Err(Error::DigestMismatch { algorithm, expected, actual, .. }), Some(file)) = (&verified, &self.file) {
            // For the streams that have followed it.
            let _ = attributes::set(&file.file, Attribute::WrongDigest, &format!("{algorithm}:{expected}:{actual}"));
        }
        verified
    }

    /// Publishes the file, if there is one. True when the image is cached then.
    pub fn publish(&mut self, digest: Option<&str>) -> Result<bool> {
        let Some(file) = self.file.take() else { return Ok(false) };
        // The publish checks it as well.
        let checked = if file.cache.inspects() { file.check_intact() } else { Ok(()) };
        let inspected = checked.and_then(|()| inspect(&file.cache, &file.id, &file.file, file.written));
        match inspected {
            Ok(inspected) => publish(file, digest, &inspected).map(|()| true),
            Err(error) => {
                file.invalidate_for(&error);
                Err(error)
            }
        }
    }
}
