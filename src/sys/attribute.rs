//! Extended attributes of open files, as text.

use std::fs::File;
use std::io::{Error, Result};

use rustix::io::Errno;
use xattr::FileExt as _;

/// The longest value that is written, in bytes. ext4 stores all attributes of a file in one block.
const MAX_LENGTH: usize = 512;

/// Reads an attribute; bytes that are not UTF-8 are replaced. `None` when the file has no such attribute.
pub(crate) fn get(file: &File, name: &str) -> Result<Option<String>> {
    Ok(file.get_xattr(name)?.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// Sets an attribute, cut at 512 bytes.
pub(crate) fn set(file: &File, name: &str, value: &str) -> Result<()> {
    let end = value.floor_char_boundary(MAX_LENGTH.min(value.len()));
    file.set_xattr(name, &value.as_bytes()[..end])
}

/// Removes an attribute; a missing one is no error.
pub(crate) fn remove(file: &File, name: &str) -> Result<()> {
    match file.remove_xattr(name) {
        Err(error) if error.raw_os_error() == Some(Errno::NODATA.raw_os_error()) => Ok(()),
        result => result,
    }
}

/// Whether a file has an access control list, which gives rights beyond its mode. A directory's default list gives one to new files.
pub(crate) fn has_access_list(file: &File) -> bool {
    file.get_xattr("system.posix_acl_access").is_ok_and(|list| list.is_some())
}

/// Whether the file system has no extended attributes.
pub(crate) fn is_unsupported(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}
