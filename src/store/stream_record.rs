//! The record of a stream: what the processes that fetch an image together know of its incomplete file. It is
//! `.image_cache/streams/<image id>`, and its bytes carry the locks of the fetch.
//!
//! | lock | byte | held |
//! |---|---|---|
//! | append lock | 0 | while bytes are appended, and while the finished image is verified and published |
//! | participation | 1, shared | as long as a process takes part |
//! | a turn | 1024 + its number | while one participant calls its source |
//!
//! The file never has a mode that gives reading without writing, so who may only read the directory cannot lock it. The content
//! (`stream_facts`) changes under the append lock only. Reads without it are hints, except the verdict: it is one byte, which is written
//! last. The running hash (`stream_hash`) is behind it, and needs no lock.
//!
//! A record belongs to one incomplete file, by inode and time of birth. It is created after that file, under one cache lock, and never
//! gets another one: so the append lock of a record excludes all who append to its file.

use std::fs::File;
use std::path::PathBuf;

use crate::digest::hasher::SavedHash;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::store::layout::Layout;
use crate::store::lock::CacheLockGuard;
use crate::store::stream_facts::{Facts, LENGTH, Progress, TEXTS_AT, VERDICT_AT};
use crate::store::stream_hash;
use crate::sys::file;
use crate::sys::lock::{LockKind, is_locked, is_locked_at_all, try_lock, unlock};
use crate::sys::memory;
use crate::sys::signals::without_size_signal;
use crate::sys::stat::{FileStat, StatAndBirth};

/// The subdirectory for the records.
const STREAMS: &str = "streams";

const APPEND: u64 = 0;
const PARTICIPATION: u64 = 1;
const FIRST_TURN: u64 = 1024;

/// The open record of a stream.
#[derive(Debug)]
pub(crate) struct StreamRecord {
    file: File,
    path: PathBuf,
}

impl StreamRecord {
    /// Opens the record of an image's incomplete file; `None` when it has none, or that of another file.
    pub fn open(layout: &Layout, id: &ImageId, of: &StatAndBirth) -> Result<Option<(Self, Facts)>> {
        let Some(directory) = layout.own_subdirectory(STREAMS)? else { return Ok(None) };
        let path = directory.path_of(id.as_file_name());
        let Some(file) = directory.open_to_write(id.as_file_name())? else { return Ok(None) };
        if !FileStat::of(&file, || path.clone())?.is_regular {
            return Ok(None);
        }
        let record = Self { file, path };
        Ok(record.facts()?.filter(|facts| facts.is_of(of)).map(|facts| (record, facts)))
    }

    /// Creates the record of a new incomplete file, in place of one that an earlier file left.
    pub fn create(layout: &Layout, lock: &CacheLockGuard<'_>, id: &ImageId, facts: &Facts) -> Result<Self> {
        lock.check_held()?;
        let directory = layout.create_own_subdirectory(STREAMS)?;
        let name = id.as_file_name();
        directory.remove(name)?;
        let path = directory.path_of(name);
        let is_shared = layout.shared_directory().is_shared();
        let created = directory.create_private(name, false, is_shared)?;
        let file = created.ok_or_else(|| Error::exists("create", &path))?;
        let record = Self { file, path };
        record.set(facts).inspect_err(|_| _ = directory.remove(name))?;
        Ok(record)
    }

    /// Removes the record of an image, after its incomplete file has gone.
    pub fn remove(layout: &Layout, _lock: &CacheLockGuard<'_>, id: &ImageId) -> Result<()> {
        layout.own_subdirectory(STREAMS)?.map_or(Ok(false), |directory| directory.remove(id.as_file_name())).map(drop)
    }

    /// Whether an image has a record, which this process may not be permitted to open.
    pub fn exists(layout: &Layout, id: &ImageId) -> bool {
        let streams = layout.own_subdirectory(STREAMS).ok().flatten();
        streams.is_some_and(|directory| directory.stat(id.as_file_name()).is_ok_and(|stat| stat.is_some()))
    }

    /// The images that have one.
    pub fn ids(layout: &Layout) -> Result<Vec<ImageId>> {
        let Some(directory) = layout.own_subdirectory(STREAMS)? else { return Ok(Vec::new()) };
        memory::collect(layout.ids_in(&directory)?, "list a directory")
    }

    /// The content; `None` when it is no record, because its creation was interrupted.
    pub fn facts(&self) -> Result<Option<Facts>> {
        let mut bytes = [0; LENGTH];
        let length = file::read_at(&self.file, || self.path.clone(), 0, &mut bytes)?;
        Ok(Facts::from_bytes(&bytes[..length]))
    }

    /// A part of the content; `None` when it is no record.
    pub fn progress(&self) -> Result<Option<Progress>> {
        let mut bytes = [0; TEXTS_AT];
        let length = file::read_at(&self.file, || self.path.clone(), 0, &mut bytes)?;
        Ok(if length == bytes.len() { Progress::from_bytes(&bytes) } else { None })
    }

    /// Writes the content. The verdict comes last, since others read it without a lock.
    pub fn set(&self, facts: &Facts) -> Result<()> {
        let mut bytes = facts.to_bytes();
        let verdict = std::mem::take(&mut bytes[VERDICT_AT]);
        let write = |offset: usize, bytes: &[u8]| {
            without_size_signal(|| file::write_at(&self.file, || self.path.clone(), offset as u64, bytes))
        };
        write(0, &bytes)?;
        if verdict == 0 { Ok(()) } else { write(VERDICT_AT, &[verdict]) }
    }

    /// The running hash of the image's first bytes, if it is intact.
    pub fn hash(&self) -> Result<Option<SavedHash>> {
        let mut bytes = [0; stream_hash::LENGTH];
        let length = file::read_at(&self.file, || self.path.clone(), LENGTH as u64, &mut bytes)?;
        Ok(stream_hash::from_bytes(&bytes[..length]))
    }

    /// How many bytes are hashed in it: a hint.
    pub fn hashed(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        let length = file::read_at(&self.file, || self.path.clone(), LENGTH as u64, &mut bytes)?;
        Ok(stream_hash::hashed(&bytes[..length]))
    }

    pub fn set_hash(&self, saved: &SavedHash) -> Result<()> {
        let bytes = stream_hash::to_bytes(saved);
        without_size_signal(|| file::write_at(&self.file, || self.path.clone(), LENGTH as u64, &bytes))
    }

    /// Removes the running hash.
    pub fn forget_hash(&self) -> Result<()> {
        file::set_length(&self.file, || self.path.clone(), LENGTH as u64)
    }

    /// Has no content any more: its file is a dead writer's.
    pub fn spoil(&self) -> Result<()> {
        file::set_length(&self.file, || self.path.clone(), 0)
    }

    /// Takes part, until the record is closed.
    pub fn participate(&self) -> Result<()> {
        // Nobody takes it exclusively.
        self.lock(PARTICIPATION, LockKind::Shared).map(drop)
    }

    /// Whether somebody else takes part.
    pub fn is_attended(&self) -> Result<bool> {
        is_locked_at_all(&self.file, PARTICIPATION).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    pub fn try_lock_append(&self) -> Result<bool> {
        self.lock(APPEND, LockKind::Exclusive)
    }

    pub fn unlock_append(&self) {
        unlock(&self.file, APPEND);
    }

    /// Whether another process has the append lock.
    pub fn is_append_locked(&self) -> Result<bool> {
        is_locked(&self.file, APPEND).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    pub fn try_lock_turn(&self, turn: u64) -> Result<bool> {
        self.lock(turn_byte(turn), LockKind::Exclusive)
    }

    pub fn unlock_turn(&self, turn: u64) {
        unlock(&self.file, turn_byte(turn));
    }

    /// Whether another process has the turn.
    pub fn is_turn_taken(&self, turn: u64) -> Result<bool> {
        is_locked(&self.file, turn_byte(turn)).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    fn lock(&self, byte: u64, kind: LockKind) -> Result<bool> {
        try_lock(&self.file, byte, kind).map_err(|errno| Error::system("lock", &self.path, errno))
    }

    /// For messages.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for StreamRecord {
    /// Not left to the close of the descriptor, which a forked child may hold open for longer.
    fn drop(&mut self) {
        unlock(&self.file, PARTICIPATION);
    }
}

fn turn_byte(turn: u64) -> u64 {
    FIRST_TURN + (turn & u64::from(u32::MAX))
}
