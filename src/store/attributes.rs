//! The extended attributes that the cache uses, by name.
//!
//! `user.hits` and `user.error` are Glance's; ours begin with `user.image_cache.`.

use std::fs::File;
use std::io::{Error, Result};

use crate::sys::attribute;
use crate::sys::dir::Directory;

/// An attribute of an image's file or of the cache's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// How often a cached image was read: decimal digits.
    Hits,
    /// Why the fetch of an invalid file failed.
    Failure,
    /// The digest verified at commit: `algorithm:hex`.
    Digest,
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
            Self::Unsynced => "user.image_cache.unsynced",
            Self::Probe => "user.image_cache.probe",
        }
    }
}

/// An attribute's text; `None` when the file has none.
pub(crate) fn get(file: &File, attribute: Attribute) -> Result<Option<String>> {
    attribute::get(file, attribute.name())
}

/// Sets an attribute's text, cut at 512 bytes.
pub(crate) fn set(file: &File, attribute: Attribute, value: &str) -> Result<()> {
    attribute::set(file, attribute.name(), value)
}

/// Removes an attribute; a missing one is no error.
pub(crate) fn remove(file: &File, attribute: Attribute) -> Result<()> {
    attribute::remove(file, attribute.name())
}

/// Records on an invalid file why its fetch failed, as Glance does. Does nothing where the file system has no attributes.
pub(crate) fn record_failure(file: &File, reason: &str) {
    let _ = set(file, Attribute::Failure, reason);
}

/// Calls `function` with the directory as a file that has attributes.
pub(crate) fn of_directory<T>(directory: &Directory, function: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    let failed = |error: crate::Error| error.os_error().map_or_else(|| Error::other(error), Error::from_raw_os_error);
    let descriptor = directory.reopen().map_err(failed)?;
    function(&File::from(descriptor))
}
