//! A listing: a snapshot of the cached images.
//!
//! All texts are in one buffer, so it grows by few large allocations, whose failure is an error. A string per image would be a
//! million small ones, and the host's next allocation after them would abort it.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::index::cached_image::CachedImage;

/// A snapshot of the cached images, in the order of their ids. [`crate::ImageCache::list_cached`] returns it.
///
/// It does not need the cache any more. It uses less than 256 bytes per image.
#[derive(Clone, Default)]
pub struct Listing {
    images: VecDeque<Entry>,
    /// The ids and digests of all images.
    texts: String,
}

/// An image of a listing. Its texts are ranges of [`Listing::texts`].
#[derive(Clone)]
pub(crate) struct Entry {
    image_id: Range<usize>,
    size: u64,
    pub hits: u64,
    pub last_accessed: i64,
    last_modified: i64,
    /// Where its digest ends, which begins after the id.
    digest: Option<usize>,
    pub pinned_until: i64,
    pub allocated: u64,
}

impl Listing {
    /// Appends an image. On failure the listing is as it was.
    pub(crate) fn push(&mut self, image: &CachedImage) -> Result<()> {
        let length = image.image_id.len() + image.digest.as_ref().map_or(0, String::len);
        let reserved = self.texts.try_reserve(length).and_then(|()| self.images.try_reserve(1));
        reserved.map_err(|_| Error::NoMemory { operation: "list the images" })?;
        let entry = Entry {
            image_id: self.append(&image.image_id),
            size: image.size,
            hits: image.hits,
            last_accessed: image.last_accessed,
            last_modified: image.last_modified,
            digest: image.digest.as_ref().map(|digest| self.append(digest).end),
            pinned_until: image.pinned_until,
            allocated: image.allocated,
        };
        self.images.push_back(entry);
        Ok(())
    }

    fn append(&mut self, text: &str) -> Range<usize> {
        let start = self.texts.len();
        self.texts.push_str(text);
        start..self.texts.len()
    }

    /// Sorts the images by their ids. Some file systems list a name twice if it is removed and added meanwhile: one of the two is dropped.
    pub(crate) fn sort(&mut self) {
        let id = |entry: &Entry| &self.texts[entry.image_id.clone()];
        self.images.make_contiguous().sort_unstable_by(|one, other| id(one).cmp(id(other)));
        let mut last = None;
        self.images.retain(|entry| {
            last.replace(&self.texts[entry.image_id.clone()]) != Some(&self.texts[entry.image_id.clone()])
        });
    }

    /// The images, with their ids, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.images.iter_mut().map(|entry| (&self.texts[entry.image_id.clone()], entry))
    }
}

impl Iterator for Listing {
    type Item = CachedImage;

    fn next(&mut self) -> Option<CachedImage> {
        let entry = self.images.pop_front()?;
        Some(CachedImage {
            digest: entry.digest.map(|end| self.texts[entry.image_id.end..end].to_owned()),
            image_id: self.texts[entry.image_id].to_owned(),
            size: entry.size,
            hits: entry.hits,
            last_accessed: entry.last_accessed,
            last_modified: entry.last_modified,
            pinned_until: entry.pinned_until,
            allocated: entry.allocated,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.images.iter().size_hint()
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
    use super::*;

    fn images(ids: &[&str]) -> Vec<CachedImage> {
        let image = |(number, id): (u32, &&str)| CachedImage {
            image_id: (*id).to_owned(),
            size: number.into(),
            hits: u64::from(number) + 1,
            last_accessed: i64::from(number) + 2,
            last_modified: i64::from(number) + 3,
            digest: number.is_multiple_of(2).then(|| format!("md5:{number:032x}")),
            pinned_until: i64::from(number) + 4,
            allocated: u64::from(number) + 5,
        };
        (0..).zip(ids).map(image).collect()
    }

    fn listing(images: &[CachedImage]) -> Listing {
        let mut listing = Listing::default();
        images.iter().try_for_each(|image| listing.push(image)).unwrap();
        listing
    }

    #[test]
    fn images_come_back_as_they_were_and_are_counted() {
        let images = images(&["b", "ä-日本", "", "a"]);
        let mut listing = listing(&images);
        assert_eq!(listing.len(), 4);
        assert_eq!(listing.next().as_ref(), Some(&images[0]));
        assert_eq!((listing.len(), listing.clone().collect::<Vec<_>>()), (3, images[1..].to_vec()));
        assert_eq!((listing.by_ref().count(), listing.next(), listing.len()), (3, None, 0));
    }

    #[test]
    fn images_are_sorted_by_their_bytes_each_with_its_digest() {
        let mut images = images(&["b", "a-long-one", "ä", "B", "a", "-"]);
        let mut listing = listing(&images);
        listing.sort();
        images.sort_by(|one, other| one.image_id.cmp(&other.image_id));
        assert_eq!(listing.collect::<Vec<_>>(), images);
    }

    #[test]
    fn images_can_be_changed() {
        let mut images = images(&["a", "b"]);
        let mut listing = listing(&images);
        listing.iter_mut().filter(|(id, _)| *id == "b").for_each(|(_, entry)| entry.hits = 7);
        images[1].hits = 7;
        assert_eq!(listing.collect::<Vec<_>>(), images);
    }

    #[test]
    fn an_image_has_few_bytes() {
        // Beside its texts, of which a SHA-512 is the longest: 36 and 135 bytes.
        assert!(size_of::<Entry>() + 36 + 135 <= 256);
    }
}
