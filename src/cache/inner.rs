//! The state that a cache, its readers, writers and tees share. It lives as long as one of them.

use std::time::{Duration, Instant};

use crate::cache::bounds::of_handle::Bounds;
use crate::cache::catalog::Catalog;
use crate::cache::counters::Counters;
use crate::cache::stream::shared::Streams;
use crate::error::{Error, Result};
use crate::index::Index;
use crate::index::driver::Currency;
use crate::log::{Log, LogOnce};
use crate::options::{Durability, Inspection};
use crate::store::layout::Layout;
use crate::store::lock::{CacheLockGuard, Locks};
use crate::store::unsynced::Unsynced;
use crate::sys::lock::poll;

/// How long a query waits for another program that has the index locked.
const LOCKED_INDEX: Duration = Duration::from_secs(2);

/// The state behind a cache's handles. `lifecycle` opens and closes it.
pub(crate) struct CacheInner {
    pub catalog: Catalog,
    pub lock: Locks,
    pub bounds: Bounds,
    /// How much of the limit can be pinned, in per cent.
    pub max_pinned: u32,
    pub stall_time: Duration,
    pub durability: Durability,
    /// Whether written bytes are dropped from the page cache.
    pub streaming: bool,
    /// Whether runs of zeros become holes.
    pub sparse: bool,
    /// What an image must pass before it is published.
    pub inspection: Inspection,
    /// The images that this handle published without a sync.
    pub unsynced: Unsynced,
    /// The fetches in which streams of this handle take part.
    pub streams: Streams,
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

    pub fn counters(&self) -> &Counters {
        &self.catalog.counters
    }

    pub fn log(&self) -> &Log {
        &self.catalog.log
    }

    /// Queries the index, under the cache lock that `lock` takes. If the query fails and the index is in doubt then, for example
    /// because the query found damage, the index is compared and queried again.
    pub fn query<'a, T>(
        &'a self,
        lock: impl Fn() -> Result<CacheLockGuard<'a>>,
        query: impl Fn(&CacheLockGuard<'_>) -> Result<T>,
    ) -> Result<T> {
        let error = {
            let lock = lock()?;
            match query(&lock) {
                Err(error) if self.catalog.currency(&lock) == Ok(Currency::InDoubt) => error,
                result => return result,
            }
        };
        if self.catalog.compare(&self.lock).is_err() {
            return Err(error);
        }
        query(&lock()?)
    }

    /// Repeats a query while another program has the index locked, for 2 s at most. No lock is held in between.
    pub fn patiently<T>(mut query: impl FnMut() -> Result<T>) -> Result<T> {
        let mut last = None;
        let answer = poll(Instant::now() + LOCKED_INDEX, || match query() {
            Err(error) if error.is_index_locked() => {
                last = Some(error);
                Ok(None)
            }
            result => result.map(Some),
        })?;
        answer.map_or_else(|| Err(last.unwrap_or_else(|| Error::Internal("no query was made".to_owned()))), Ok)
    }
}
