//! The images of a store. Every byte is a function of the image and the offset, so that each delivered piece is checked by itself.

use std::fmt::Write as _;
use std::io;
use std::sync::OnceLock;

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// Images repeat these bytes. Their number is a prime, so that no shift by a piece is the same.
const PERIOD: usize = 65_521;

/// Sizes at the borders of the pieces that streams fetch, and between them.
const SIZES: [u64; 10] =
    [0, 1, 5_000, 64 << 10, (64 << 10) + 1, 300_000, 1 << 20, (1 << 20) + 1, 2_500_000, (4 << 20) - 7];

/// Of images that some streams expect with a wrong size or digest.
const CONTESTED: [u64; 2] = [200_000, 1_500_000];

#[derive(Debug)]
pub struct Image {
    pub id: String,
    pub size: u64,
    /// Whether some streams expect it wrongly.
    pub is_contested: bool,
    shift: usize,
    digests: OnceLock<[String; 2]>,
}

/// All images that the random roles use.
pub fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let all = SIZES.iter().map(|size| (*size, false)).chain(CONTESTED.iter().map(|size| (*size, true)));
        all.enumerate()
            .map(|(number, (size, is_contested))| {
                let kind = if is_contested { "contested" } else { "image" };
                Image { is_contested, ..Image::new(format!("{kind}-{number}"), size, number) }
            })
            .collect()
    })
}

impl Image {
    /// Images with different numbers have different bytes.
    pub fn new(id: String, size: u64, number: usize) -> Self {
        Self { id, size, is_contested: false, shift: number * 4099 % PERIOD, digests: OnceLock::new() }
    }

    /// Fills a buffer with the image's bytes at an offset.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        let mut at = self.position(offset);
        for piece in buffer.chunks_mut(PERIOD) {
            piece.copy_from_slice(&period()[at..at + piece.len()]);
            at = (at + piece.len()) % PERIOD;
        }
    }

    /// A good source of the image, which returns at most 64 KiB.
    pub fn source(&self) -> impl FnMut(u64, &mut [u8]) -> io::Result<usize> {
        |offset, buffer| {
            let left = usize::try_from(self.size.saturating_sub(offset)).unwrap();
            let length = left.min(buffer.len()).min(64 << 10);
            self.fill(offset, &mut buffer[..length]);
            Ok(length)
        }
    }

    /// Fails unless these are the image's bytes at that offset.
    pub fn verify(&self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        if offset + bytes.len() as u64 > self.size {
            let id = &self.id;
            return Err(format!("'{id}': {} bytes at {offset} are beyond the size {}", bytes.len(), self.size));
        }
        let mut at = self.position(offset);
        for (number, piece) in bytes.chunks(PERIOD).enumerate() {
            if *piece != period()[at..at + piece.len()] {
                let wrong = piece.iter().zip(&period()[at..]).take_while(|(byte, right)| byte == right).count();
                let place = offset + (number * PERIOD + wrong) as u64;
                return Err(format!("'{}': the byte at {place} is wrong: {:#04x}", self.id, piece[wrong]));
            }
            at = (at + piece.len()) % PERIOD;
        }
        Ok(())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.size).unwrap()];
        self.fill(0, &mut bytes);
        bytes
    }

    pub fn sha256(&self) -> &str {
        &self.digests()[0]
    }

    pub fn md5(&self) -> &str {
        &self.digests()[1]
    }

    fn digests(&self) -> &[String; 2] {
        self.digests.get_or_init(|| [hex(&Sha256::digest(self.bytes())), hex(&Md5::digest(self.bytes()))])
    }

    fn position(&self, offset: u64) -> usize {
        (usize::try_from(offset % PERIOD as u64).unwrap() + self.shift) % PERIOD
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Twice, so that a piece of one period can begin anywhere.
fn period() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut random = fastrand::Rng::with_seed(13);
        std::iter::repeat_with(|| random.u8(..)).take(PERIOD).collect::<Vec<_>>().repeat(2)
    })
}
