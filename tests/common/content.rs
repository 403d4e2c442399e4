//! Images that identify themselves: id and version determine every byte.
//!
//! A checker needs no record of what was written to see whether bytes are whole, and whose they are. The power cuts and the
//! races use them.

#![allow(dead_code, reason = "each sweep uses a part")]

use std::fmt;
use std::str::FromStr;

const MAGIC: u64 = 0x7365_6361_7220_7661;
const WORD: usize = 8;
/// Magic, id, version and length.
const HEADER: usize = 4 * WORD;
/// How many bytes an error message shows.
const SHOWN: usize = 16;

/// One writer's version of one image. No two writers write the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Names the writer by its process, its thread and a number of its own. The last bit says whether it commits.
    pub fn new(process: u64, thread: u64, number: u64, is_committed: bool) -> Self {
        Self(process << 40 | thread << 32 | number << 1 | u64::from(is_committed))
    }

    /// Whether its writer commits it. The others abort, or expect a digest that the bytes do not have.
    pub fn is_committed(self) -> bool {
        self.0 & 1 == 1
    }

    /// The process that writes it.
    pub fn process(self) -> u64 {
        self.0 >> 40
    }

    /// Most versions are short, some are one page, some are longer than every buffer of the library.
    pub fn length(self) -> usize {
        const MAX_BODIES: [usize; 5] = [64, 1000, 5000, 40_000, 300_000];
        let random = usize::try_from(mix(self.0) >> 32).unwrap_or_default();
        let kind = random % (MAX_BODIES.len() + 1);
        MAX_BODIES.get(kind).map_or(4096, |max| HEADER + random / (MAX_BODIES.len() + 1) % max)
    }

    /// All of its bytes.
    pub fn bytes(self, image_id: &str) -> Vec<u8> {
        let length = self.length();
        let image = hash(image_id);
        let header = [MAGIC, image, self.0, length as u64];
        let mut state = mix(image ^ mix(self.0));
        let body = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(state)
        });
        let mut bytes = Vec::with_capacity(length + WORD);
        for word in header.into_iter().chain(body.take((length - HEADER).div_ceil(WORD))) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Returns the version that the bytes are. Fails unless they are all the bytes of a version that its writer commits.
pub fn verify(image_id: &str, bytes: &[u8]) -> Result<Version, String> {
    let shown = |from: usize| &bytes[from..bytes.len().min(from + SHOWN)];
    let version = claimed_version(bytes)
        .ok_or_else(|| format!("{} bytes without an image's header: {:?}", bytes.len(), shown(0)))?;
    let expected = version.bytes(image_id);
    if bytes != expected {
        let same = bytes.iter().zip(&expected).take_while(|(byte, right)| byte == right).count();
        return Err(format!(
            "version {version} is torn: {} bytes of {}; the first {same} are right, then come {:?}",
            bytes.len(),
            expected.len(),
            shown(same),
        ));
    }
    if !version.is_committed() {
        return Err(format!("version {version} is published, and its writer never committed it"));
    }
    Ok(version)
}

/// Returns the version that the header names. The bytes may be a part of the image.
pub fn claimed_version(bytes: &[u8]) -> Option<Version> {
    let word = |at: usize| {
        let word = bytes.get(at * WORD..(at + 1) * WORD)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    };
    (word(0)? == MAGIC).then_some(Version(word(2)?))
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(MAGIC, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The finalizer of `SplitMix64`: every bit of the result depends on every bit of the number.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
