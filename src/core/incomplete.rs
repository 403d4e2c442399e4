//! The file of an image that is being cached: how it comes to be, and the only two ways in which it ends.
//!
//! # Begin
//!
//! All of it under the gate, so that no other process sees or does anything in between.
//!
//! 1. Look at the final name: an image there is cached already.
//! 2. Create `incomplete/<id>` exclusively. A new inode is nobody else's: no second writer can share or truncate it.
//! 3. Is the name taken, then try to lock the file that has it. A live writer holds that lock, and has the image.
//!    If the lock is free, the writer is dead (the kernel drops a lock with its process): remove the name and go to 2.
//!    A live writer that has written nothing for longer than the stall time loses its name as well; it keeps its inode,
//!    where it harms nobody, and learns of it at its next call.
//! 4. Lock the new file. A process that dies between 2 and 4 leaves an unlocked file: a dead writer's, see 3.
//!
//! # Append
//!
//! Before each chunk: the file still has a name, and the length that was written. After each 8 MiB the disk gets to work on them
//! (see `pace`). An error that it tells then is as final as that of a sync: it may be told only once.
//!
//! # Publish
//!
//! 1. The file has the length that was written: nobody truncated it (what is appended after a truncation is missing at the end).
//! 2. Put on the file what belongs to it (attributes, times), so that it gets its final name with all of it.
//! 3. Durability full: sync the file. A name must never reach the disk before its bytes. A failed sync is final: the
//!    kernel may have dropped the pages, and a second sync would say that all is well.
//!    Durability none: mark the file instead (see `unsynced`).
//!    In both cases close a second descriptor of the file: some file systems say only there that bytes were lost. That is final, too.
//! 4. Streaming: what is left of it in the page cache is waited for, and dropped.
//! 5. Under the gate: the incomplete name still is this file's (else the writer lost it); rename it to the final name, which
//!    must be free; enter it into the index, and seal the directory (see `driver`). Died before the
//!    rename: an unlocked incomplete file. Died after it: the file is whole, and the directory's time tells the next one
//!    that the index does not know it yet.
//! 6. Durability full: sync both directories. Should that fail, the image is taken back: its name may not outlast a crash.
//! 7. Under the gate (durability none: in the stay of step 5): take the image off the queue. Died before: one that is cached
//!    does not count as queued.
//!
//! # Invalidate
//!
//! Note the reason on the file; under the gate, if the incomplete name still is this file's, move it to `invalid/`.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{fsync, ftruncate, futimens};
use rustix::io::Errno;

use crate::core::image_id::ImageId;
use crate::core::layout::{Place, Standing};
use crate::core::options::Durability;
use crate::core::pace::Pace;
use crate::core::shared::Shared;
use crate::driver::{self, Record};
use crate::error::{Error, Result};
use crate::system::directory::{Facts, Identity, links_and_size};
use crate::system::flush::flush_by_closing;
use crate::system::lock::{HostLockGuard, is_unlocked, try_lock};
use crate::system::size_limit::{has_size_limit, without_size_signal};
use crate::system::time::Timestamp;

/// A live writer loses its image to another one no sooner than this, whatever the stall time: a file's
/// modification time is not exact enough to tell sooner (some file systems store whole or even seconds).
const SHORTEST_STALL: Duration = Duration::from_secs(2);

/// How often the name is tried for when programs that do not keep to the gate put files there.
const ATTEMPTS: usize = 8;

/// After how many bytes without a limit on file sizes it is asked for again.
const UNLIMITED: u64 = 1 << 20;

/// The one writer's file of an image. Dropped without an end, it is invalidated.
pub(crate) struct IncompleteFile {
    shared: Arc<Shared>,
    id: ImageId,
    file: File,
    identity: Identity,
    written: u64,
    /// Up to how many bytes no limit on file sizes is looked for.
    unlimited_until: u64,
    pace: Pace,
    ended: bool,
}

impl IncompleteFile {
    /// Becomes the image's writer.
    pub fn begin(shared: &Arc<Shared>, id: ImageId) -> Result<Self> {
        let gate = shared.gate.acquire()?;
        match shared.layout.examine(Place::Cached, &id)? {
            Standing::Nothing => {}
            Standing::Image(_) => return Err(Error::AlreadyCached(id.to_string())),
            Standing::Other => return Err(shared.layout.occupied(Place::Cached, &id)),
        }
        let file = create(shared, &gate, &id)?;
        let identity = Facts::of(&file, &shared.layout.path(Place::Incomplete, &id))?.identity;
        let pace = Pace::new(shared.durability, shared.streaming);
        Ok(Self { shared: Arc::clone(shared), id, file, identity, written: 0, unlimited_until: 0, pace, ended: false })
    }

    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// Appends bytes.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.check_unharmed()?;
        self.write_without_signal(data)
            .map_err(|error| Error::from_io("write", &self.path(), &error))
            .inspect_err(|error| self.make_room(error))?;
        self.written += data.len() as u64;
        let advanced = self.pace.advance(&self.file, self.written);
        self.written_back(advanced)
    }

    /// Whether the process has a limit on file sizes is asked once in a while: it does not change from one chunk to the next.
    fn write_without_signal(&mut self, data: &[u8]) -> std::io::Result<()> {
        if self.written >= self.unlimited_until {
            if has_size_limit() {
                return without_size_signal(|| self.file.write_all(data));
            }
            self.unlimited_until = self.written + UNLIMITED;
        }
        self.file.write_all(data)
    }

    /// There are no more bytes. The disk gets to work on the last of them while their digest is found out.
    pub fn end_of_bytes(&mut self) -> Result<()> {
        let begun = self.pace.begin_rest(&self.file, self.written);
        self.written_back(begun)
    }

    fn written_back(&self, outcome: std::result::Result<(), Errno>) -> Result<()> {
        outcome
            .map_err(|errno| Error::system("write back", &self.path(), errno))
            .inspect_err(|error| self.make_room(error))
    }

    /// Gives the image its final name. On failure its file goes to `invalid/`.
    pub fn publish(mut self, digest: Option<&str>) -> Result<()> {
        let outcome = self.try_publish(digest);
        if let Err(error) = &outcome {
            self.end_invalid(&error.to_string());
        }
        self.ended = true;
        outcome
    }

    /// A file that does not fit on the disk keeps its name and the reason, for a look, but not its bytes: others need the room.
    /// Never done to a file that was published, if only for a moment: it may have readers.
    fn make_room(&self, error: &Error) {
        if error.is_no_space() {
            // Should it fail, the bytes stay until the next clean.
            let _ = ftruncate(&self.file, 0);
        }
    }

    /// Moves the file to `invalid/`, with the reason.
    pub fn invalidate(mut self, reason: &str) {
        self.end_invalid(reason);
    }

    /// Removes the file: it never was of any use, and there is nothing to look at.
    pub fn discard(mut self) {
        self.ended = true;
        let removed = self.shared.gate.acquire().and_then(|gate| {
            if self.has_its_name()? {
                self.shared.layout.remove(&gate, Place::Incomplete, &self.id)?;
            }
            Ok(())
        });
        if let Err(error) = removed {
            self.shared.log.warning(|| error.to_string());
        }
    }

    fn try_publish(&mut self, digest: Option<&str>) -> Result<()> {
        self.check_unharmed()?;
        let path = self.path();
        let now = Timestamp::now_in_use();
        self.shared.driver.prepare(&self.file, &path, digest)?;
        futimens(&self.file, &now.as_both_times()).map_err(|errno| Error::system("set the times of", &path, errno))?;

        let shared = Arc::clone(&self.shared);
        let synced =
            shared.durability == Durability::Full || !shared.unsynced.mark(&shared.layout, &self.file, &self.id);
        if synced {
            fsync(&self.file).map_err(|errno| Error::system("sync", &path, errno))?;
        }
        let flushed = flush_by_closing(&self.file).map_err(|errno| Error::system("close", &path, errno))?;
        if !flushed && !synced {
            fsync(&self.file).map_err(|errno| Error::system("sync", &path, errno))?;
        }
        let dropped = self.pace.drop_rest(&self.file, self.written);
        self.written_back(dropped)?;
        {
            let gate = shared.gate.acquire()?;
            let Some(Facts { modified, .. }) = self.facts_in(Place::Incomplete)? else {
                return Err(self.lost("it was cleaned away, or had stalled and was replaced"));
            };
            let record = Record { size: self.written, committed: now, modified, digest };
            let mut seal = shared.begin_change(&gate)?;
            if !seal.step(shared.layout.directory(Place::Cached), || shared.layout.publish(&gate, &self.id))? {
                return Err(match shared.layout.examine(Place::Cached, &self.id)? {
                    Standing::Other => shared.layout.occupied(Place::Cached, &self.id),
                    _ => Error::AlreadyCached(self.id.to_string()),
                });
            }
            shared.record(&gate, &self.id, &record, &seal);
            if !synced {
                self.dequeue(&gate);
                return Ok(());
            }
        }
        if let Err(error) = shared.layout.sync_published() {
            shared.withdraw(&self.id, &self.file, &error);
            return Err(error);
        }
        match shared.gate.acquire().and_then(|gate| Ok((self.facts_in(Place::Cached)?, gate))) {
            Ok((Some(_), gate)) => self.dequeue(&gate),
            // It is gone again, and may have been queued anew.
            Ok((None, _)) => {}
            Err(error) => shared.log.warning(|| error.to_string()),
        }
        Ok(())
    }

    /// Takes the image off the queue, now that it is cached for good.
    fn dequeue(&self, gate: &HostLockGuard<'_>) {
        if let Err(error) = self.shared.layout.remove(gate, Place::Queue, &self.id) {
            self.shared.log.warning(|| error.to_string());
        }
    }

    fn end_invalid(&mut self, reason: &str) {
        self.ended = true;
        let shared = &self.shared;
        shared.log.info(|| format!("image '{}' was not cached: {reason}", self.id));
        driver::note_failure(&self.file, reason);
        let moved = shared.gate.acquire().and_then(|gate| {
            if !self.has_its_name()? {
                return Ok(());
            }
            shared.layout.invalidate(&gate, Place::Incomplete, &self.id).or_else(|error| {
                shared.log.warning(|| error.to_string());
                // Better no file to look at than one in the way.
                shared.layout.remove(&gate, Place::Incomplete, &self.id).map(drop)
            })
        });
        if let Err(error) = moved {
            shared.log.error(|| error.to_string());
        }
    }

    /// Nobody removed or truncated the file, or wrote to it.
    fn check_unharmed(&self) -> Result<()> {
        let (links, size) =
            links_and_size(&self.file).map_err(|errno| Error::system("examine", &self.path(), errno))?;
        if links == 0 {
            Err(self.lost("it was cleaned away, or had stalled and was replaced"))
        } else if size != self.written {
            Err(self.lost("something else changed its length"))
        } else {
            Ok(())
        }
    }

    /// Whether the incomplete name still is this file's. True or false for as long as the gate is held.
    fn has_its_name(&self) -> Result<bool> {
        Ok(self.facts_in(Place::Incomplete)?.is_some())
    }

    /// The file's facts, if it has the image's name there.
    fn facts_in(&self, place: Place) -> Result<Option<Facts>> {
        let standing = self.shared.layout.examine(place, &self.id)?;
        Ok(standing.image().filter(|facts| facts.identity == self.identity))
    }

    fn path(&self) -> std::path::PathBuf {
        self.shared.layout.path(Place::Incomplete, &self.id)
    }

    fn lost(&self, why: &'static str) -> Error {
        Error::Lost { image_id: self.id.to_string(), why }
    }
}

impl Drop for IncompleteFile {
    fn drop(&mut self) {
        if !self.ended {
            self.end_invalid("its writer was closed before the end");
        }
    }
}

/// Creates and locks the incomplete file, in place of a dead or stalled writer's.
fn create(shared: &Shared, gate: &HostLockGuard<'_>, id: &ImageId) -> Result<File> {
    let path = shared.layout.path(Place::Incomplete, id);
    let lock = |file: &File| try_lock(file).map_err(|errno| Error::system("lock", &path, errno));
    for _ in 0..ATTEMPTS {
        if let Some(file) = shared.layout.create_incomplete(gate, id)? {
            return if lock(&file)? { Ok(file) } else { Err(Error::BeingCached(id.to_string())) };
        }
        let Some((former, facts)) = shared.layout.open_file(Place::Incomplete, id)? else {
            match shared.layout.examine(Place::Incomplete, id)? {
                Standing::Other => return Err(shared.layout.occupied(Place::Incomplete, id)),
                _ => continue,
            }
        };
        let idle = facts.modified.distance(Timestamp::now());
        if lock(&former)? {
            shared.log.info(|| format!("'{}' is a dead writer's; it is replaced", path.display()));
        } else if idle > shared.stall_time.max(SHORTEST_STALL) {
            shared
                .log
                .warning(|| format!("the writer of '{}' has stalled for {idle:?}; it is replaced", path.display()));
        } else {
            return Err(Error::BeingCached(id.to_string()));
        }
        shared.layout.remove(gate, Place::Incomplete, id)?;
    }
    Err(Error::BeingCached(id.to_string()))
}

/// Whether an incomplete file stands there that no living writer has: the next writer replaces it.
pub(crate) fn is_left_by_a_dead_writer(shared: &Shared, _gate: &HostLockGuard<'_>, id: &ImageId) -> Result<bool> {
    if shared.layout.has(Place::Cached, id)? {
        return Ok(false);
    }
    let path = shared.layout.path(Place::Incomplete, id);
    let Some((file, _)) = shared.layout.open_file(Place::Incomplete, id)? else { return Ok(false) };
    // Under the gate nobody else asks.
    is_unlocked(&file).map_err(|errno| Error::system("lock", &path, errno))
}
