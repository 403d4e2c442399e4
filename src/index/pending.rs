//! Accesses and hits on their way to the driver.
//!
//! Writing each access on its own would cost a busy reader more than everything else that it does, and readers of all processes
//! would wait for each other. So accesses are batched:
//!
//! - The first few in each second are written at once.
//! - The rest wait in memory, and are written together: at a listing, a hit count or a prune through this handle, at its close,
//!   and at the latest by the first reader that opens or closes a second after the last write.
//!
//! A process that is killed loses at most the rest of one busy second. Other handles do not see pending accesses, but they find
//! the time of the last access in the file's atime, which is set at once.
//!
//! Accesses that could not be written stay pending. The interval between retries doubles, up to a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::stat::{FileId, FileStat};
use crate::sys::time::Timestamp;

/// How long accesses wait at most, while there are readers.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// How many accesses are written at once in each [`MAX_WAIT`]: opening and closing two readers.
const WRITTEN_AT_ONCE: u32 = 4;

/// From this number of images on, the reader writes them, so that this takes milliseconds at most.
const MAX_IMAGES: usize = 512;

/// The longest interval between retries.
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// Accesses of one image, summed up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Access {
    pub hits: u64,
    pub last_accessed: Option<Timestamp>,
}

impl Access {
    pub fn opened(at: Timestamp) -> Self {
        Self { hits: 0, last_accessed: Some(at) }
    }

    pub fn hit() -> Self {
        Self { hits: 1, last_accessed: None }
    }

    fn add(&mut self, other: Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.last_accessed = self.last_accessed.max(other.last_accessed);
    }
}

/// The file that was accessed. An image that was deleted and cached again has another file with its own accesses. An inode number
/// can be reused, but not with the same mtime, which is the time of the commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AccessedFile {
    pub id: ImageId,
    file: FileId,
    modified: Timestamp,
}

impl AccessedFile {
    fn new(id: &ImageId, stat: &FileStat) -> Self {
        Self { id: id.clone(), file: stat.id, modified: stat.modified }
    }
}

/// Accesses of several images.
pub(crate) type Accesses = HashMap<AccessedFile, Access>;

fn add_all(sums: &mut Accesses, accesses: Accesses) {
    for (file, access) in accesses {
        sums.entry(file).or_default().add(access);
    }
}

/// The accesses through one handle that are not written yet.
#[derive(Debug)]
pub(crate) struct PendingAccesses {
    layout: Arc<Layout>,
    /// False where they can never be written: then they only count for queries of this handle.
    can_be_written: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pending: Accesses,
    /// This process has no permission to write these. They only count for queries of this handle.
    unwritable: Accesses,
    /// The end of the present [`MAX_WAIT`], and how many more accesses are written at once in it.
    busy_until: Instant,
    at_once: u32,
    /// After a failure: when the next attempt is due, and the interval before it.
    backoff: Option<(Instant, Duration)>,
    /// The cache's own handle is closed: no query will flush, so each access is written as it comes.
    write_through: bool,
}

impl State {
    fn back_off(&mut self) {
        let wait = self.backoff.map_or(MAX_WAIT, |(_, wait)| (wait * 2).min(MAX_BACKOFF));
        self.backoff = Some((Instant::now() + wait, wait));
    }
}

impl PendingAccesses {
    pub fn new(layout: &Arc<Layout>, can_be_written: bool) -> Self {
        let state = State {
            pending: Accesses::new(),
            unwritable: Accesses::new(),
            busy_until: Instant::now(),
            at_once: WRITTEN_AT_ONCE,
            backoff: None,
            write_through: false,
        };
        Self { layout: Arc::clone(layout), can_be_written, state: Mutex::new(state) }
    }

    /// Adds an access of the image whose file has this status. True when a flush is due.
    pub fn add(&self, id: &ImageId, stat: &FileStat, access: Access) -> bool {
        let file = AccessedFile::new(id, stat);
        let now = Instant::now();
        let mut state = self.state();
        if let Some(sum) = state.unwritable.get_mut(&file) {
            sum.add(access);
            return false;
        }
        state.pending.entry(file).or_default().add(access);
        if !self.can_be_written || state.backoff.is_some_and(|(until, _)| now < until) {
            return false;
        }
        if now >= state.busy_until {
            state.busy_until = now + MAX_WAIT;
            state.at_once = WRITTEN_AT_ONCE;
        }
        let is_one_of_few = state.at_once > 0;
        state.at_once = state.at_once.saturating_sub(1);
        is_one_of_few || state.write_through || state.pending.len() >= MAX_IMAGES
    }

    /// Whether there are accesses to be written.
    pub fn can_flush(&self) -> bool {
        self.can_be_written && !self.state().pending.is_empty()
    }

    /// From now on each access is written as it comes.
    pub fn write_through(&self) {
        self.state().write_through = true;
    }

    /// Makes unwritable accesses pending again.
    pub fn retry_unwritable(&self) {
        let mut state = self.state();
        let unwritable = std::mem::take(&mut state.unwritable);
        add_all(&mut state.pending, unwritable);
    }

    /// Whether there is none, not even an unwritable one.
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.pending.is_empty() && state.unwritable.is_empty()
    }

    /// Takes all pending accesses. Those of a file that no longer has its image's name are dropped; under the cache lock the
    /// others keep their names. Readers go on adding meanwhile.
    pub fn take(&self, lock: &CacheLockGuard<'_>) -> Accesses {
        let mut accesses = std::mem::take(&mut self.state().pending);
        accesses.retain(|file, _| self.present(lock, &file.id).map_or(true, |present| present.as_ref() == Some(file)));
        accesses
    }

    /// Puts back what could not be written, and postpones the next attempt. An empty map ends the back-off.
    pub fn put_back(&self, accesses: Accesses) {
        let mut state = self.state();
        if accesses.is_empty() {
            state.backoff = None;
        } else {
            add_all(&mut state.pending, accesses);
            state.back_off();
        }
    }

    /// Postpones the next attempt: nothing can be written now.
    pub fn postpone(&self) {
        self.state().back_off();
    }

    /// Keeps what this process has no permission to write.
    pub fn keep_unwritable(&self, accesses: Accesses) {
        add_all(&mut self.state().unwritable, accesses);
    }

    /// The unwritten accesses of an image.
    pub fn of(&self, lock: &CacheLockGuard<'_>, id: &ImageId) -> Access {
        if self.is_empty() {
            return Access::default();
        }
        let mut sum = Access::default();
        if let Ok(Some(present)) = self.present(lock, id) {
            let state = self.state();
            [&state.pending, &state.unwritable]
                .into_iter()
                .filter_map(|accesses| accesses.get(&present))
                .for_each(|access| sum.add(*access));
        }
        sum
    }

    /// The file that has the image's name now.
    fn present(&self, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<Option<AccessedFile>> {
        let entry = self.layout.stat(Area::Cached, id)?;
        Ok(entry.image().map(|stat| AccessedFile::new(id, &stat)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
