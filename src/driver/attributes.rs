//! The extended attributes that the cache uses, by name, on open files.
//!
//! `user.hits` and `user.error` are Glance's; ours begin with `user.image_cache.`.

use std::fs::File;
use std::io::{Error, Result};

use xattr::FileExt as _;

use crate::system::directory::Directory;

/// How often a cached image was read: decimal digits.
pub(crate) const HITS: &str = "user.hits";
/// Why an invalid file's fetch failed.
pub(crate) const ERROR: &str = "user.error";
/// The digest verified at commit: `algorithm:hex`.
pub(crate) const DIGEST: &str = "user.image_cache.digest";
/// The start of the host in which a file was published without waiting for the disk.
pub(crate) const UNSYNCED: &str = "user.image_cache.unsynced";
/// Set and removed to learn whether the file system has extended attributes.
pub(crate) const PROBE: &str = "user.image_cache.probe";

/// The longest value that is written: file systems have little room (ext4: one block for all of a file's attributes).
const LONGEST: usize = 512;

/// An attribute's text; bytes that are not UTF-8 replaced.
pub(crate) fn get(file: &File, name: &str) -> Result<Option<String>> {
    Ok(file.get_xattr(name)?.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// Sets an attribute's text, cut at 512 bytes.
pub(crate) fn set(file: &File, name: &str, value: &str) -> Result<()> {
    let end = value.floor_char_boundary(LONGEST.min(value.len()));
    file.set_xattr(name, &value.as_bytes()[..end])
}

/// Removes an attribute; one that is not there is no error.
pub(crate) fn remove(file: &File, name: &str) -> Result<()> {
    match file.remove_xattr(name) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODATA.raw_os_error()) => Ok(()),
        result => result,
    }
}

/// Calls `function` with a directory's descriptor as the file that it is.
pub(crate) fn with_descriptor<T>(directory: &Directory, function: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    let number = |error: crate::error::Error| error.os_error().map(Error::from_raw_os_error);
    let descriptor =
        directory.reopen().map_err(|error| number(error.clone()).unwrap_or_else(|| Error::other(error)))?;
    function(&File::from(descriptor))
}
