//! The state that a cache, its readers, writers and tees share. It lives as long as one of them.

use std::time::Duration;

use crate::cache::catalog::Catalog;
use crate::error::Result;
use crate::index::Index;
use crate::log::{Log, LogOnce};
use crate::options::Durability;
use crate::store::layout::Layout;
use crate::store::lock::{CacheLockGuard, Locks};
use crate::store::unsynced::Unsynced;

/// The state behind a cache's handles. `lifecycle` opens and closes it.
pub(crate) struct CacheInner {
    pub catalog: Catalog,
    pub lock: Locks,
    /// Bytes.
    pub max_size: u64,
    pub stall_time: Duration,
    pub durability: Durability,
    /// Whether written bytes are dropped from the page cache.
    pub streaming: bool,
    /// What this handle published without a sync.
    pub unsynced: Unsynced,
    pub unwritten_accesses: LogOnce,
    pub unset_access_times: LogOnce,
}

impl CacheInner {
    pub fn layout(&self) -> &Layout {
        &self.catalog.layout
    }

    pub fn index(&self) -> &Index {
        &self.catalog.index
    }

    pub fn log(&self) -> &Log {
        &self.catalog.log
    }

    /// Takes the cache lock for a query, and reconciles the index.
    pub fn lock_reconciled(&self) -> Result<CacheLockGuard<'_>> {
        let lock = self.lock.acquire_to_query()?;
        self.catalog.reconcile(&lock)?;
        Ok(lock)
    }

    /// Queries the reconciled index.
    pub fn query<T>(&self, query: impl Fn(&CacheLockGuard<'_>) -> Result<T>) -> Result<T> {
        self.catalog.query_locked(&self.lock_reconciled()?, query)
    }
}
