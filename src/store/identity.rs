//! Whether an open file is one of the cache's, under whatever path: another mount shows the directory elsewhere, and it can be renamed.
//!
//! A file with one name has that name, which the kernel knows of an open file, in exactly one directory. So one stat for each directory
//! of the cache shows whether it is there. A file with several names is compared with all files.

use std::ffi::OsStr;

use crate::error::Result;
use crate::store::layout::{Area, Layout};
use crate::store::recognise::OWN_SUBDIRECTORY;
use crate::sys::dir::Directory;
use crate::sys::stat::FileId;

/// `name`: the file's only name; `None` if it is unknown, or has others.
pub(crate) fn is_of_the_cache(layout: &Layout, file: FileId, name: Option<&OsStr>) -> Result<bool> {
    for area in [Area::Cached, Area::Incomplete, Area::Invalid, Area::Queue] {
        if has(layout.directory(area), file, name)? {
            return Ok(true);
        }
    }
    let Some(own) = layout.directory(Area::Cached).open_subdirectory(OWN_SUBDIRECTORY)? else { return Ok(false) };
    if has(&own, file, name)? {
        return Ok(true);
    }
    for entry in own.names()? {
        // A name that is no text is none of ours.
        let directory = entry?.to_str().map_or(Ok(None), |subdirectory| own.open_subdirectory(subdirectory));
        match directory {
            Ok(Some(directory)) if has(&directory, file, name)? => return Ok(true),
            // Another user's, whose files this process cannot have opened.
            Err(error) if !error.is_denied() => return Err(error),
            _ => {}
        }
    }
    Ok(false)
}

fn has(directory: &Directory, file: FileId, name: Option<&OsStr>) -> Result<bool> {
    let is_it = |name: &OsStr| Ok(directory.stat(name)?.is_some_and(|stat| stat.id == file));
    if let Some(name) = name {
        return is_it(name);
    }
    for name in directory.names()? {
        if is_it(&name?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
