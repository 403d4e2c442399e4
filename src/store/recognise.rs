//! Whether a directory is a cache. One that was named by mistake is refused: its files would count as images, and be pruned.

use crate::error::{Error, Result};
use crate::store::image_id::ReservedNames;
use crate::sys::dir::Directory;

/// The subdirectory for what is ours alone. Glance ignores it, and it is never an image, since it is hidden.
pub(crate) const OWN_SUBDIRECTORY: &str = ".image_cache";

/// The file in it whose bytes are locked, and its path from the cache's directory.
pub(crate) const LOCK_FILE: &str = "lock";
pub(crate) const LOCK_PATH: &str = ".image_cache/lock";

/// The subdirectory of it for the records of streams.
pub(crate) const STREAMS: &str = "streams";

/// `mkfs` creates it in the root of some file systems.
const LOST_AND_FOUND: &str = "lost+found";

/// Fails for a directory that is no cache, and has entries of others. Hidden ones do not count. `subdirectories` are those that
/// Glance creates.
pub(crate) fn check_is_a_cache(directory: &Directory, subdirectories: &[&str], reserved: &ReservedNames) -> Result<()> {
    if is_a_cache(directory, subdirectories, reserved)? {
        return Ok(());
    }
    for name in directory.names()? {
        let name = name?;
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let is_ours = subdirectories.iter().chain([&LOST_AND_FOUND]).any(|known| name == *known);
        // Checked again: another process may have created the cache meanwhile, and cached an image.
        if !is_hidden && !is_ours && !is_a_cache(directory, subdirectories, reserved)? {
            return Err(Error::InvalidArgument(format!(
                "the directory is no cache: it has '{}', but neither {OWN_SUBDIRECTORY} nor an index nor all of {}. Each of its \
                 files would count as an image, and could be pruned. Name an empty or a new directory: '{}'",
                name.display(),
                subdirectories.join(", "),
                directory.path().display(),
            )));
        }
    }
    Ok(())
}

/// Whether it has our mark, an index, or all of the subdirectories that Glance creates.
fn is_a_cache(directory: &Directory, subdirectories: &[&str], reserved: &ReservedNames) -> Result<bool> {
    if directory.open_subdirectory(OWN_SUBDIRECTORY)?.is_some() {
        return Ok(true);
    }
    for name in reserved.names().filter(|name| !subdirectories.iter().any(|known| name == known)) {
        if directory.stat(name)?.is_some_and(|stat| stat.is_regular) {
            return Ok(true);
        }
    }
    subdirectories.iter().try_fold(true, |all, name| Ok(all && directory.open_subdirectory(name)?.is_some()))
}
