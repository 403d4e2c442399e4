//! Contents that say whose they are: each byte of an image follows from its id and its version, so that whoever reads it
//! can tell, without asking anybody, whether all of it is what one writer meant to publish.

use std::fmt;

const MAGIC: u64 = 0x7365_6361_7220_7661;
const WORD: usize = 8;
/// Magic, id, version and length.
const HEADER: usize = 4 * WORD;

/// One writer's contents of one image. No two writers have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The number of a writer: of its process, its thread in it, and its turn in that. Its last bit says whether it is to be
    /// published at all.
    pub fn new(process: u64, thread: u64, turn: u64, to_be_published: bool) -> Self {
        Self(process << 40 | thread << 32 | turn << 1 | u64::from(to_be_published))
    }

    /// Whether its writer meant to publish it: the others give up, or expect a digest that it does not have.
    pub fn is_to_be_published(self) -> bool {
        self.0 & 1 == 1
    }

    /// The process that writes it.
    pub fn process(self) -> u64 {
        self.0 >> 40
    }

    /// How long it is: most are short, some are longer than any buffer on the way.
    pub fn length(self) -> usize {
        let random = usize::try_from(mix(self.0) >> 32).unwrap_or_default();
        let longest = [64, 1000, 5000, 40_000, 300_000][random % 5];
        HEADER + random / 5 % longest
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

/// Which version the bytes are, if they are all of one that was to be published.
pub fn verify(image_id: &str, bytes: &[u8]) -> Result<Version, String> {
    let version = claimed_version(bytes).ok_or_else(|| format!("{} bytes without a header", bytes.len()))?;
    let expected = version.bytes(image_id);
    if bytes.len() != expected.len() {
        return Err(format!("version {version} has {} bytes, {} were served", expected.len(), bytes.len()));
    }
    if let Some(offset) = bytes.iter().zip(&expected).position(|(served, written)| served != written) {
        return Err(format!("a wrong byte at offset {offset} of version {version}"));
    }
    if !version.is_to_be_published() {
        return Err(format!("version {version} was served, which its writer never published"));
    }
    Ok(version)
}

/// Which version the bytes, which need not be all, say that they are.
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
