//! What an eviction would remove now: the least recently accessed images that are neither pinned, nor in use, nor empty. For `--dry-run`.
//!
//! It is computed from the public lists, and evicts nothing. Between it and an eviction, images are read, opened and closed.

use image_cache::{CachedImage, ImageCache};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{Column, Page};
use crate::units::{ago, images, rfc3339, size};

/// What is to be freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Goal {
    /// So many bytes of images' lengths.
    pub lengths: u64,
    /// So many bytes on the disk.
    pub blocks: u64,
}

impl Goal {
    /// What is missing to have at most so many bytes, and so many more free.
    pub fn of(cache: &ImageCache, limit: Option<u64>, room: u64) -> Result<Self, Failure> {
        let usage = cache.usage()?;
        let limit = limit.unwrap_or(usage.limit);
        let floor = usage.min_free.saturating_add(room).saturating_sub(usage.free);
        if usage.is_hard {
            let over = usage.total().saturating_add(room).saturating_sub(limit);
            return Ok(Self { lengths: 0, blocks: over.max(floor) });
        }
        let bytes = cache.cache_size()?;
        Ok(Self { lengths: bytes.saturating_add(room).saturating_sub(limit), blocks: floor })
    }
}

/// What would be evicted.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// In this order.
    pub evicted: Vec<Victim>,
    /// How many images that were accessed before the last one of these stay since they are pinned.
    pub pinned: u64,
    /// The same, since they are in use.
    pub in_use: u64,
    /// How many bytes are missing all the same.
    pub missing: u64,
}

/// An image that would be evicted.
#[derive(Debug, Serialize)]
pub struct Victim {
    id: String,
    /// Its length in bytes.
    pub size: u64,
    allocated: u64,
    accessed_at: String,
    #[serde(skip)]
    last_accessed: i64,
}

impl Plan {
    /// Chooses images for a goal. Failed fetches are removed before, if blocks are missing.
    pub fn new(cache: &ImageCache, goal: Goal) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut left = goal;
        if left.blocks > 0 {
            left.blocks = left.blocks.saturating_sub(cache.usage()?.invalid);
        }
        let mut images: Vec<CachedImage> = cache.list_cached()?.filter(|image| image.size > 0).collect();
        images.sort_by_key(|image| image.last_accessed);
        for image in images {
            if left == Goal::default() {
                break;
            }
            if image.pinned_until > 0 {
                plan.pinned += 1;
            } else if cache.is_in_use(&image.image_id).unwrap_or(false) {
                plan.in_use += 1;
            } else {
                left.lengths = left.lengths.saturating_sub(image.size);
                left.blocks = left.blocks.saturating_sub(image.allocated);
                plan.evicted.push(Victim {
                    id: image.image_id,
                    size: image.size,
                    allocated: image.allocated,
                    accessed_at: rfc3339(image.last_accessed),
                    last_accessed: image.last_accessed,
                });
            }
        }
        plan.missing = left.lengths.max(left.blocks);
        Ok(plan)
    }

    /// The lengths of the images, in bytes.
    pub fn bytes(&self) -> u64 {
        self.evicted.iter().fold(0, |sum: u64, victim| sum.saturating_add(victim.size))
    }

    /// Writes it for people.
    pub fn text(&self, page: &mut Page) {
        if !self.evicted.is_empty() {
            page.table(
                &[Column::Wide("IMAGE"), Column::Right("SIZE"), Column::Right("ACCESSED")],
                self.evicted.iter().map(|victim| vec![victim.id.clone(), size(victim.size), ago(victim.last_accessed)]),
            );
        }
        page.line(format!("{} would be evicted, {}", images(self.evicted.len() as u64), size(self.bytes())));
        for (number, why) in [(self.pinned, "pinned"), (self.in_use, "in use")] {
            if number > 0 {
                page.line(format!("{} would stay: {why}", images(number)));
            }
        }
        if self.missing > 0 {
            page.warning(&format!("{} would be missing all the same", size(self.missing)));
        }
    }
}
