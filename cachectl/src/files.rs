//! Files of the caller that a command replaces. Only regular ones: root could replace a device, such as `/dev/null`.

use std::fs;
use std::io;
use std::path::Path;

/// Fails if something other than a regular file has the name, or a symbolic link leads to it.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a regular file, and is not replaced")),
        _ => Ok(()),
    }
}

/// Whether two names lead to one file, which exists.
pub fn are_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}
