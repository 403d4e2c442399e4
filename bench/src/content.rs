//! The bytes of large images: one piece, repeated.

use std::fmt::Write as _;

use crate::random::Random;

/// Bytes that do not compress, the same at each run.
pub fn random_bytes(length: usize) -> Vec<u8> {
    let mut random = Random::new(0x2545_F491_4F6C_DD1D);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A stream of `length` bytes in memory.
pub fn pieces(piece: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::repeat_n(piece, length / piece.len())
}

/// The digest of such a stream, in hex.
pub fn digest<D: md5::Digest>(piece: &[u8], length: usize) -> String {
    let mut hasher = D::new();
    pieces(piece, length).for_each(|piece| hasher.update(piece));
    hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
