//! MD5 (RFC 1321) around the compression function of the `fast-md5` crate, whose own hash cannot be saved. Knows nothing of files.

use fast_md5::transform;

/// Bytes.
const BLOCK: usize = 64;

/// The bytes hashed so far.
#[derive(Clone)]
pub(crate) struct Md5 {
    words: [u32; 4],
    /// Bytes.
    length: u64,
    /// Its first `length % 64` bytes are still to be compressed.
    block: [u8; BLOCK],
}

/// The length of a saved hash, in bytes.
pub(super) const SAVED: usize = 16 + 8 + BLOCK;

impl Md5 {
    pub fn new() -> Self {
        let words = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        Self { words, length: 0, block: [0; BLOCK] }
    }

    fn filled(&self) -> usize {
        // A block is shorter than the lowest byte's range.
        usize::from(self.length.to_le_bytes()[0]) % BLOCK
    }

    pub fn update(&mut self, data: &[u8]) {
        let filled = self.filled();
        self.length = self.length.wrapping_add(data.len() as u64);
        let (first, rest) = data.split_at(data.len().min((BLOCK - filled) % BLOCK));
        self.block[filled..filled + first.len()].copy_from_slice(first);
        if filled + first.len() == BLOCK {
            transform(&mut self.words, &self.block);
        }
        let (blocks, rest) = rest.as_chunks();
        for block in blocks {
            transform(&mut self.words, block);
        }
        if !rest.is_empty() {
            self.block[..rest.len()].copy_from_slice(rest);
        }
    }

    pub fn finalize(mut self) -> [u8; 16] {
        let bits = self.length.wrapping_mul(8);
        // One bit 1, then bits 0 up to the last 8 bytes of a block.
        let zeros = (2 * BLOCK - 9 - self.filled()) % BLOCK;
        self.update(&[0x80]);
        self.update(&[0; BLOCK][..zeros]);
        self.update(&bits.to_le_bytes());
        let mut digest = [0; 16];
        write_words(&self.words, &mut digest);
        digest
    }

    pub fn save(&self) -> [u8; SAVED] {
        let mut saved = [0; SAVED];
        write_words(&self.words, &mut saved[..16]);
        saved[16..24].copy_from_slice(&self.length.to_le_bytes());
        saved[24..].copy_from_slice(&self.block);
        saved
    }

    pub fn restore(saved: &[u8; SAVED]) -> Self {
        let (words, rest) = saved.split_at(16);
        let (length, block) = rest.split_at(8);
        let mut restored = Self::new();
        for (word, bytes) in restored.words.iter_mut().zip(words.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        restored.length = length.as_chunks().0.first().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        restored.block.copy_from_slice(block);
        restored
    }
}

fn write_words(words: &[u32; 4], bytes: &mut [u8]) {
    for (word, place) in words.iter().zip(bytes.chunks_exact_mut(4)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}
