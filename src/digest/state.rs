//! The running hash of one algorithm. It can be saved, and another process goes on with it.

use std::fmt::Write as _;

use crc_fast::{CrcAlgorithm, Digest as Crc, checksum_combine};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

use crate::digest::algorithm::Algorithm;
use crate::digest::md5::{self, Md5};
use crate::sys::memory::ZEROS;

/// Up to so many zeros are hashed as other bytes are: that is faster.
const FEW_ZEROS: u64 = 8 << 20;

/// The longest saved hash is one of SHA-512: its words, two blocks' bytes and their numbers. In bytes.
pub(crate) const SAVED: usize = 216;

/// The bytes hashed so far.
pub(crate) enum HashState {
    Crc64Nvme(Crc),
    Md5(Md5),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl HashState {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc64Nvme => Self::Crc64Nvme(Crc::new(CrcAlgorithm::Crc64Nvme)),
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc64Nvme(state) => state.update(data),
            Self::Md5(state) => state.update(data),
            Self::Sha256(state) => state.update(data),
            Self::Sha512(state) => state.update(data),
        }
    }

    /// Hashes zeros. A CRC of many is computed from their number, within a millisecond.
    pub fn update_zeros(&mut self, length: u64) {
        match self {
            Self::Crc64Nvme(state) if length > FEW_ZEROS => *state = shifted(state, length),
            _ => in_parts(length, |zeros| self.update(zeros)),
        }
    }

    /// Its saved form, padded with zeros. Of no use to another architecture or version of this library.
    pub fn save(&self) -> [u8; SAVED] {
        let mut saved = [0; SAVED];
        let mut write = |bytes: &[u8]| saved[..bytes.len()].copy_from_slice(bytes);
        match self {
            Self::Crc64Nvme(state) => write(&state.get_state().to_le_bytes()),
            Self::Md5(state) => write(&state.save()),
            Self::Sha256(state) => write(&state.serialize()),
            Self::Sha512(state) => write(&state.serialize()),
        }
        saved
    }

    /// `None` for bytes that are no saved hash of that algorithm. Not each damage is noticed.
    pub fn restore(algorithm: Algorithm, saved: &[u8; SAVED]) -> Option<Self> {
        match algorithm {
            Algorithm::Crc64Nvme => saved.first_chunk().map(|saved| {
                Self::Crc64Nvme(Crc::new_with_init_state(CrcAlgorithm::Crc64Nvme, u64::from_le_bytes(*saved)))
            }),
            Algorithm::Md5 => saved.first_chunk::<{ md5::SAVED }>().map(|saved| Self::Md5(Md5::restore(saved))),
            Algorithm::Sha256 => restore_sha(saved).map(Self::Sha256),
            Algorithm::Sha512 => restore_sha(saved).map(Self::Sha512),
        }
    }

    /// The digest, in hexadecimal digits of lower case.
    pub fn finish(self) -> String {
        match self {
            Self::Crc64Nvme(state) => format!("{:016x}", state.finalize()),
            Self::Md5(state) => to_hex(&state.finalize()),
            Self::Sha256(state) => to_hex(&state.finalize()),
            Self::Sha512(state) => to_hex(&state.finalize()),
        }
    }
}

/// Calls `hash` with so many zeros in all.
pub(super) fn in_parts(mut length: u64, mut hash: impl FnMut(&[u8])) {
    while length > 0 {
        let part = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        hash(&ZEROS[..part]);
        length -= part as u64;
    }
}

/// The CRC after zeros. To combine it with the CRC of bytes after it, the crate shifts it by their number, and adds theirs: here, nothing.
fn shifted(crc: &Crc, zeros: u64) -> Crc {
    let shifted = checksum_combine(CrcAlgorithm::Crc64Nvme, crc.get_state(), 0, zeros);
    Crc::new_with_init_state(CrcAlgorithm::Crc64Nvme, shifted)
}

fn restore_sha<H: SerializableState>(saved: &[u8; SAVED]) -> Option<H> {
    let mut exact = SerializedState::<H>::default();
    let length = exact.len();
    exact.copy_from_slice(saved.get(..length)?);
    H::deserialize(&exact).ok()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of bytes, zeros, and bytes.
    fn crc(zeros: impl FnOnce(&mut HashState)) -> String {
        let mut state = HashState::new(Algorithm::Crc64Nvme);
        state.update(b"before");
        // Others go on with it.
        let mut state = HashState::restore(Algorithm::Crc64Nvme, &state.save()).unwrap();
        zeros(&mut state);
        let mut state = HashState::restore(Algorithm::Crc64Nvme, &state.save()).unwrap();
        state.update(b"after");
        state.finish()
    }

    #[test]
    fn zeros_have_the_crc_of_their_bytes() {
        let run = ZEROS.len() as u64;
        for length in [0, 1, FEW_ZEROS, FEW_ZEROS + 1, FEW_ZEROS + run, 2 * FEW_ZEROS, 3 * FEW_ZEROS + 5 * run + 17] {
            let expected = crc(|state| in_parts(length, |zeros| state.update(zeros)));
            assert_eq!(crc(|state| state.update_zeros(length)), expected, "{length}");
        }
    }

    #[test]
    fn the_crc_of_a_long_hole_is_that_of_its_parts() {
        let length = (1 << 62) + 12_345;
        let expected = crc(|state| state.update_zeros(length));
        for part in [1, FEW_ZEROS + 1, 1 << 40, 1 << 61] {
            let parts = crc(|state| {
                state.update_zeros(part);
                state.update_zeros(length - part);
            });
            assert_eq!(parts, expected, "{part}");
        }
        assert_ne!(crc(|state| state.update_zeros(length + 1)), expected);
    }
}
