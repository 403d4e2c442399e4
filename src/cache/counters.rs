//! What a handle counts for the statistics, in memory, and how it reaches the file that all processes add to.
//!
//! Counting takes no lock. The counts are added to the file (see `store::statistics_file`) under the cache lock where it is held
//! anyway: with the accesses of readers, at queries and commits, once a second at most; and whenever the statistics are read, and
//! at the close. A process that is killed loses what it has counted since. A handle that may not write counts nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::log::{Log, LogOnce};
use crate::store::layout::Layout;
use crate::store::lock::CacheLockGuard;
use crate::store::statistics_file::{self, MAX_COUNTERS, Stored};

/// How long counts wait at least, except for a close and for who reads the statistics.
const WAIT: Duration = Duration::from_secs(1);

/// What is counted. The numbers are places in the file: they never change, and new ones are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    Hits,
    Misses,
    Commits,
    AbortedByCall,
    ClosedEarly,
    WrongDigest,
    WrongSize,
    NoSpace,
    Lost,
    SourceFailed,
    OtherFailure,
    Evictions,
    EvictedBytes,
    StreamsFollowed,
    BytesNotFetched,
    BytesServed,
    Verified,
    FoundDamaged,
}

const COUNT: usize = Counter::FoundDamaged as usize + 1;
const _: () = assert!(COUNT <= MAX_COUNTERS);

impl Counter {
    /// The counter of an image that was not cached because of an error.
    pub fn of_failure(error: &Error) -> Self {
        match error {
            Error::DigestMismatch { .. } => Self::WrongDigest,
            Error::SizeMismatch { .. } | Error::Empty(_) => Self::WrongSize,
            Error::Stopped { .. } => Self::AbortedByCall,
            Error::Lost { .. } => Self::Lost,
            Error::Source { .. } => Self::SourceFailed,
            error if error.is_no_space() => Self::NoSpace,
            _ => Self::OtherFailure,
        }
    }
}

/// The counts of one handle that are not in the file yet. They share no cache line with anything else.
#[repr(align(128))]
pub(crate) struct Counters {
    counts: [AtomicU64; COUNT],
    opened: Instant,
    /// When they may be added to the file again, in milliseconds since the handle was opened.
    next_flush: AtomicU64,
    unwritten: LogOnce,
}

impl Default for Counters {
    fn default() -> Self {
        let counts = [const { AtomicU64::new(0) }; COUNT];
        Self { counts, opened: Instant::now(), next_flush: AtomicU64::new(0), unwritten: LogOnce::default() }
    }
}

impl Counters {
    pub fn add(&self, counter: Counter, count: u64) {
        self.counts[counter as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts an image whose bytes were verified. To be called by what verifies cached images.
    pub fn add_verified(&self, is_intact: bool) {
        self.add(if is_intact { Counter::Verified } else { Counter::FoundDamaged }, 1);
    }

    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    /// Adds the counts to the file, if the last time was a second ago.
    pub fn flush_if_due(&self, layout: &Layout, lock: &CacheLockGuard<'_>, log: &Log) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.next_flush.load(Ordering::Relaxed) || self.is_empty() {
            return;
        }
        let next = now.saturating_add(u64::try_from(WAIT.as_millis()).unwrap_or(u64::MAX));
        self.next_flush.store(next, Ordering::Relaxed);
        self.flush(layout, lock, log);
    }

    /// Adds the counts to the file. Those that cannot be written wait for the next time, which is logged once.
    pub fn flush(&self, layout: &Layout, lock: &CacheLockGuard<'_>, log: &Log) {
        if self.is_empty() {
            return;
        }
        let counts = self.counts.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
        let written = statistics_file::add(layout, lock, log, &counts);
        if written.is_err() {
            for (place, count) in self.counts.iter().zip(counts) {
                place.fetch_add(count, Ordering::Relaxed);
            }
        }
        // The open has logged that a handle may not write.
        if !written.as_ref().is_err_and(Error::is_not_permitted) {
            self.unwritten.note(written, log, |error| format!("{error}; the statistics are written later"));
        }
    }

    /// The counters of all processes, with the counts of this handle that could not be written.
    pub fn totals(&self, layout: &Layout, lock: &CacheLockGuard<'_>, log: &Log) -> Result<Totals> {
        let is_writable = lock.check_held().is_ok();
        if is_writable {
            self.flush(layout, lock, log);
        }
        let mut stored = statistics_file::read(layout, log)?;
        if is_writable {
            for (stored, count) in stored.iter_mut().zip(&self.counts) {
                *stored = stored.saturating_add(count.load(Ordering::Relaxed));
            }
        }
        Ok(Totals(stored))
    }
}

/// The counters of all processes.
pub(crate) struct Totals(Stored);

impl Totals {
    pub fn of(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}
