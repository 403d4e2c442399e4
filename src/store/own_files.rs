//! Small texts in `.image_cache/`.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::recognise::OWN_SUBDIRECTORY;
use crate::sys::file;
use crate::sys::signals::without_size_signal;

/// No text of ours is longer, in bytes.
const MAX_LENGTH: u64 = 4096;

/// Reads the text of that name; `None` when there is none.
pub(crate) fn read(layout: &Layout, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(own) = layout.directory(Area::Cached).open_subdirectory(OWN_SUBDIRECTORY)? else { return Ok(None) };
    let Some(file) = own.open_file(OsStr::new(name))? else { return Ok(None) };
    let mut text = Vec::new();
    match file.take(MAX_LENGTH).read_to_end(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(Error::from_io("read", &own.path_of(OsStr::new(name)), &error)),
    }
}

/// Replaces the text of that name. After a crash, it is the former one or this one.
pub(crate) fn write(layout: &Layout, lock: &CacheLockGuard<'_>, name: &str, text: &[u8]) -> Result<()> {
    lock.check_held()?;
    let (own, _) = layout.directory(Area::Cached).open_or_create(OWN_SUBDIRECTORY)?;
    let new = format!("{name}.new");
    let (name, new) = (OsStr::new(name), OsStr::new(&new));
    own.remove(new)?;
    let Some(file) = own.create(new)? else { return Err(Error::exists("create", &own.path_of(new))) };
    let path = || own.path_of(new);
    let written = without_size_signal(|| file::append(&file, path, text));
    let renamed =
        written.and_then(|()| file::sync(&file, path)).and_then(|()| own.rename(new, name)).inspect_err(|_| {
            // If this fails, the next write removes it.
            let _ = own.remove(new);
        });
    renamed.and_then(|()| own.sync())
}

/// Removes the text of that name, if it is there.
pub(crate) fn remove(layout: &Layout, lock: &CacheLockGuard<'_>, name: &str) -> Result<()> {
    lock.check_held()?;
    let Some(own) = layout.directory(Area::Cached).open_subdirectory(OWN_SUBDIRECTORY)? else { return Ok(()) };
    if own.remove(OsStr::new(name))? { own.sync() } else { Ok(()) }
}

/// The path of a text, for messages.
pub(crate) fn path(layout: &Layout, name: &str) -> PathBuf {
    layout.directory(Area::Cached).path().join(OWN_SUBDIRECTORY).join(name)
}
