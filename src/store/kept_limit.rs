//! The hard limit of a directory, for all its handles: `.image_cache/limit`, a number of bytes as text. Without that file, the limit
//! is soft, and each handle has its own.
//!
//! A program that cleans old files may remove that file, or all of `.image_cache`. A handle that has read the limit stores it again then.
//! A limit that one of ours removes leaves `.image_cache/limit.soft`, so that the others do not store it again.

use std::ffi::OsStr;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::own_files;
use crate::sys::stat::FileId;
use crate::sys::time::Timestamp;

const NAME: &str = "limit";

/// Its path from the cache's directory.
const PATH: &str = ".image_cache/limit";

/// Is there if the limit became soft.
const SOFT_NAME: &str = "limit.soft";
const SOFT_PATH: &str = ".image_cache/limit.soft";

/// The hard limit, as one handle has read it.
#[derive(Debug, Default)]
pub(crate) struct KeptLimit(Mutex<Option<(FileId, Timestamp, u64)>>);

impl KeptLimit {
    /// The present hard limit in bytes; `None` if there is none.
    pub fn read(&self, layout: &Layout) -> Result<Option<u64>> {
        // Most directories have none, and this is called before each write.
        let Some(stat) = layout.directory(Area::Cached).stat(OsStr::new(PATH))? else { return Ok(None) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((file, changed, bytes)) = *known
            && (file, changed) == (stat.id, stat.changed)
        {
            return Ok(Some(bytes));
        }
        let Some(text) = own_files::read(layout, NAME)? else { return Ok(None) };
        let number = str::from_utf8(&text).ok().and_then(|text| text.trim_end().parse().ok());
        // A new limit is a new file.
        *known = number.map(|bytes| (stat.id, stat.changed, bytes));
        number.map(Some).ok_or_else(|| Error::Damaged {
            operation: "read the limit",
            path: own_files::path(layout, NAME),
            why: "it is no number of bytes; set the limit again, or open the cache with a soft one".to_owned(),
        })
    }

    /// The limit that this handle has read, if another program has removed it since.
    pub fn vanished(&self, layout: &Layout) -> Result<Option<u64>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, _, bytes)) = *known else { return Ok(None) };
        let has = |path: &str| layout.directory(Area::Cached).stat(OsStr::new(path)).map(|stat| stat.is_some());
        if has(PATH)? {
            return Ok(None);
        }
        if has(SOFT_PATH)? {
            *known = None;
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}

/// Whether the directory has a hard limit now.
pub(crate) fn is_kept(layout: &Layout) -> Result<bool> {
    layout.directory(Area::Cached).stat(OsStr::new(PATH)).map(|stat| stat.is_some())
}

/// Sets the hard limit of the directory, or removes it. A power cut leaves the former one, or this one.
pub(crate) fn keep(layout: &Layout, lock: &CacheLockGuard<'_>, limit: Option<u64>) -> Result<()> {
    match limit {
        Some(bytes) => {
            own_files::write(layout, lock, NAME, format!("{bytes}\n").as_bytes())?;
            own_files::remove(layout, lock, SOFT_NAME)
        }
        None if is_kept(layout)? => {
            own_files::write(layout, lock, SOFT_NAME, b"")?;
            own_files::remove(layout, lock, NAME)
        }
        None => lock.check_held(),
    }
}
