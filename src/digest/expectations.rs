//! What the caller expects of an image's bytes, and the check at the end.

use crate::digest::algorithm::{Algorithm, parse};
use crate::digest::hasher::{Hasher, SavedHash};
use crate::error::{Error, Result};

/// The digest of an image of which none is expected.
pub(crate) const COMPUTED: Algorithm = Algorithm::Crc64Nvme;

/// Whether a digest, as `algorithm:hex`, may be one that nobody expected.
pub(crate) fn is_computed(digest: &str) -> bool {
    parse(digest).is_some_and(|(algorithm, _)| algorithm == COMPUTED)
}

/// The size and the digests that an image must have, compared with the bytes received so far.
#[derive(Default)]
pub(crate) struct Expectations {
    size: Option<u64>,
    refuses_empty: bool,
    digests: Vec<(Algorithm, String)>,
    /// Where no digest is expected, one is computed.
    always_computes: bool,
    /// Boxed: it is large.
    hasher: Box<Hasher>,
    received: u64,
    began: bool,
}

impl Expectations {
    /// Of bytes that are still to come.
    pub fn of(size: Option<u64>, digests: &[(Algorithm, String)]) -> Result<Self> {
        let mut expectations = Self::default();
        size.map_or(Ok(()), |size| expectations.expect_size(size))?;
        digests.iter().try_for_each(|(algorithm, hex)| expectations.expect_digest(*algorithm, hex))?;
        Ok(expectations)
    }

    /// Of bytes to be published, of which these digests are expected, and no others. Without one, [`COMPUTED`] is computed.
    pub fn of_publication(digests: &[(Algorithm, String)]) -> Result<Self> {
        let mut expectations = Self::of(None, digests)?;
        expectations.always_compute();
        expectations.begin();
        Ok(expectations)
    }

    /// The same, of bytes whose first ones were hashed by others; `None` if not with these digests, or if the saved state is damaged.
    pub fn resume(digests: &[(Algorithm, String)], saved: &SavedHash) -> Option<Self> {
        let is_hashed = |algorithm: &Algorithm| saved.states.iter().any(|(known, _)| known == algorithm);
        let mut algorithms: Vec<_> = digests.iter().map(|(algorithm, _)| *algorithm).collect();
        if algorithms.is_empty() {
            algorithms.push(COMPUTED);
        }
        if saved.states.len() != algorithms.len() || !algorithms.iter().all(is_hashed) {
            return None;
        }
        let hasher = Box::new(Hasher::resume(saved)?);
        let (digests, received) = (digests.to_vec(), saved.hashed);
        Some(Self { digests, always_computes: true, hasher, received, began: true, ..Self::default() })
    }

    /// Computes [`COMPUTED`] if no digest will be expected. To be called before the first bytes.
    pub fn always_compute(&mut self) {
        self.always_computes = true;
    }

    /// The first bytes come, and nothing more can be expected.
    fn begin(&mut self) {
        if !std::mem::replace(&mut self.began, true) && self.always_computes && self.digests.is_empty() {
            self.hasher.add(COMPUTED);
        }
    }

    /// What others can go on with; `None` while the algorithms differ in what they have hashed.
    pub fn save(&self) -> Option<SavedHash> {
        self.hasher.save()
    }

    /// The same, after waiting for the slowest algorithm.
    pub fn save_all(&self) -> Option<SavedHash> {
        self.hasher.save_all()
    }

    /// The expected size, in bytes.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The expected digests, in hexadecimal digits of lower case.
    pub fn digests(&self) -> &[(Algorithm, String)] {
        &self.digests
    }

    /// Expects a size, in bytes.
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.check_not_begun()?;
        match self.size {
            Some(size) if size != bytes => {
                Err(Error::InvalidArgument(format!("{size} bytes are expected already, so {bytes} cannot be")))
            }
            _ => {
                self.size = Some(bytes);
                Ok(())
            }
        }
    }

    /// Expects at least one byte.
    pub fn refuse_empty(&mut self) -> Result<()> {
        self.check_not_begun()?;
        self.refuses_empty = true;
        Ok(())
    }

    /// Expects a digest: at most one of each algorithm.
    pub fn expect_digest(&mut self, algorithm: Algorithm, hex: &str) -> Result<()> {
        self.check_not_begun()?;
        let hex = algorithm.normalise(hex)?;
        match self.digests.iter().find(|(known, _)| *known == algorithm) {
            Some((_, expected)) if *expected != hex => Err(Error::InvalidArgument(format!(
                "the {} digest {expected} is expected already, so {hex} cannot be",
                algorithm.name()
            ))),
            Some(_) => Ok(()),
            None => {
                self.hasher.add(algorithm);
                self.digests.push((algorithm, hex));
                Ok(())
            }
        }
    }

    fn check_not_begun(&self) -> Result<()> {
        if self.began {
            return Err(Error::InvalidArgument("size and digest must be expected before the first chunk".to_owned()));
        }
        Ok(())
    }

    /// Counts the next bytes. Fails when there are more than expected.
    pub fn count(&mut self, image_id: &str, length: u64) -> Result<()> {
        self.begin();
        self.received = self.received.saturating_add(length);
        match self.size {
            Some(size) if self.received > size => {
                self.stop();
                Err(self.size_mismatch(image_id, size))
            }
            _ => Ok(()),
        }
    }

    /// Hashes bytes that were counted.
    pub fn hash(&mut self, data: &[u8]) {
        self.hasher.update(data);
    }

    /// Hashes zeros that were counted: the bytes of a hole.
    pub fn hash_zeros(&mut self, length: u64) {
        self.hasher.update_zeros(length);
    }

    /// How many of the zeros of a hole are to be hashed at once: all that are left if they take no time, else at most so many.
    pub fn zeros_at_once(&self, left: u64, most: u64) -> u64 {
        if self.hasher.is_fast() { left } else { left.min(most) }
    }

    /// Whether a size is expected, and exactly that many bytes were received.
    pub fn has_expected_size(&self) -> bool {
        self.size == Some(self.received)
    }

    /// Ends the hashing. No digest is needed any more.
    pub fn stop(&mut self) {
        self.hasher.stop();
    }

    /// Compares size and digests at the end. Returns the strongest digest, as `algorithm:hex`, or the first mismatch.
    pub fn conclude(&mut self, image_id: &str) -> Result<Option<String>> {
        self.begin();
        if self.refuses_empty && self.received == 0 {
            self.stop();
            return Err(Error::Empty(image_id.to_owned()));
        }
        if let Some(size) = self.size
            && size != self.received
        {
            self.stop();
            return Err(self.size_mismatch(image_id, size));
        }
        let found = self.hasher.finish()?;
        if self.digests.is_empty() {
            return Ok(found.first().map(|(algorithm, hex)| format!("{}:{hex}", algorithm.name())));
        }
        if found.len() != self.digests.len() {
            return Err(Error::Internal("not all expected digests were computed".to_owned()));
        }
        for (algorithm, actual) in found {
            if let Some((_, expected)) = self.digests.iter().find(|(known, hex)| *known == algorithm && *hex != actual)
            {
                return Err(Error::DigestMismatch {
                    image_id: image_id.to_owned(),
                    algorithm: algorithm.name(),
                    expected: expected.clone(),
                    actual,
                });
            }
        }
        let strongest = self.digests.iter().max_by_key(|(algorithm, _)| *algorithm);
        Ok(strongest.map(|(algorithm, hex)| format!("{}:{hex}", algorithm.name())))
    }

    fn size_mismatch(&self, image_id: &str, expected: u64) -> Error {
        Error::SizeMismatch { image_id: image_id.to_owned(), expected, actual: self.received }
    }
}
