//! A listing: a snapshot of the cached images, packed. A million images with texts of their own would take hundreds of bytes each
//! on the heap.

mod chunks;
mod entry;
mod sorted;

use std::fmt;
use std::iter::FusedIterator;

use crate::error::{Error, Result};
use crate::index::cached_image::CachedImage;
use crate::index::listing::chunks::Chunks;
use crate::index::listing::entry::Entry;

pub(crate) use crate::index::listing::sorted::sort_ids;

/// A snapshot of the cached images, in the order of their ids. [`crate::ImageCache::list_cached`] returns it.
///
/// It does not need the cache any more. It holds a million images in some tens of MiB, unpacks a [`CachedImage`] at each step, and
/// frees memory as it is read.
#[derive(Clone, Default)]
pub struct Listing {
    images: Chunks,
    /// Images are missing, since the memory did not suffice.
    failure: Option<Error>,
}

impl Listing {
    /// Fails when the listing is incomplete.
    pub(crate) fn into_complete(self) -> Result<Self> {
        self.failure.map_or(Ok(Self { failure: None, ..self }), Err)
    }
}

impl FromIterator<CachedImage> for Listing {
    /// Keeps the order of the iterator. Stops where the memory does not suffice: see [`Self::into_complete`].
    fn from_iter<I: IntoIterator<Item = CachedImage>>(images: I) -> Self {
        let mut listing = Self::default();
        let packed = images.into_iter().try_for_each(|image| listing.images.push(&Entry::from(&image)));
        listing.failure = packed.err();
        listing
    }
}

impl Iterator for Listing {
    type Item = CachedImage;

    fn next(&mut self) -> Option<CachedImage> {
        self.images.pop(|bytes| postcard::take_from_bytes::<Entry<'_>>(bytes).map(|(entry, rest)| (entry.into(), rest)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.images.len(), Some(self.images.len()))
    }
}

impl ExactSizeIterator for Listing {}

impl FusedIterator for Listing {}

impl fmt::Debug for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listing").field("left", &self.images.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// UUIDs, similar texts, and any text.
    fn image_id() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
            "[0-9a-f]{32}",
            "[0-9a-g-]{36}",
            "[0-9a-f]{7}-[0-9a-f]{5}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "(urn:uuid:|\\{)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\}?",
            "\\PC{0,255}",
        ]
    }

    /// Valid digests, digests with a digit too many or too few, in capitals, of other algorithms, and any text.
    fn digest() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(prop_oneof![
            "md5:[0-9a-f]{32}",
            "sha256:[0-9a-f]{64}",
            "sha512:[0-9a-f]{128}",
            "(md5|sha256|sha512):[0-9a-f]{31,33}",
            "(md5|sha256|sha512):[0-9a-fA-F]{64}",
            "(md5|sha256|sha512):[0-9a-g]{128}",
            "(MD5|md4|sha1|sha224|):[0-9a-f]{32}",
            "[0-9a-f]{32}",
            "\\PC{0,600}",
        ])
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -1..=1_i64, Just(1_700_000_000_000_000_000)]
    }

    prop_compose! {
        fn cached_image()(
            image_id in image_id(),
            size in prop_oneof![any::<u64>(), Just(u64::MAX), 0..300_u64],
            hits in prop_oneof![any::<u64>(), Just(u64::MAX), 0..300_u64],
            last_accessed in time(),
            last_modified in time(),
            digest in digest(),
        ) -> CachedImage {
            CachedImage { image_id, size, hits, last_accessed, last_modified, digest }
        }
    }

    proptest! {
        #[test]
        fn every_image_is_unpacked_as_it_was(images in proptest::collection::vec(cached_image(), 0..20)) {
            let listing: Listing = images.iter().cloned().collect();
            prop_assert_eq!(listing.len(), images.len());
            prop_assert_eq!(listing.collect::<Vec<_>>(), images);
        }
    }

    fn numbered(number: u64) -> CachedImage {
        let digest = Some(format!("md5:{number:032x}"));
        CachedImage {
            image_id: format!("image-{number}"),
            size: number,
            hits: 1,
            last_accessed: 2,
            last_modified: 3,
            digest,
        }
    }

    #[test]
    fn images_in_many_chunks_are_unpacked_and_counted() {
        const IMAGES: u64 = 50_000;
        let mut listing: Listing = (0..IMAGES).map(numbered).collect();
        for number in 0..IMAGES {
            assert_eq!(listing.len() as u64, IMAGES - number);
            assert_eq!(listing.next(), Some(numbered(number)));
        }
        assert_eq!((listing.len(), listing.next(), listing.next()), (0, None, None));
    }

    #[test]
    fn a_text_longer_than_a_chunk_gets_its_own() {
        let long = CachedImage { image_id: "x".repeat(1 << 20), ..numbered(2) };
        let images = vec![numbered(1), long, numbered(3)];
        assert_eq!(images.iter().cloned().collect::<Listing>().collect::<Vec<_>>(), images);
    }

    #[test]
    fn a_realistic_entry_has_few_bytes() {
        let image = CachedImage {
            image_id: "3f2b8c1e-5a77-4d09-9c35-0b1de2f4a6c8".to_owned(),
            size: 2_361_393_152,
            hits: 250,
            last_accessed: 1_795_100_000_123_456_789,
            last_modified: 1_793_000_000_123_456_789,
            digest: Some("md5:5d41402abc4b2a76b9719d911017c592".to_owned()),
        };
        // 17 for the id, 17 for the digest, 5, 2, 9 and 8 for the numbers.
        assert_eq!(postcard::to_extend(&Entry::from(&image), Vec::new()).unwrap().len(), 58);
    }
}
