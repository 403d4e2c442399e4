//! The packed form of an image: UUIDs and digests in binary, and the second time as a difference.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::algorithm::Algorithm;
use crate::index::cached_image::CachedImage;

/// A packed [`CachedImage`].
#[derive(Serialize, Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    image_id: PackedId<'a>,
    size: u64,
    hits: u64,
    last_modified: i64,
    /// How much later than `last_modified` it was accessed, wrapping around: a smaller number than the time, and exact.
    accessed_after: i64,
    #[serde(borrow)]
    digest: PackedDigest<'a>,
}

/// An image's id.
#[derive(Serialize, Deserialize)]
pub(super) enum PackedId<'a> {
    /// A UUID in Glance's form: lower case, with dashes.
    Uuid([u8; 16]),
    Text(&'a str),
}

/// The digest of an image.
#[derive(Serialize, Deserialize)]
enum PackedDigest<'a> {
    None,
    Md5([u8; 16]),
    Sha256([u8; 32]),
    /// In halves: serde supports arrays of up to 32.
    Sha512([u8; 32], [u8; 32]),
    Text(&'a str),
}

impl<'a> From<&'a CachedImage> for Entry<'a> {
    fn from(image: &'a CachedImage) -> Self {
        Self {
            image_id: PackedId::from(image.image_id.as_str()),
            size: image.size,
            hits: image.hits,
            last_modified: image.last_modified,
            accessed_after: image.last_accessed.wrapping_sub(image.last_modified),
            digest: image.digest.as_deref().map_or(PackedDigest::None, PackedDigest::from),
        }
    }
}

impl From<Entry<'_>> for CachedImage {
    fn from(entry: Entry<'_>) -> Self {
        Self {
            image_id: entry.image_id.into(),
            size: entry.size,
            hits: entry.hits,
            last_accessed: entry.last_modified.wrapping_add(entry.accessed_after),
            last_modified: entry.last_modified,
            digest: entry.digest.into(),
        }
    }
}

impl<'a> From<&'a str> for PackedId<'a> {
    fn from(text: &'a str) -> Self {
        match Uuid::try_parse(text) {
            // Other spellings of a UUID stay text.
            Ok(uuid) if uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text => {
                Self::Uuid(uuid.into_bytes())
            }
            _ => Self::Text(text),
        }
    }
}

impl From<PackedId<'_>> for String {
    fn from(id: PackedId<'_>) -> Self {
        match id {
            PackedId::Uuid(bytes) => {
                Uuid::from_bytes(bytes).hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
            }
            PackedId::Text(text) => text.to_owned(),
        }
    }
}

impl<'a> From<&'a str> for PackedDigest<'a> {
    fn from(text: &'a str) -> Self {
        let Some((name, hex)) = text.split_once(':') else { return Self::Text(text) };
        let packed = match Algorithm::from_name(name) {
            Ok(Algorithm::Md5) => bytes_of(hex).map(Self::Md5),
            Ok(Algorithm::Sha256) => bytes_of(hex).map(Self::Sha256),
            Ok(Algorithm::Sha512) => hex
                .split_at_checked(64)
                .and_then(|(first, second)| Some(Self::Sha512(bytes_of(first)?, bytes_of(second)?))),
            Err(_) => None,
        };
        packed.unwrap_or(Self::Text(text))
    }
}

impl From<PackedDigest<'_>> for Option<String> {
    fn from(digest: PackedDigest<'_>) -> Self {
        match digest {
            PackedDigest::None => None,
            PackedDigest::Md5(bytes) => Some(text_of(Algorithm::Md5, &bytes)),
            PackedDigest::Sha256(bytes) => Some(text_of(Algorithm::Sha256, &bytes)),
            PackedDigest::Sha512(first, second) => Some(text_of(Algorithm::Sha512, &[first, second].concat())),
            PackedDigest::Text(text) => Some(text.to_owned()),
        }
    }
}

/// Decodes digits of lower case; `None` when there are others, or more or fewer than expected.
fn bytes_of<const LENGTH: usize>(hex: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let decoded = base16ct::lower::decode(hex, &mut bytes).ok()?.len();
    (decoded == LENGTH).then_some(bytes)
}

fn text_of(algorithm: Algorithm, bytes: &[u8]) -> String {
    let mut text = format!("{}:", algorithm.name());
    text.push_str(&base16ct::lower::encode_string(bytes));
    text
}
