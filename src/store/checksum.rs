//! The checksum of our small records: against damage, not against forgers.

/// The checksum of whole words of 8 bytes. A change of one word always changes it.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x100_0000_01b3;
    let words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
    words.fold(PRIME, |sum, word| (sum ^ word).wrapping_mul(PRIME).rotate_left(29))
}
