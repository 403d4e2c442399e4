//! A directory that was empty when it was listed last, and has not changed since: it need not be listed again.

use std::ffi::OsStr;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::store::layout::{Area, Layout};
use crate::sys::stat::FileId;
use crate::sys::time::Timestamp;

#[derive(Debug, Default)]
pub(crate) struct KnownEmpty(Mutex<Option<(FileId, Timestamp)>>);

impl KnownEmpty {
    /// Sums up what is in the directory at this path, from the cache's directory, with `list`, unless that is known to be nothing.
    /// `list` returns `None` for an empty directory.
    pub fn sum(&self, layout: &Layout, path: &str, list: impl FnOnce() -> Result<Option<u64>>) -> Result<u64> {
        let Some(stat) = layout.directory(Area::Cached).stat(OsStr::new(path))? else { return Ok(0) };
        let state = Some((stat.id, stat.changed));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == state {
            return Ok(0);
        }
        let sum = list()?;
        // Elsewhere, two changes can have the same ctime.
        *known = state.filter(|_| sum.is_none() && layout.has_exact_times());
        Ok(sum.unwrap_or(0))
    }
}
