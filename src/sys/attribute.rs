//! Extended attributes of open files and directories, as text.

use std::io::{Error, Result};
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// The longest value that is written, in bytes. ext4 stores all attributes of a file in one block.
const MAX_LENGTH: usize = 512;

/// The longest value that Linux stores, in bytes (`XATTR_SIZE_MAX`).
const MAX_STORED: usize = 65536;

/// Reads an attribute; bytes that are not UTF-8 are replaced. `None` when the file has no such attribute.
pub(crate) fn get(file: impl AsFd, name: &str) -> Result<Option<String>> {
    let mut value = vec![0; MAX_LENGTH];
    let length = match fgetxattr(&file, name, &mut value[..]) {
        Err(Errno::RANGE) => {
            value.resize(MAX_STORED, 0);
            fgetxattr(&file, name, &mut value[..])
        }
        length => length,
    };
    match length {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&value[..length]).into_owned())),
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Sets an attribute, cut at 512 bytes.
pub(crate) fn set(file: impl AsFd, name: &str, value: &str) -> Result<()> {
    let start = &value.as_bytes()[..MAX_LENGTH.min(value.len())];
    let whole = start.utf8_chunks().next().map_or("", |chunk| chunk.valid()); // no half of a character
    Ok(fsetxattr(file, name, whole.as_bytes(), XattrFlags::empty())?)
}

/// Removes an attribute; a missing one is no error.
pub(crate) fn remove(file: impl AsFd, name: &str) -> Result<()> {
    match fremovexattr(file, name) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a file has an access control list, which gives rights beyond its mode. A directory's default list gives one to new files.
pub(crate) fn has_access_list(file: impl AsFd) -> bool {
    fgetxattr(file, "system.posix_acl_access", &mut [0_u8; 0]).is_ok()
}

/// Whether the file system has no extended attributes.
pub(crate) fn is_unsupported(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}
