//! A chunk's way into the cache, for writers and tees alike: it is counted, hashed, written.

use crate::cache::incomplete::IncompleteFile;
use crate::cache::publish::publish;
use crate::digest::expectations::Expectations;
use crate::digest::hasher::parts;
use crate::error::{Error, Result};
use crate::store::attributes::{self, Attribute};
use crate::store::image_id::ImageId;

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
        Self { id, expectations: Expectations::default(), file }
    }

    /// Takes the next chunk. Parts of it are hashed on other threads while this one writes them.
    pub fn push(&mut self, chunk: &[u8]) -> std::result::Result<(), Rejected> {
        self.expectations.count(self.id.as_str(), chunk.len()).map_err(Rejected::Unexpected)?;
        let mut kept = Ok(());
        for part in parts(chunk) {
            self.expectations.hash(part);
            if kept.is_ok()
                && let Some(file) = &mut self.file
            {
                kept = file.append(part);
            }
        }
        kept.map_err(Rejected::NotKept)
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
        self.file.take().map_or(Ok(false), |file| publish(file, digest).map(|()| true))
    }
}
