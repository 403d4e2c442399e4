//! Contents that say whose they are: each served byte can be checked without knowing what was written when.

use std::fmt::Write as _;

use md5::{Digest as _, Md5};

/// The check_image content of a version of an image: a line that names them, and bytes that no other version has.
pub fn of(id: &str, version: u64) -> Vec<u8> {
    let mut content = format!("image {id} version {version}\n").into_bytes();
    let mut random = fastrand::Rng::with_seed(version);
    let length = match random.u8(0..8) {
        0 => content.len(),
        1..=3 => content.len() + random.usize(0..2000),
        4 => 4096,
        5..=6 => random.usize(4096..70_000),
        _ => random.usize(70_000..400_000),
    };
    let start = content.len();
    content.resize(length, 0);
    random.fill(&mut content[start..]);
    content
}

/// Which version of the image these bytes are; or what is wrong with them.
pub fn identify(id: &str, bytes: &[u8]) -> Result<u64, String> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let version = line
        .strip_prefix(&format!("image {id} version "))
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| format!("{} bytes that begin with no image's line: {:?}", bytes.len(), shortened(bytes)))?;
    let check_image = of(id, version);
    if bytes == check_image {
        return Ok(version);
    }
    let same = bytes.iter().zip(&check_image).take_while(|(byte, right)| byte == right).count();
    Err(format!(
        "version {version} is torn: {} bytes of {}, of which {same} at the start are right, and then {:?}",
        bytes.len(),
        check_image.len(),
        shortened(&bytes[same..]),
    ))
}

/// The digest as the cache's listing shows it.
pub fn digest(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().fold("md5:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

fn shortened(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(16)]
}
