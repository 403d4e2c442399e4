//! An image as every command shows it.

use image_cache::CachedImage;
use serde::Serialize;

use crate::units::rfc3339;

/// A cached image.
#[derive(Debug, Serialize)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it takes up on the disk, in bytes.
    pub allocated: u64,
    /// How often it was read.
    pub hits: u64,
    /// When it was last opened.
    pub accessed_at: String,
    /// When it was cached.
    pub cached_at: String,
    /// As `algorithm:hex`.
    pub digest: Option<String>,
    /// Whether anybody has it pinned; `None` if this user may not read the pins.
    pub pinned: Option<bool>,
    /// Until when; `None` also for pins without an end.
    pub pinned_until: Option<String>,
}

impl Image {
    /// `knows_pins`: whether this user may read the pins.
    pub fn new(image: &CachedImage, knows_pins: bool) -> Self {
        Self {
            id: image.image_id.clone(),
            size: image.size,
            allocated: image.allocated,
            hits: image.hits,
            accessed_at: rfc3339(image.last_accessed),
            cached_at: rfc3339(image.last_modified),
            digest: image.digest.clone(),
            pinned: knows_pins.then_some(image.pinned_until > 0),
            pinned_until: end(image.pinned_until),
        }
    }
}

/// When a pin ends; `None` if it does not.
pub fn end(until: i64) -> Option<String> {
    (until > 0 && until < i64::MAX).then(|| rfc3339(until))
}
