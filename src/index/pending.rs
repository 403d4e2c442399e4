//! Accesses and hits on their way to the driver.
//!
//! Writing each access on its own would cost a busy reader more than everything else that it does, and readers of all processes
//! would wait for each other. So accesses wait in memory, and are written together: by a reader that closes a second or more after
//! the last write, by the one that closes the 512th image, at a listing, a hit count or a prune through this handle, and at its
//! close. A reader writes those of 64 images at most, and leaves the rest to the next one.
//!
//! A process that is killed loses what its readers did since the last write. Other handles do not see pending accesses, but they
//! find the time of the last access in the file's atime, which is set at once.
//!
//! Accesses that could not be written stay pending, and a reader retries a second later. A handle that may never write keeps none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::sys::stat::{FileId, FileStat};
use crate::sys::time::Timestamp;

/// How long accesses wait at most, while readers close.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// From this number of images on, readers write them.
const MAX_IMAGES: usize = 512;

/// A reader writes the accesses of so many images at most, which takes less than a millisecond.
pub(crate) const MAX_BY_READER: usize = 64;

/// The accesses of so many images are kept while they cannot be written. Those of others are dropped then.
const MAX_KEPT: usize = 16384;

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
    /// Bytes.
    pub size: u64,
}

impl AccessedFile {
    fn new(id: &ImageId, stat: &FileStat) -> Self {
        Self { id: id.clone(), file: stat.id, modified: stat.modified, size: stat.size }
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
    opened: Instant,
    /// The accesses of so many images are kept; none where they can never be written.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pending: Accesses,
    /// When readers flush again.
    next_flush: Instant,
    /// The last flush failed: nothing is tried before the next one is due.
    has_failed: bool,
    /// The cache's own handle is closed: no query will flush, so each access is written as it comes.
    write_through: bool,
}

impl State {
    fn postpone(&mut self) {
        self.has_failed = true;
        self.next_flush = Instant::now() + MAX_WAIT;
    }
}

impl PendingAccesses {
    /// Nothing is kept where accesses can never be written.
    pub fn new(layout: &Arc<Layout>, can_be_written: bool) -> Self {
        let limit = if can_be_written { MAX_KEPT } else { 0 };
        let state =
            State { pending: Accesses::new(), next_flush: Instant::now(), has_failed: false, write_through: false };
        Self { layout: Arc::clone(layout), opened: Instant::now(), limit, state: Mutex::new(state) }
    }

    /// Adds an access of the image whose file has this status. True when a flush is due.
    pub fn add(&self, id: &ImageId, stat: &FileStat, access: Access) -> bool {
        if self.limit == 0 {
            return false;
        }
        let file = AccessedFile::new(id, stat);
        let now = Instant::now();
        let mut state = self.state();
        // The index cannot be written for long. The order of access is in the files' atimes all the same.
        if state.pending.len() >= self.limit && !state.pending.contains_key(&file) {
            return false;
        }
        state.pending.entry(file).or_default().add(access);
        // The open of a reader leaves it to its close.
        let is_full = (state.write_through || state.pending.len() >= MAX_IMAGES) && !state.has_failed;
        let is_due = access.hits > 0 && (now >= state.next_flush || is_full);
        if is_due {
            state.next_flush = now + MAX_WAIT;
        }
        is_due
    }

    /// From now on each access is written as it comes.
    pub fn write_through(&self) {
        self.state().write_through = true;
    }

    /// Whether each access is written as it comes.
    pub fn is_written_through(&self) -> bool {
        self.state().write_through
    }

    /// When the handle was opened. The clock may have been set since.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.state().pending.is_empty()
    }

    /// Takes the pending accesses of `limit` images at most; the next reader that closes takes more. Those of a file that no longer has
    /// its image's name are dropped; under the cache lock the others keep their names. Readers go on adding meanwhile.
    pub fn take(&self, _lock: &CacheLockGuard<'_>, limit: usize) -> Accesses {
        let mut accesses = {
            let mut state = self.state();
            if state.pending.len() > limit {
                state.next_flush = Instant::now();
                let part: Vec<_> = state.pending.keys().take(limit).cloned().collect();
                part.into_iter().filter_map(|file| state.pending.remove_entry(&file)).collect()
            } else {
                std::mem::take(&mut state.pending)
            }
        };
        accesses.retain(|file, _| self.has_its_name(file).unwrap_or(true));
        accesses
    }

    /// Puts back what could not be written. The next attempt is due a second after this one.
    pub fn put_back(&self, accesses: Accesses) {
        let mut state = self.state();
        state.has_failed = false;
        if !accesses.is_empty() {
            state.postpone();
            add_all(&mut state.pending, accesses);
        }
    }

    /// Nothing can be written now. The next attempt is due in a second.
    pub fn postpone(&self) {
        self.state().postpone();
    }

    /// The unwritten accesses of an image whose file has this status.
    pub fn of(&self, id: &ImageId, stat: &FileStat) -> Access {
        let state = self.state();
        if state.pending.is_empty() {
            return Access::default();
        }
        state.pending.get(&AccessedFile::new(id, stat)).copied().unwrap_or_default()
    }

    /// The unwritten accesses of all images that still exist.
    pub fn by_id(&self) -> HashMap<String, Access> {
        let mut accesses = self.state().pending.clone();
        accesses.retain(|file, _| self.has_its_name(file).unwrap_or(false));
        accesses.into_iter().map(|(file, access)| (file.id.to_string(), access)).collect()
    }

    /// Whether the file still has its image's name.
    fn has_its_name(&self, file: &AccessedFile) -> Result<bool> {
        let present = self.layout.stat(Area::Cached, &file.id)?.image();
        Ok(present.is_some_and(|stat| AccessedFile::new(&file.id, &stat) == *file))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
