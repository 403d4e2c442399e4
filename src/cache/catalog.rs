//! The catalog: the directory and the index, which is reconciled with the directory before it is queried.
//!
//! The index is current while it has the directory's stamp (see `store::stamp`). A query of an index that is not current first
//! rebuilds it from the directory. All of this happens under the cache lock.

use std::sync::Arc;

use crate::error::Result;
use crate::index::Index;
use crate::index::driver::{Rebuilt, ReconciledIndex};
use crate::log::Log;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::stamp::DirectoryStamp;
use crate::sys::dir::Directory;

/// The directory and its index.
pub(crate) struct Catalog {
    pub layout: Arc<Layout>,
    pub index: Index,
    pub log: Log,
}

impl Catalog {
    /// The directory whose names the index follows.
    pub fn directory(&self) -> &Directory {
        self.layout.directory(Area::Cached)
    }

    /// Whether the index agrees with the directory. A driver without an index always does.
    pub fn is_current(&self, lock: &CacheLockGuard<'_>) -> Result<bool> {
        let Some(index) = self.index.reconciled() else { return Ok(true) };
        index.is_current(lock, self.directory().modified()?)
    }

    /// Rebuilds the index if it is not current. True when it was not.
    pub fn reconcile(&self, lock: &CacheLockGuard<'_>) -> Result<bool> {
        match self.index.reconciled() {
            Some(index) if !self.is_current(lock)? => self.rebuild(lock, index).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Queries the index. If the query fails and the index is no longer current, for example because the query found damage, it is
    /// rebuilt and queried again.
    pub fn query_locked<T>(
        &self,
        lock: &CacheLockGuard<'_>,
        query: impl Fn(&CacheLockGuard<'_>) -> Result<T>,
    ) -> Result<T> {
        query(lock).or_else(|error| match self.reconcile(lock) {
            Ok(true) => query(lock),
            _ => Err(error),
        })
    }

    /// Makes the index agree with the directory, and gives both the same stamp.
    pub fn rebuild(&self, lock: &CacheLockGuard<'_>, index: &dyn ReconciledIndex) -> Result<()> {
        let stamp = DirectoryStamp::begin(lock, self.directory())?;
        let stamp = index.stored_stamp(lock)?.map_or(stamp, |stored| stamp.earlier_than(stored));
        let Rebuilt { adopted, dropped, corrected } = index.rebuild(lock, &stamp)?;
        if adopted + dropped + corrected > 0 {
            self.log.info(|| {
                format!("the index was rebuilt: {adopted} images adopted, {dropped} dropped, {corrected} corrected")
            });
        }
        self.apply_stamp(lock, index, &stamp)
    }

    /// Sets the directory's mtime to the stamp that the index has, unless another program changed names meanwhile. Where the mtime
    /// may not be set, and for an index that no other handle shares, the index takes the directory's mtime instead.
    pub fn apply_stamp(
        &self,
        lock: &CacheLockGuard<'_>,
        index: &dyn ReconciledIndex,
        stamp: &DirectoryStamp,
    ) -> Result<()> {
        if !stamp.is_undisturbed(self.directory())? {
            return Ok(());
        }
        if index.stamps_directory() {
            match self.directory().set_modified(stamp.after) {
                Err(error) if error.is_not_permitted() => {}
                result => return result,
            }
        }
        stamp.as_is().map_or(Ok(()), |stamp| index.restamp(lock, &stamp).map(drop))
    }
}
