//! The extended attributes that the cache uses, by name.
//!
//! `user.hits` and `user.error` are Glance's; ours begin with `user.image_cache.`.

use std::io::Result;
use std::os::fd::AsFd;

use crate::sys::attribute;

/// An attribute of an image's file or of the cache's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// How often a cached image was read: decimal digits.
    Hits,
    /// Why the fetch of an invalid file failed.
    Failure,
    /// The digest verified or computed at commit, and the length then (see `committed`).
    Digest,
    /// When an image was verified last (see `verified`).
    Verified,
    /// The digest that an invalid file has in place of the expected one: `algorithm:expected:actual`.
    WrongDigest,
    /// The boot and the mount in which a file was published without a sync (see `unsynced`).
    Unsynced,
    /// Set and removed to test whether the file system has extended attributes.
    Probe,
}

impl Attribute {
    fn name(self) -> &'static str {
        match self {
            Self::Hits => "user.hits",
            Self::Failure => "user.error",
            Self::Digest => "user.image_cache.digest",
            Self::Verified => "user.image_cache.verified",
            Self::WrongDigest => "user.image_cache.wrong",
            Self::Unsynced => "user.image_cache.unsynced",
            Self::Probe => "user.image_cache.probe",
        }
    }
}

/// An attribute's text; `None` when the file has none.
pub(crate) fn get(file: impl AsFd, attribute: Attribute) -> Result<Option<String>> {
    attribute::get(file, attribute.name())
}

/// Sets an attribute's text, cut at 512 bytes.
pub(crate) fn set(file: impl AsFd, attribute: Attribute, value: &str) -> Result<()> {
    attribute::set(file, attribute.name(), value)
}

/// Removes an attribute; a missing one is no error.
pub(crate) fn remove(file: impl AsFd, attribute: Attribute) -> Result<()> {
    attribute::remove(file, attribute.name())
}

/// Records on an invalid file why its fetch failed, as Glance does. Does nothing where the file system has no attributes.
pub(crate) fn record_failure(file: impl AsFd, reason: &str) {
    let _ = set(file, Attribute::Failure, reason);
}
