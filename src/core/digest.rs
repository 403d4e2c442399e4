//! What a writer was told to expect of its bytes, checked as they pass by.

use crate::core::hashing::{Hashing, parts};
use crate::error::{Error, Result};

/// A digest algorithm. The later one is the stronger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5 (RFC 1321): against accidents only; anybody can make two files with the same one.
    Md5,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512];

    /// The algorithm of that name: `md5`, `sha256` or `sha512`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            Error::Unsupported(format!("the digest algorithm {name:?} is not one of md5, sha256, sha512"))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its digests, in bytes.
    fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Puts a digest in the form in which it is compared and kept: hexadecimal digits in lower case.
    pub(crate) fn normalise(self, hex: &str) -> Result<String> {
        if hex.len() == 2 * self.length() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(hex.to_ascii_lowercase());
        }
        Err(Error::InvalidArgument(format!(
            "{hex:?} is no {} digest: that has {} hexadecimal digits",
            self.name(),
            2 * self.length()
        )))
    }
}

/// Whether a text has the form in which a digest is kept: `algorithm:hex`.
pub(crate) fn is_well_formed(text: &str) -> bool {
    text.split_once(':').is_some_and(|(name, hex)| {
        Algorithm::from_name(name).and_then(|algorithm| algorithm.normalise(hex)).is_ok_and(|normal| normal == hex)
    })
}

/// The length and the digests that an image must have, and what of it has come so far.
#[derive(Default)]
pub(crate) struct Expectations {
    size: Option<u64>,
    digests: Vec<(Algorithm, String)>,
    /// Most writers are told no digest.
    hashing: Box<Hashing>,
    received: u64,
    began: bool,
}

impl Expectations {
    /// Expects that many bytes.
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

    /// Expects a digest, at most one of each algorithm.
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
                self.hashing.add(algorithm);
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

    /// Takes note of how many bytes come next; fails as soon as they are more than expected.
    pub fn receive(&mut self, image_id: &str, data: &[u8]) -> Result<()> {
        self.began = true;
        self.received += data.len() as u64;
        match self.size {
            Some(size) if self.received > size => {
                self.hashing.stop();
                Err(self.size_mismatch(image_id, size))
            }
            _ => Ok(()),
        }
    }

    /// Hashes the bytes that were received, and has them kept, part by part.
    pub fn hash(&mut self, data: &[u8], mut keep: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        parts(data).try_for_each(|part| {
            self.hashing.update(part);
            keep(part)
        })
    }

    /// Whether a size is expected, and so many bytes have come.
    pub fn has_expected_size(&self) -> bool {
        self.size == Some(self.received)
    }

    /// There are no more bytes that matter: ends what was under way to find out their digests.
    pub fn stop(&mut self) {
        self.hashing.stop();
    }

    /// Checks the whole: the strongest of the digests that held, as `algorithm:hex`, or what did not hold.
    pub fn conclude(&mut self, image_id: &str) -> Result<Option<String>> {
        if let Some(size) = self.size
            && size != self.received
        {
            self.hashing.stop();
            return Err(self.size_mismatch(image_id, size));
        }
        let found = self.hashing.finish()?;
        if found.len() != self.digests.len() {
            return Err(Error::Internal("not all digests that are expected were found out".to_owned()));
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
