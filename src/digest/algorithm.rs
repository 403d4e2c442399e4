//! The digest algorithms, and the form in which digests are stored.

use crate::error::{Error, Result};

/// A digest algorithm, in the order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// CRC-64/NVME, as 16 hexadecimal digits. It detects accidents only: anybody can make a file with a given CRC. It is the digest
    /// of images that were committed without an expected one.
    Crc64Nvme,
    /// MD5 (RFC 1321). It detects accidents only: anybody can make two files with the same digest.
    Md5,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 4] = [Self::Crc64Nvme, Self::Md5, Self::Sha256, Self::Sha512];

    /// The algorithm of that name: `crc64nvme`, `md5`, `sha256` or `sha512`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(|| {
            Error::Unsupported(format!("the digest algorithm {name:?} is not one of crc64nvme, md5, sha256, sha512"))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc64Nvme => "crc64nvme",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The length of its digests, in bytes.
    fn length(self) -> usize {
        match self {
            Self::Crc64Nvme => 8,
            Self::Md5 => 16,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// Whether hashing bytes takes less time than copying them for another thread.
    pub(crate) fn is_fast(self) -> bool {
        self == Self::Crc64Nvme
    }

    /// Converts a digest to the form in which it is compared and stored: hexadecimal digits of lower case.
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

/// Whether a text has the form in which a digest is stored: `algorithm:hex`.
pub(crate) fn is_well_formed(text: &str) -> bool {
    parse(text).is_some()
}

/// The parts of a digest in the form in which it is stored.
pub(crate) fn parse(text: &str) -> Option<(Algorithm, &str)> {
    let (name, hex) = text.split_once(':')?;
    let algorithm = Algorithm::from_name(name).ok()?;
    (algorithm.normalise(hex).ok()? == hex).then_some((algorithm, hex))
}
