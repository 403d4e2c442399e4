//! The running hash of one algorithm.

use std::fmt::Write as _;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use fast_md5::Md5;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::algorithm::Algorithm;

/// The bytes hashed so far.
pub(crate) enum HashState {
    Md5(Md5),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl HashState {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Md5(state) => state.update(data),
            Self::Sha256(state) => state.update(data),
            Self::Sha512(state) => state.update(data),
        }
    }

    /// The digest, in hexadecimal digits of lower case.
    pub fn finish(self) -> String {
        match self {
            Self::Md5(state) => to_hex(&state.finalize()),
            Self::Sha256(state) => to_hex(&state.finalize()),
            Self::Sha512(state) => to_hex(&state.finalize()),
        }
    }
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
