//! The file of an image that is being cached: how it is created, appended to, and invalidated. `publish` gives it its final name.
//!
//! # Begin
//!
//! All of it under the cache lock.
//!
//! 1. Stat the final name: an image there is cached already. A file there that is not served, since it may be torn (see
//!    `store::unsynced`), is removed, and one with another length than at its commit is moved to `invalid/`. If that fails, the begin fails: the publish could not replace the file either.
//! 2. Create `incomplete/<id>` exclusively. No second writer can share or truncate a new inode.
//! 3. If the name is taken, look up its writer (see `store::writers`).
//!    - Its writer is dead: remove the name, and go to 2. The file need not be opened for that.
//!    - A live writer has the image, or another program does. If it has written nothing for longer than the stall time, it loses
//!      the name as well. It keeps its inode, which has no name any more, or with a hard limit no mark (see `store::removal`),
//!      and its next call fails. A writer that has all bytes, and
//!      verifies or syncs them, does not stall: otherwise two slow writers would replace each other without end.
//! 4. Lock the new file for its writer. A process killed between 2 and 4 leaves a marked, unlocked file: a dead writer's.
//!
//! # Append
//!
//! Before each chunk: the file still has a name, its mark, and the length that was written. Twice a second, a heartbeat is written beside
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

use crate::cache::bounds::reserve::{self, Reserved};
use crate::cache::counters::Counter;
use crate::cache::inner::CacheInner;
use crate::cache::name_change::NameChange;
use crate::cache::query::is_torn;
use crate::cache::resized::withdraw_resized;
use crate::cache::takeover::create;
use crate::cache::writeback::Writeback;
use crate::error::{Error, Result};
use crate::store::attributes;
use crate::store::dir_entry::DirEntry;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::removal;
use crate::sys::file;
use crate::sys::signals::without_size_signal;
use crate::sys::stat::{FileId, FileStat, STICKY, presence};

/// So many bytes are made free at least on a full disk: a file system may need more than the bytes of a chunk.
pub(crate) const LEAST_ROOM: u64 = 1 << 20;

/// The incomplete file of the image's one writer. Dropping it before its end invalidates it.
pub(crate) struct IncompleteFile {
    pub cache: Arc<CacheInner>,
    pub id: ImageId,
    pub file: File,
    pub(super) file_id: FileId,
    /// It had the mark of an incomplete file when it was created. Who takes it away removes the mark (see `store::removal`).
    is_marked: bool,
    /// Bytes.
    pub written: u64,
    /// Whether room is reserved before bytes are written.
    pub(super) is_bounded: bool,
    /// For so many bytes, room was reserved.
    pub(super) reserved: u64,
    /// So many bytes before `reserved` are holes: whole blocks, counted if room is reserved.
    pub(super) holes: u64,
    /// The limit then, in bytes.
    limit: u64,
    /// How long it waits for the reservations of others.
    patience: Duration,
    pub writeback: Writeback,
    has_ended: bool,
}

impl IncompleteFile {
    /// Becomes the image's writer. `patience`: how long it waits for the reservations of others.
    pub fn begin(cache: &Arc<CacheInner>, id: ImageId, patience: Duration) -> Result<Self> {
        let lock = cache.lock.acquire_to_query()?;
        match cache.layout().stat(Area::Cached, &id)? {
            DirEntry::Missing => {}
            DirEntry::Image(_) if is_torn(cache, &id)? => {
                NameChange::begin(&cache.catalog, &lock)?.drop_torn(&id)?;
                cache
                    .log()
                    .info(|| format!("image '{id}' is dropped: it was not synced before the host restarted or the cache was mounted again"));
            }
            DirEntry::Image(stat) if withdraw_resized(cache, &lock, &id, &stat)? => {}
            DirEntry::Image(_) => return Err(Error::AlreadyCached(id.to_string())),
            DirEntry::Foreign => return Err(cache.layout().occupied(Area::Cached, &id)),
        }
        lock.check_held()?;
        cache.hard_limit(&lock)?;
        let (file, stat) = create(cache, &lock, &id)?;
        let writeback = Writeback::new(cache.durability, cache.streaming);
        let mut image = Self::new(cache, id, file, stat.id, writeback);
        (image.is_marked, image.patience) = (stat.is_sticky(), patience);
        Ok(image)
    }

    /// The finished file of a stream, whose append lock the caller holds.
    pub fn of_stream(cache: &Arc<CacheInner>, id: ImageId, file: File, file_id: FileId, length: u64) -> Self {
        let mut image = Self::new(cache, id, file, file_id, Writeback::new(cache.durability, false));
        image.written = length;
        // The participants have reserved it.
        image.reserved = if image.is_bounded { u64::MAX } else { 0 };
        image
    }

    fn new(cache: &Arc<CacheInner>, id: ImageId, file: File, file_id: FileId, writeback: Writeback) -> Self {
        let (is_bounded, cache) = (cache.bounds.are_set(), Arc::clone(cache));
        Self {
            cache,
            id,
            file,
            file_id,
            // Of a stream: its participants look for its name.
            is_marked: false,
            written: 0,
            is_bounded,
            reserved: 0,
            holes: 0,
            limit: 0,
            patience: Duration::ZERO,
            writeback,
            has_ended: false,
        }
    }

    /// Appends bytes.
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.check_intact()?;
        self.cache.lock.beat(self.file_id.inode);
        if self.cache.sparse { self.append_without_zeros(data) } else { self.append_data(data) }
    }

    pub(super) fn append_data(&mut self, data: &[u8]) -> Result<()> {
        self.reserve(self.written + data.len() as u64)?;
        let appended = self.write(data);
        appended.inspect_err(|error| self.free_space(error))?;
        self.written += data.len() as u64;
        self.start_writeback()
    }

    pub(super) fn start_writeback(&mut self) -> Result<()> {
        let started = self.writeback.advance(&self.file, self.written, || path_of(&self.cache, &self.id));
        started.inspect_err(|error| self.free_space(error))
    }

    /// Writes bytes at the end. On a full disk that is bounded, room is made, and the write is tried once more.
    fn write(&mut self, data: &[u8]) -> Result<()> {
        let write = |file: &Self| without_size_signal(|| file::append(&file.file, || file.path(), data));
        match write(self) {
            Err(error) if self.is_bounded && error.is_no_space() => {
                // A part of them may be there. What was reserved behind it ends, too.
                file::set_length(&self.file, || self.path(), self.written)?;
                self.reserved = self.written;
                let made = reserve::make_room(&self.cache, (data.len() as u64).max(LEAST_ROOM), self.patience);
                if made.is_ok_and(|pruned| pruned.images > 0) {
                    self.reserve(self.written + data.len() as u64)?;
                    write(self)
                } else {
                    Err(error)
                }
            }
            written => written,
        }
    }

    /// So many bytes will be written. Fails if there is no room for them: before the disk is touched.
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        if self.is_bounded { self.reserve_up_to(bytes, bytes) } else { Ok(()) }
    }

    /// Reserves room for the first bytes, up to `end`, unless that was done. Again if the limit was lowered meanwhile.
    pub fn reserve(&mut self, end: u64) -> Result<()> {
        if !self.is_bounded {
            return Ok(());
        }
        if end <= self.reserved {
            let is_lowered = self.cache.limit()? < self.limit;
            return if is_lowered { self.reserve_up_to(self.reserved, self.reserved) } else { Ok(()) };
        }
        // Most images that come in one chunk have no second one.
        let wish = if self.reserved == 0 { end } else { reserve::step_after(end) };
        self.reserve_up_to(end, wish)
    }

    /// An image without bytes may take up a block for its attributes.
    pub fn reserve_empty(&mut self) -> Result<()> {
        if self.is_bounded && self.reserved == 0 && self.written == 0 { self.reserve_up_to(0, 0) } else { Ok(()) }
    }

    fn reserve_up_to(&mut self, need: u64, wish: u64) -> Result<()> {
        let (present, path) = ((self.reserved, self.holes), || self.path());
        let reserved = reserve::reserve(&self.cache, &self.file, path, present, (need, wish), self.patience);
        Reserved { end: self.reserved, limit: self.limit } = reserved.inspect_err(|error| self.free_space(error))?;
        Ok(())
    }

    /// Frees what was reserved behind the end: also by others, and by a reservation that got a part of what it wished.
    pub fn release(&self) -> Result<()> {
        let has_more = || {
            let block = self.cache.bounds.block(self.cache.layout())?;
            let stat = FileStat::of(&self.file, || self.path())?;
            // With holes, their number says nothing.
            Ok(self.holes > 0 || stat.allocated > stat.size.next_multiple_of(block))
        };
        if self.is_bounded && has_more()? {
            file::set_length(&self.file, || self.path(), self.written)?;
        }
        Ok(())
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

    /// Moves the file to `invalid/`, with the reason that the caller has.
    pub fn invalidate(mut self, reason: &str) {
        self.end_invalid(reason, Counter::AbortedByCall);
    }

    /// The same, for an error.
    pub fn invalidate_for(mut self, error: &Error) {
        self.end_invalid(&error.to_string(), Counter::of_failure(error));
    }

    /// Removes a file that was never used.
    pub fn discard(mut self) {
        self.has_ended = true;
        let removed = self.cache.lock.acquire().and_then(|lock| {
            if self.has_its_name()? {
                removal::remove_own(self.cache.layout(), &lock, &self.id, &self.file)?;
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

    fn end_invalid(&mut self, reason: &str, cause: Counter) {
        self.has_ended = true;
        self.cache.counters().add(cause, 1);
        let (layout, log) = (self.cache.layout(), self.cache.log());
        log.info(|| format!("image '{}' was not cached: {reason}", self.id));
        attributes::record_failure(&self.file, reason);
        // If this fails, the next clean or reservation frees it with the file.
        let _ = self.release();
        let moved = self.cache.lock.acquire().and_then(|lock| {
            let Some(stat) = self.stat_in(Area::Incomplete)? else { return Ok(()) };
            let moved = removal::invalidate(layout, &lock, Area::Incomplete, &self.id).or_else(|error| {
                log.warning(|| error.to_string());
                // A removed file is better than one that blocks the name.
                removal::remove(layout, &lock, Area::Incomplete, &self.id).map(drop)
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
        let present = presence(&self.file, || self.path())?;
        let is_lost = present.links == 0 || (self.is_marked && !present.is_sticky);
        if is_lost { Err(self.lost_name()) } else { self.check_length(present.size) }
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
            self.end_invalid("its writer was closed before the end", Counter::ClosedEarly);
        }
        // Before the file is closed: its inode number may then belong to another writer's file.
        self.cache.lock.writers().end(self.file_id.inode);
    }
}

fn path_of(cache: &CacheInner, id: &ImageId) -> PathBuf {
    cache.layout().path(Area::Incomplete, id)
}
