//! Whether a directory is a cache. One that was named by mistake is refused: its files would count as images, and be pruned.

use std::ffi::OsStr;
use std::io::Read as _;

use crate::error::{Error, Result};
use crate::store::image_id::ReservedNames;
use crate::sys::dir::Directory;
use crate::sys::open_registry::is_registered;

/// The subdirectory for what is ours alone. Glance ignores it, and it is never an image, since it is hidden.
pub(crate) const OWN_SUBDIRECTORY: &str = ".image_cache";

/// The file in it whose bytes are locked, and its path from the cache's directory.
pub(crate) const LOCK_FILE: &str = "lock";
pub(crate) const LOCK_PATH: &str = ".image_cache/lock";

/// The subdirectory of it for pins, and its path from the cache's directory.
pub(crate) const PINS: &str = "pins";
pub(crate) const PINS_PATH: &str = ".image_cache/pins";

/// `mkfs` creates it in the root of some file systems.
const LOST_AND_FOUND: &str = "lost+found";

/// What an index begins with, and the table that is named in its first page: Glance's.
const HEADER: &[u8] = b"SQLite format 3\0";
const TABLE: &[u8] = b"cached_images";

/// The largest page of SQLite.
const PAGE: u64 = 1 << 16;

/// Fails for a directory that is no cache, and has entries of others. Hidden ones and empty files of the index do not count.
/// `subdirectories` are those that Glance creates.
pub(crate) fn check_is_a_cache(directory: &Directory, subdirectories: &[&str], reserved: &ReservedNames) -> Result<()> {
    if is_a_cache(directory, subdirectories, reserved)? {
        return Ok(());
    }
    for name in directory.names()? {
        let name = name?;
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let is_ours = subdirectories.iter().chain([&LOST_AND_FOUND]).any(|known| name == *known);
        let is_empty_index =
            reserved.names().any(|known| known == name) && directory.stat(&name)?.is_none_or(|stat| stat.size == 0);
        let is_ours = is_ours || is_empty_index;
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
    if subdirectories.iter().try_fold(true, |all, name| Ok(all && directory.open_subdirectory(name)?.is_some()))? {
        return Ok(true);
    }
    if is_registered(directory.id()?) {
        return Ok(true);
    }
    let mut names = reserved.names().filter(|name| !subdirectories.iter().any(|known| name == known));
    Ok(names.any(|name| is_index(directory, name).unwrap_or(false)))
}

/// Whether a file is an index. A file of another program can have the name of one, and would be emptied.
fn is_index(directory: &Directory, name: &OsStr) -> Result<bool> {
    if !directory.stat(name)?.is_some_and(|stat| stat.is_regular) {
        return Ok(false);
    }
    let Some(file) = directory.open_file(name)? else { return Ok(false) };
    let mut page = Vec::new();
    let read = file.take(PAGE).read_to_end(&mut page);
    read.map_err(|error| Error::from_io("read", &directory.path_of(name), &error))?;
    if !page.starts_with(HEADER) {
        return Ok(false);
    }
    // A database in UTF-16 has zeros between the letters.
    page.retain(|byte| *byte != 0);
    Ok(page.windows(TABLE.len()).any(|window| window == TABLE))
}
