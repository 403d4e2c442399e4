//! A room: the streams of one handle that fetch the same image. They share one descriptor of its incomplete file, one of its record,
//! one hash and one wait. The locks of the record exclude other rooms; the threads of a room exclude each other here.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::cache::stream::waiting::Waiters;
use crate::cache::writeback::Writeback;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::layout::{Area, Layout};
use crate::store::stream_facts::{Facts, Progress};
use crate::store::stream_record::StreamRecord;
use crate::sys::file;
use crate::sys::lock::poll;
use crate::sys::memory;
use crate::sys::stat::{FileId, presence};

/// The longest piece that is read from a source, in bytes. A death costs no more than that.
pub(crate) const PIECE: usize = 1 << 20;

/// The shortest one, unless the image ends before. A stream begins with it, so that first bytes come soon.
pub(crate) const SHORTEST: usize = 64 << 10;

const RECORD_CHANGED: &str = "the record of its stream was changed";

/// One image's fetch, as the streams of one handle see it.
pub(crate) struct Room {
    pub id: ImageId,
    pub record: StreamRecord,
    pub file: File,
    pub file_id: FileId,
    /// The incomplete file's, for messages.
    path: PathBuf,
    pub waiters: Waiters,
    /// The numbers of the turns that threads of this room have: the present one, and those that were taken over.
    turns: Mutex<Vec<u64>>,
    appending: Mutex<()>,
    /// Used by one thread at a time: the one that has the turn or the append lock.
    pub work: Mutex<Work>,
    /// The buffer of the last piece, for the next one.
    buffer: Mutex<Vec<u8>>,
    joined: Instant,
    /// The length of the file then, in bytes.
    length_then: u64,
    /// For so many bytes, this room has reserved room on the disk. Used by the one that has the turn.
    pub reserved: AtomicU64,
    /// The limit then, in bytes.
    pub limit: AtomicU64,
    /// On a full disk, room was made for it.
    pub is_space_made: AtomicBool,
}

/// What the room does with the bytes beside appending them.
pub(crate) struct Work {
    pub hash: Option<RunningHash>,
    pub writeback: Writeback,
    /// So many bytes were synced by this room.
    pub synced: u64,
}

/// The hash of the file's first bytes.
pub(crate) struct RunningHash {
    pub expectations: Expectations,
    /// Bytes.
    pub hashed: u64,
    /// So many of them when it was last stored in the record.
    pub stored: u64,
    /// This process has hashed all of them.
    pub is_own: bool,
}

/// What a look at the fetch shows, without a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// The length of the file, in bytes.
    pub length: u64,
    /// Whether the file still has a name.
    pub is_linked: bool,
}

/// The turn: its holder may call its source. Dropping it ends it.
pub(crate) struct Turn<'a> {
    room: &'a Room,
    pub number: u64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.room.record.unlock_turn(self.number);
        locked(&self.room.turns).retain(|number| *number != self.number);
        self.room.waiters.announce();
    }
}

/// The append lock. Dropping it releases it.
pub(crate) struct AppendGuard<'a> {
    room: &'a Room,
    _threads: MutexGuard<'a, ()>,
}

impl Drop for AppendGuard<'_> {
    fn drop(&mut self) {
        self.room.record.unlock_append();
    }
}

impl Room {
    pub fn new(
        id: ImageId,
        record: StreamRecord,
        file: File,
        file_id: FileId,
        path: PathBuf,
        work: Work,
    ) -> Result<Self> {
        let length_then = presence(&file, || path.clone())?.size;
        Ok(Self {
            id,
            record,
            file,
            file_id,
            path,
            waiters: Waiters::default(),
            turns: Mutex::default(),
            appending: Mutex::default(),
            work: Mutex::new(work),
            buffer: Mutex::default(),
            joined: Instant::now(),
            length_then,
            reserved: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            is_space_made: AtomicBool::new(false),
        })
    }

    /// For messages.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Reads bytes that were appended; 0 at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        file::read_at(&self.file, || self.path(), offset, buffer)
    }

    pub fn look(&self) -> Result<Look> {
        let present = presence(&self.file, || self.path())?;
        Ok(Look { length: present.size, is_linked: present.links > 0 })
    }

    /// How many bytes were appended per second since this room joined.
    pub fn bytes_per_second(&self, length: u64) -> u64 {
        let elapsed = self.joined.elapsed().as_millis().max(1);
        let appended = u128::from(length.saturating_sub(self.length_then));
        u64::try_from(appended * 1000 / elapsed).unwrap_or(u64::MAX)
    }

    /// The present facts.
    pub fn facts(&self) -> Result<Facts> {
        self.record.facts()?.ok_or_else(|| self.lost(RECORD_CHANGED))
    }

    /// A part of them, which costs less.
    pub fn progress(&self) -> Result<Progress> {
        self.record.progress()?.ok_or_else(|| self.lost(RECORD_CHANGED))
    }

    /// The error of a fetch that lost its file.
    pub fn lost(&self, why: &'static str) -> Error {
        Error::Lost { image_id: self.id.to_string(), why }
    }

    /// Fails when the file was cleaned, replaced or published. Returns its length, in bytes.
    pub fn check_name(&self, layout: &Layout) -> Result<u64> {
        let present = layout.stat(Area::Incomplete, &self.id)?.image();
        let present = present.filter(|stat| stat.id == self.file_id);
        present.map(|stat| stat.size).ok_or_else(|| self.lost("it was cleaned, or it stalled and was replaced"))
    }

    /// The turn of this number, if nobody has it.
    pub fn try_turn(&self, number: u64) -> Result<Option<Turn<'_>>> {
        let mut turns = locked(&self.turns);
        if turns.contains(&number) || !self.record.try_lock_turn(number)? {
            return Ok(None);
        }
        turns.push(number);
        Ok(Some(Turn { room: self, number }))
    }

    /// Whether somebody has the turn of this number. Where that is unknown, nobody has it: to try shows it.
    pub fn is_turn_taken(&self, number: u64) -> bool {
        locked(&self.turns).contains(&number) || self.record.is_turn_taken(number).unwrap_or(false)
    }

    /// The append lock; `None` when it is not free within that time.
    pub fn lock_append(&self, within: Duration) -> Result<Option<AppendGuard<'_>>> {
        let deadline = Instant::now() + within;
        poll(deadline, || {
            let threads = match self.appending.try_lock() {
                Ok(threads) => threads,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return Ok(None),
            };
            let is_locked = self.record.try_lock_append()?;
            Ok(is_locked.then_some(AppendGuard { room: self, _threads: threads }))
        })
    }

    /// Whether somebody has the append lock. Where that is unknown, nobody has it: to try shows it.
    pub fn is_append_locked(&self) -> bool {
        matches!(self.appending.try_lock(), Err(TryLockError::WouldBlock))
            || self.record.is_append_locked().unwrap_or(false)
    }

    /// A buffer of at least that many bytes.
    pub fn take_buffer(&self, length: usize) -> Result<Vec<u8>> {
        let former = std::mem::take(&mut *locked(&self.buffer));
        if former.len() >= length { Ok(former) } else { memory::buffer(length, "fetch a piece") }
    }

    pub fn put_buffer(&self, buffer: Vec<u8>) {
        let mut place = locked(&self.buffer);
        if buffer.len() > place.len() {
            *place = buffer;
        }
    }

    pub fn work(&self) -> MutexGuard<'_, Work> {
        locked(&self.work)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Room").field("id", &self.id).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::lifecycle;
    use crate::cache::stream::join::{Joined, join};
    use crate::options::Options;

    #[test]
    fn no_turn_is_taken_twice_if_a_former_one_is_taken_late() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Arc::new(lifecycle::open(&scratch.path().join("cache"), Options::default()).unwrap());
        let id = cache.layout().image_id("1").unwrap();
        let Joined::Room(room) = join(&cache, &id, &Expectations::default(), None).unwrap() else { panic!() };
        let present = room.try_turn(1).unwrap().unwrap();
        let former = room.try_turn(0).unwrap().unwrap();
        assert!(room.try_turn(1).unwrap().is_none() && room.try_turn(0).unwrap().is_none());
        drop(present);
        assert!(!room.is_turn_taken(1) && room.is_turn_taken(0));
        drop(former);
        assert!(room.try_turn(0).unwrap().is_some());
    }
}
