//! The locks of a cache, over all threads and processes of the host: bytes of `.image_cache/lock`.
//!
//! | lock | byte | held |
//! |---|---|---|
//! | cache lock | 0 | while names or the index change, or must not change: for microseconds, or the removal of 64 names |
//! | prune lock | 1 | for one prune or reservation, so that two do not evict the same excess twice, or take the same room |
//! | open-handle lock | 2, shared | as long as a handle is open |
//! | next-in-line lock | 3 | while waiting for the cache lock, so that its last holder does not take it again first |
//! | pins lock | 4 | while a pin is made, so that two do not pin the same share of the limit |
//! | pass lock, images' locks | 8, and from 2^61 on | while images are verified (see `verify_lock`) |
//! | a writer's lock | 2^62 + the inode of its incomplete file | as long as the writer lives (see `writers`) |
//!
//! The kernel drops them with their holder. A user who may only read the directory cannot open the lock file, and delays nobody
//! (see `lock_file`). The cache lock is taken after the prune lock and after the pins lock. It is never held while image data is copied, hashed, synced or
//! freed, or while a caller's function runs, except a log function.
//!
//! A process that is stopped keeps its locks. So every wait ends after [`LIMIT`], with [`Error::TimedOut`]. Until the lock is free again,
//! further waits of the same handle end after [`STUCK_LIMIT`]. Opening, reading and closing an image do not wait at all: they take
//! the cache lock only if it is free.
//!
//! # A lock file that is removed
//!
//! An operator may remove or replace the lock file below open handles. Locks on two files exclude nobody. So a call that took the
//! cache lock checks that the file still has its name. If not, the handle opens or creates the present one, and takes its
//! open-handle lock and its writers' locks there. Until a handle has noticed, others do not see its locks. Writers check
//! twice a second. An incomplete file that is older than the lock file, and was written to within the last 10 s, counts as a
//! live writer's.

use std::cell::RefCell;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::store::lock_file::LockFile;
use crate::store::writers::{Writer, Writers};
use crate::sys::dir::Directory;
use crate::sys::lease::RemovedWhenUnused;
use crate::sys::lock::{LockKind, poll};
use crate::sys::stat::StatAndBirth;

/// How long a call waits for a lock at most.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// How long a call waits for others that came before it. They then get the cache lock before it does.
const COURTESY: Duration = Duration::from_millis(50);

/// How long it waits after a wait of this handle has timed out, until the lock is free again.
const STUCK_LIMIT: Duration = Duration::from_millis(50);

const CACHE: u64 = 0;
const PRUNE: u64 = 1;
const OPEN: u64 = 2;
const NEXT: u64 = 3;
const PINS: u64 = 4;

/// The locks of one handle.
#[derive(Debug)]
pub(crate) struct Locks {
    /// The cache's directory.
    directory: Arc<Directory>,
    /// The present lock file, once it was opened.
    file: Mutex<Option<Arc<LockFile>>>,
    /// Held by the thread of this handle that is next in line for the cache lock.
    turn: Mutex<()>,
    /// Keeps the handle's threads apart, which share its open file descriptions.
    cache_threads: Mutex<()>,
    /// The last wait for the cache lock timed out.
    is_stuck: AtomicBool,
    prune_threads: Mutex<()>,
    pins_threads: Mutex<()>,
    /// The lock file on which this handle has the open-handle lock.
    open_on: Mutex<Option<Arc<LockFile>>>,
    writers: Writers,
}

/// Proof that the cache lock is held. Functions take it if their stat and change of a name must be one atomic step.
///
/// A handle that may not write has no lock file. It changes nothing, and its queries get a guard that holds no lock: see
/// [`Self::check_held`].
#[derive(Debug)]
pub(crate) struct CacheLockGuard<'a> {
    held: Held<'a>,
    directory: &'a Directory,
    /// Removed files, whose bytes are freed with their last descriptor: after the lock, since fields are dropped in their order.
    removed: RefCell<Vec<OwnedFd>>,
    /// Files that were moved away, and are removed after the lock, if nobody has them open.
    moved: RefCell<Vec<RemovedWhenUnused>>,
}

/// How many removed files are kept until the lock is released.
const MAX_REMOVED: usize = 128;

/// Holds the prune lock or the pins lock until it is dropped.
#[derive(Debug)]
pub(crate) struct LongLockGuard<'a>(#[allow(dead_code, reason = "dropping it unlocks")] Held<'a>);

/// A locked byte of the lock file.
#[derive(Debug)]
struct Held<'a> {
    /// The file, or why there is none.
    file: Result<Arc<LockFile>>,
    byte: u64,
    _threads: MutexGuard<'a, ()>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Ok(file) = &self.file {
            file.unlock(self.byte);
        }
    }
}

impl Locks {
    /// Takes no lock, and opens no file yet.
    pub fn new(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            file: Mutex::default(),
            turn: Mutex::default(),
            cache_threads: Mutex::default(),
            is_stuck: AtomicBool::new(false),
            prune_threads: Mutex::default(),
            pins_threads: Mutex::default(),
            open_on: Mutex::default(),
            writers: Writers::default(),
        }
    }

    /// Waits for the cache lock, to change something.
    pub fn acquire(&self) -> Result<CacheLockGuard<'_>> {
        // A call that takes the lock several times waits for the limit once.
        self.acquire_within(if self.is_stuck.load(Ordering::Relaxed) { STUCK_LIMIT } else { LIMIT })
    }

    /// Waits for the cache lock, to publish an image. It waits up to [`LIMIT`], also after a wait of this handle has timed out: a failure
    /// costs the image's fetch.
    pub fn acquire_to_publish(&self) -> Result<CacheLockGuard<'_>> {
        self.acquire_within(LIMIT)
    }

    fn acquire_within(&self, limit: Duration) -> Result<CacheLockGuard<'_>> {
        let deadline = Instant::now() + limit;
        let waited_for = if limit < LIMIT {
            // Another thread of this handle, which publishes, may wait for the whole time.
            locked_until(&self.turn, deadline).zip(locked_until(&self.cache_threads, deadline))
        } else {
            Some((locked(&self.turn), locked(&self.cache_threads)))
        };
        let (turn, threads) =
            waited_for.ok_or_else(|| self.timed_out("get the cache lock from another process", limit))?;
        let next = self.queue_up(deadline);
        let acquired = self.lock_cache(threads, deadline);
        if let Some(file) = next {
            file.unlock(NEXT);
        }
        drop(turn);
        let acquired = acquired?;
        self.is_stuck.store(acquired.is_none(), Ordering::Relaxed);
        acquired.ok_or_else(|| self.timed_out("get the cache lock from another process", limit))
    }

    /// Waits for the cache lock, to query something. A handle that has no permission to write gets a guard that holds nothing.
    pub fn acquire_to_query(&self) -> Result<CacheLockGuard<'_>> {
        match self.acquire() {
            // A full disk may have no room for the lock file. Queries need not fail for that.
            Err(error) if error.is_not_permitted() || error.is_no_space() => {
                let threads = locked(&self.cache_threads);
                Ok(CacheLockGuard::new(Held { file: Err(error), byte: CACHE, _threads: threads }, &self.directory))
            }
            acquired => acquired,
        }
    }

    /// The cache lock, if it is free now.
    pub fn try_acquire(&self) -> Result<Option<CacheLockGuard<'_>>> {
        let Some(threads) = try_locked(&self.cache_threads) else { return Ok(None) };
        self.lock_cache(threads, Instant::now())
    }

    /// Waits for the prune lock.
    pub fn acquire_prune(&self) -> Result<LongLockGuard<'_>> {
        self.acquire_prune_within(LIMIT)
    }

    /// Waits for the prune lock, for so long at most.
    pub fn acquire_prune_within(&self, limit: Duration) -> Result<LongLockGuard<'_>> {
        self.acquire_long(PRUNE, &self.prune_threads, "get the prune lock from another process", limit)
    }

    /// Waits for the pins lock.
    pub fn acquire_pins(&self) -> Result<LongLockGuard<'_>> {
        self.acquire_long(PINS, &self.pins_threads, "get the pins lock from another process", LIMIT)
    }

    fn acquire_long<'a>(
        &self,
        byte: u64,
        threads: &'a Mutex<()>,
        operation: &'static str,
        limit: Duration,
    ) -> Result<LongLockGuard<'a>> {
        let deadline = Instant::now() + limit;
        let timed_out = || self.timed_out(operation, limit);
        let threads = locked_until(threads, deadline).ok_or_else(timed_out)?;
        let file = self.lock_byte(byte, deadline)?.ok_or_else(timed_out)?;
        Ok(LongLockGuard(Held { file: Ok(file), byte, _threads: threads }))
    }

    /// Takes the open-handle lock, until it is released or the process ends.
    pub fn acquire_open(&self, lock: &CacheLockGuard<'_>) -> Result<()> {
        let Some(file) = lock.file() else { return Ok(()) };
        // Others have it exclusively under the cache lock only.
        if !file.try_hold(OPEN, LockKind::Shared)? {
            return Err(Error::would_block("lock", file.path()));
        }
        *locked(&self.open_on) = Some(Arc::clone(file));
        Ok(())
    }

    /// Releases the open-handle lock.
    pub fn release_open(&self) {
        if let Some(file) = locked(&self.open_on).take() {
            file.release(OPEN);
        }
    }

    /// Locks a new incomplete file for its writer. False when the lock of another file's writer, which is ending, is still there.
    pub fn begin_writer(&self, lock: &CacheLockGuard<'_>, file: &StatAndBirth) -> Result<bool> {
        lock.file().map_or(Ok(false), |lock_file| self.writers.begin(lock_file, file))
    }

    /// The writers of this handle.
    pub fn writers(&self) -> &Writers {
        &self.writers
    }

    /// Notes that a writer writes, at most twice a second. Takes its lock on a lock file that replaced another one.
    pub fn beat(&self, inode: u64) {
        if self.writers.beat(inode) {
            // If it fails, the next heartbeat tries again.
            let _ = self.try_acquire();
        }
    }

    /// Waits up to [`COURTESY`] to be next in line for the cache lock: a stopped process may hold that place.
    fn queue_up(&self, deadline: Instant) -> Option<Arc<LockFile>> {
        let file = self.present_file().ok()?;
        let moment = deadline.min(Instant::now() + COURTESY);
        let next = poll(moment, || Ok::<_, Error>(file.try_lock(NEXT, LockKind::Exclusive)?.then_some(())));
        next.ok().flatten().map(|()| file)
    }

    /// Takes the cache lock. `None` after the deadline.
    fn lock_cache<'a>(&'a self, threads: MutexGuard<'a, ()>, deadline: Instant) -> Result<Option<CacheLockGuard<'a>>> {
        let Some(file) = self.lock_byte(CACHE, deadline)? else { return Ok(None) };
        let guard =
            CacheLockGuard::new(Held { file: Ok(Arc::clone(&file)), byte: CACHE, _threads: threads }, &self.directory);
        self.writers.move_to(&file)?;
        self.move_open_to(&file)?;
        Ok(Some(guard))
    }

    /// Takes the open-handle lock on a lock file that replaced another one.
    fn move_open_to(&self, file: &Arc<LockFile>) -> Result<()> {
        let mut open_on = locked(&self.open_on);
        if open_on.as_ref().is_some_and(|present| !Arc::ptr_eq(present, file))
            && file.try_hold(OPEN, LockKind::Shared)?
        {
            *open_on = Some(Arc::clone(file));
        }
        Ok(())
    }

    /// Locks a byte of the present lock file. `None` after the deadline.
    fn lock_byte(&self, byte: u64, deadline: Instant) -> Result<Option<Arc<LockFile>>> {
        poll(deadline, || {
            let file = self.present_file()?;
            let is_locked = file.try_lock(byte, LockKind::Exclusive)?;
            // Checked without the lock as well: a process that is stopped may hold it on a file that was removed.
            match file.has_its_name(&self.directory) {
                Ok(true) => return Ok(is_locked.then_some(file)),
                Ok(false) => drop(locked(&self.file).take_if(|present| Arc::ptr_eq(present, &file))),
                Err(error) => {
                    file.unlock(byte);
                    return Err(error);
                }
            }
            file.unlock(byte);
            Ok(None)
        })
    }

    /// The lock file, opened if necessary.
    fn present_file(&self) -> Result<Arc<LockFile>> {
        let mut slot = locked(&self.file);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(LockFile::of(&self.directory)?);
        *slot = Some(Arc::clone(&file));
        Ok(file)
    }

    fn timed_out(&self, operation: &'static str, waited: Duration) -> Error {
        Error::TimedOut { operation, path: LockFile::path_in(&self.directory), waited }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn try_locked<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// `None` after the deadline.
fn locked_until<T>(mutex: &Mutex<T>, deadline: Instant) -> Option<MutexGuard<'_, T>> {
    poll(deadline, || Ok::<_, Infallible>(try_locked(mutex))).ok().flatten()
}

impl<'a> CacheLockGuard<'a> {
    fn new(held: Held<'a>, directory: &'a Directory) -> Self {
        Self { held, directory, removed: RefCell::default(), moved: RefCell::default() }
    }

    /// Keeps a removed file until the lock is released.
    pub fn free_afterwards(&self, removed: OwnedFd) {
        let mut files = self.removed.borrow_mut();
        // The host needs descriptors, too. No step of ours removes more large files, except the recovery after a restart.
        if files.len() < MAX_REMOVED && files.try_reserve(1).is_ok() {
            files.push(removed);
        }
    }

    /// Keeps a file that was moved away until the lock is released.
    pub(super) fn reap_afterwards(&self, moved: RemovedWhenUnused) {
        let mut files = self.moved.borrow_mut();
        // The next count removes it otherwise.
        if files.len() < MAX_REMOVED && files.try_reserve(1).is_ok() {
            files.push(moved);
        }
    }

    /// Whether no other handle than this one is open. If so, its open-handle lock becomes exclusive until [`Locks::acquire_open`] or
    /// [`Locks::release_open`].
    pub fn is_only_handle(&self) -> Result<bool> {
        self.file().map_or(Ok(false), |file| file.try_hold(OPEN, LockKind::Exclusive))
    }

    /// Whether the lock file still has its name: no other handle can hold the cache lock then.
    pub fn is_on_present_file(&self) -> Result<bool> {
        self.file().map_or(Ok(false), |file| file.has_its_name(self.directory))
    }

    /// Whether this handle created the lock file.
    pub fn is_on_new_file(&self) -> bool {
        self.file().is_some_and(|file| file.is_new)
    }

    /// A number that the last handle left for the next one, if there is one.
    pub fn note(&self) -> Option<u64> {
        self.file()?.note()
    }

    /// Leaves a number for the next handle.
    pub fn set_note(&self, note: u64) -> Result<()> {
        self.check_held()?;
        self.file().map_or(Ok(()), |file| file.set_note(note))
    }

    /// Fails when the guard holds no lock, so that nothing may be changed.
    pub fn check_held(&self) -> Result<()> {
        self.held.file.as_ref().map(drop).map_err(Error::clone)
    }

    /// The writer of an incomplete file.
    pub fn writer_of(&self, file: &StatAndBirth) -> Result<Writer> {
        Writer::of(self.file(), file)
    }

    /// The lock file; `None` for a handle that may not write.
    fn file(&self) -> Option<&Arc<LockFile>> {
        self.held.file.as_ref().ok()
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.release_open();
    }
}
