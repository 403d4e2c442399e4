//! Words: escapes, data words, and fingerprints of data.

use super::Stop;

const MAX_DATA: u64 = 64 << 20;

/// Decodes a word's escapes. `None` means that one is malformed.
pub fn unescape(word: &str) -> Option<Vec<u8>> {
    if word == "%" {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(hex_digit(digits[0])? * 16 + hex_digit(digits[1])?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Escapes a text for the transcript.
pub fn escape(text: &[u8]) -> String {
    text.iter().fold(String::new(), |escaped, &byte| match byte {
        b'%' => escaped + "%25",
        b'!'..=b'~' => escaped + char::from(byte).encode_utf8(&mut [0; 4]),
        _ => escaped + &format!("%{byte:02X}"),
    })
}

/// Joins names with one space. An empty list gives `none`.
pub fn list(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

pub fn text(word: &[u8]) -> Result<&str, Stop> {
    std::str::from_utf8(word).map_err(|_| Stop::BadLine("text that is not UTF-8"))
}

pub fn number(word: &[u8]) -> Result<u64, Stop> {
    let digits = std::str::from_utf8(word).ok().filter(|digits| !digits.starts_with('+'));
    digits.and_then(|digits| digits.parse().ok()).ok_or(Stop::BadLine("not a number"))
}

/// A buffer of as many bytes as the word says.
pub fn buffer_of(word: &[u8]) -> Result<Vec<u8>, Stop> {
    let length = usize::try_from(number(word)?).map_err(|_| Stop::BadLine("a buffer that is too large"))?;
    Ok(vec![0; length])
}

pub fn is_data(word: &[u8]) -> bool {
    [&b"stars:"[..], b"zeros:", b"text:", b"pattern:"].iter().any(|prefix| word.starts_with(prefix))
}

/// Generates the bytes of a data word.
pub fn data(word: &[u8]) -> Result<Vec<u8>, Stop> {
    generate(word).ok_or(Stop::BadLine("no such data"))
}

fn generate(word: &[u8]) -> Option<Vec<u8>> {
    let colon = word.iter().position(|&byte| byte == b':')?;
    let (kind, rest) = (&word[..colon], &word[colon + 1..]);
    let length = |word: &[u8]| {
        let length = number(word).ok().filter(|&length| length <= MAX_DATA)?;
        usize::try_from(length).ok()
    };
    match kind {
        b"text" => Some(rest.to_vec()),
        b"stars" => Some(vec![b'*'; length(rest)?]),
        b"zeros" => Some(vec![0; length(rest)?]),
        b"pattern" => {
            let colon = rest.iter().position(|&byte| byte == b':')?;
            Some(pattern(number(&rest[..colon]).ok()?, length(&rest[colon + 1..])?))
        }
        _ => None,
    }
}

/// The top bytes of a 64-bit linear congruential generator (Knuth's MMIX).
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    let states = std::iter::successors(next(&seed), next);
    states.take(length).map(|state| state.to_be_bytes()[0]).collect()
}

/// The length and the 64-bit FNV-1a hash of data.
pub fn fingerprint(data: &[u8]) -> String {
    let hash = data
        .iter()
        .fold(14_695_981_039_346_656_037_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211));
    format!("bytes:{}:{hash:016x}", data.len())
}
