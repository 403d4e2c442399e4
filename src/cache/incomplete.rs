//! The file of an image that is being cached: how it is created, appended to, and invalidated. `publish` gives it its final name.
//!
//! # Begin
//!
//! All of it under the cache lock.
//!
//! 1. Stat the final name: an image there is cached already. A file there that is not served, since it may be torn (see
//!    `store::unsynced`), is removed. If that fails, the begin fails: the publish could not replace the file either.
//! 2. Create `incomplete/<id>` exclusively. No second writer can share or truncate a new inode.
//! 3. If the name is taken, look up its writer (see `store::writers`).
//!    - Its writer is dead: remove the name, and go to 2. The file need not be opened for that.
//!    - A live writer has the image, or another program does. If it has written nothing for longer than the stall time, it loses
//!      the name as well. It keeps its inode, which has no name any more, and its next call fails. A writer that has all bytes, and
//!      verifies or syncs them, does not stall: otherwise two slow writers would replace each other without end.
//! 4. Lock the new file for its writer. A process killed between 2 and 4 leaves a marked, unlocked file: a dead writer's.
//!
//! # Append
//!
//! Before each chunk: the file still has a name, and the length that was written. Twice a second, a heartbeat is written beside
//! the lock. After each 8 MiB, write-back starts (see
//! `writeback`). Its errors are final like those of a sync, since the kernel may report them only once.
//!
//! # Invalidate
//!
//! Record the reason on the file. Then, under the cache lock: if the incomplete name still is this file's, move it to `invalid/`.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::name_change::NameChange;
use crate::cache::query::{is_cached, is_torn};
use crate::cache::writeback::Writeback;
use crate::error::{BeingCached, Error, Result};
use crate::store::attributes;
use crate::store::image_id::ImageId;
use crate::store::incomplete_writer::writer_of;
use crate::store::layout::{Area, DirEntry};
use crate::store::lock::CacheLockGuard;
use crate::store::stream_record::StreamRecord;
use crate::store::writers::Writer;
use crate::sys::file;
use crate::sys::signals::without_size_signal;
use crate::sys::stat::{FileId, FileStat, STICKY, StatAndBirth, links_and_size};
use crate::sys::time::Timestamp;

/// A live writer keeps its image at least this long, whatever the stall time: some file systems store mtimes in steps of 2 s.
const MIN_STALL: Duration = Duration::from_secs(2);

/// How often a name is tried when programs that ignore the cache lock put files there.
const ATTEMPTS: usize = 8;

/// The incomplete file of the image's one writer. Dropping it before its end invalidates it.
pub(crate) struct IncompleteFile {
    pub cache: Arc<CacheInner>,
    pub id: ImageId,
    pub file: File,
    file_id: FileId,
    /// Bytes.
    pub written: u64,
    pub writeback: Writeback,
    has_ended: bool,
}

impl IncompleteFile {
    /// Becomes the image's writer.
    pub fn begin(cache: &Arc<CacheInner>, id: ImageId) -> Result<Self> {
        let lock = cache.lock.acquire_to_query()?;
        match cache.layout().stat(Area::Cached, &id)? {
            DirEntry::Missing => {}
            DirEntry::Image(_) if is_torn(cache, &id)? => {
                NameChange::begin(&cache.catalog, &lock)?.drop_torn(&id)?;
                cache
                    .log()
                    .info(|| format!("image '{id}' is dropped: it was not synced before the host restarted or the cache was mounted again"));
            }
            DirEntry::Image(_) => return Err(Error::AlreadyCached(id.to_string())),
            DirEntry::Foreign => return Err(cache.layout().occupied(Area::Cached, &id)),
        }
        lock.check_held()?;
        let (file, stat) = create(cache, &lock, &id)?;
        let file_id = stat.id;
        let writeback = Writeback::new(cache.durability, cache.streaming);
        let cache = Arc::clone(cache);
        Ok(Self { cache, id, file, file_id, written: 0, writeback, has_ended: false })
    }

    /// The finished file of a stream, whose append lock the caller holds.
    pub fn of_stream(cache: &Arc<CacheInner>, id: ImageId, file: File, file_id: FileId, length: u64) -> Self {
        let writeback = Writeback::new(cache.durability, false);
        Self { cache: Arc::clone(cache), id, file, file_id, written: length, writeback, has_ended: false }
    }

    /// Appends bytes.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.check_intact()?;
        self.cache.lock.beat(self.file_id.inode);
        let appended = without_size_signal(|| file::append(&self.file, || self.path(), data));
        appended.inspect_err(|error| self.free_space(error))?;
        self.written += data.len() as u64;
        let started = self.writeback.advance(&self.file, self.written, || path_of(&self.cache, &self.id));
        started.inspect_err(|error| self.free_space(error))
    }

    /// All bytes were appended. Starts the write-back of the last ones, while their digest is computed.
    pub fn end_of_bytes(&mut self) -> Result<()> {
        self.cache.lock.writers().finish(self.file_id.inode);
        let started = self.writeback.start_rest(&self.file, self.written, || path_of(&self.cache, &self.id));
        started.inspect_err(|error| self.free_space(error))
    }

    /// On a full disk, frees the file's bytes. The file keeps its name and the reason. Never called after the file
    /// was published, when it may have readers.
    pub fn free_space(&self, error: &Error) {
        if error.is_no_space() {
            // If this fails, the bytes stay until the next clean.
            let _ = file::truncate(&self.file, || self.path());
        }
    }

    /// Moves the file to `invalid/`, with the reason.
    pub fn invalidate(mut self, reason: &str) {
        self.end_invalid(reason);
    }

    /// Removes a file that was never used.
    pub fn discard(mut self) {
        self.has_ended = true;
        let removed = self.cache.lock.acquire().and_then(|lock| {
            if self.has_its_name()? {
                self.cache.layout().remove(&lock, Area::Incomplete, &self.id)?;
            }
            Ok(())
        });
        if let Err(error) = removed {
            self.cache.log().warning(|| error.to_string());
        }
    }

    /// The file was published: its drop leaves it alone.
    pub fn end_published(mut self) {
        self.has_ended = true;
    }

    /// Clears the mark of an incomplete file. Called after the file has left `incomplete/`: without it, a file there counts as another
    /// program's. If this fails, or the process dies before, the file keeps a bit that has no meaning elsewhere.
    pub fn unmark(&self, stat: &FileStat) {
        let _ = file::set_mode(&self.file, || self.path(), stat.permissions & !STICKY);
    }

    fn end_invalid(&mut self, reason: &str) {
        self.has_ended = true;
        let (layout, log) = (self.cache.layout(), self.cache.log());
        log.info(|| format!("image '{}' was not cached: {reason}", self.id));
        attributes::record_failure(&self.file, reason);
        let moved = self.cache.lock.acquire().and_then(|lock| {
            let Some(stat) = self.stat_in(Area::Incomplete)? else { return Ok(()) };
            let moved = layout.invalidate(&lock, Area::Incomplete, &self.id).or_else(|error| {
                log.warning(|| error.to_string());
                // A removed file is better than one that blocks the name.
                layout.remove(&lock, Area::Incomplete, &self.id).map(drop)
            });
            self.unmark(&stat);
            moved
        });
        if let Err(error) = moved {
            log.error(|| error.to_string());
        }
    }

    /// Fails when another program removed or truncated the file, or wrote to it.
    pub fn check_intact(&self) -> Result<()> {
        let (links, size) = links_and_size(&self.file, || self.path())?;
        if links == 0 { Err(self.lost_name()) } else { self.check_length(size) }
    }

    /// Fails when the file has another length than was written.
    pub fn check_length(&self, size: u64) -> Result<()> {
        if size == self.written {
            Ok(())
        } else {
            Err(Error::Lost { image_id: self.id.to_string(), why: "another program changed its length" })
        }
    }

    /// The error of a writer whose incomplete name is gone.
    pub fn lost_name(&self) -> Error {
        Error::Lost { image_id: self.id.to_string(), why: "it was cleaned, or it stalled and was replaced" }
    }

    /// Whether the incomplete name still is this file's.
    fn has_its_name(&self) -> Result<bool> {
        Ok(self.stat_in(Area::Incomplete)?.is_some())
    }

    /// The file's status, if it has the image's name in that area. The answer is valid while the cache lock is held.
    pub fn stat_in(&self, area: Area) -> Result<Option<FileStat>> {
        let entry = self.cache.layout().stat(area, &self.id)?;
        Ok(entry.image().filter(|stat| stat.id == self.file_id))
    }

    /// For messages.
    pub fn path(&self) -> PathBuf {
        path_of(&self.cache, &self.id)
    }
}

impl Drop for IncompleteFile {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end_invalid("its writer was closed before the end");
        }
        // Before the file is closed: its inode number may then belong to another writer's file.
        self.cache.lock.writers().end(self.file_id.inode);
    }
}

fn path_of(cache: &CacheInner, id: &ImageId) -> PathBuf {
    cache.layout().path(Area::Incomplete, id)
}

/// Creates and locks the incomplete file. Replaces the file of a dead or stalled writer.
fn create(cache: &CacheInner, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<(File, FileStat)> {
    let layout = cache.layout();
    let path = || path_of(cache, id);
    for _ in 0..ATTEMPTS {
        if let Some(file) = layout.create_incomplete(lock, id)? {
            let stat = FileStat::of(&file, path)?;
            let written = StatAndBirth { stat, born: file::birth(&file) };
            if cache.lock.begin_writer(lock, &written)? {
                return Ok((file, stat));
            }
            // The lock of a dying writer whose inode number was reused. The next file has another number, or the lock is gone.
            layout.remove(lock, Area::Incomplete, id)?;
            continue;
        }
        let Some(former) = layout.written(id)? else {
            match layout.stat(Area::Incomplete, id)? {
                DirEntry::Foreign => return Err(layout.occupied(Area::Incomplete, id)),
                _ => continue,
            }
        };
        let writer = writer_of(layout, lock, id, &former)?;
        if writer.has_the_image(min_stall(cache)) {
            return Err(being_cached(id, &writer));
        }
        match writer {
            Writer::Dead => {
                cache.log().info(|| format!("'{}' is a dead writer's, and is replaced", path().display()));
            }
            Writer::Stream { is_attended: false, .. } => {
                cache
                    .log()
                    .info(|| format!("'{}' is a stream's without participants, and is replaced", path().display()));
            }
            Writer::Live { idle, .. } | Writer::Unknown { idle } | Writer::Stream { idle, .. } => cache
                .log()
                .warning(|| format!("the writer of '{}' stalled for {idle:?}; it is replaced", path().display())),
        }
        layout.remove(lock, Area::Incomplete, id)?;
        StreamRecord::remove(layout, lock, id)?;
    }
    Err(being_cached(id, &Writer::Dead))
}

pub(crate) fn min_stall(cache: &CacheInner) -> Duration {
    cache.stall_time.max(MIN_STALL)
}

fn being_cached(id: &ImageId, writer: &Writer) -> Error {
    let (process, since) = match writer {
        Writer::Live { process, since, .. } => (*process, since.map(Timestamp::as_nanoseconds)),
        Writer::Stream { process, since, .. } => (Some(*process), Some(since.as_nanoseconds())),
        Writer::Dead | Writer::Unknown { .. } => (None, None),
    };
    Error::BeingCached(BeingCached { image_id: id.to_string(), process, since })
}

/// Whether the image's incomplete file is a dead or stalled writer's, which the next writer replaces.
pub(crate) fn is_replaceable(cache: &CacheInner, lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<bool> {
    if is_cached(cache, id)? {
        return Ok(false);
    }
    let Some(file) = cache.layout().written(id)? else { return Ok(false) };
    Ok(!writer_of(cache.layout(), lock, id, &file)?.has_the_image(min_stall(cache)))
}
