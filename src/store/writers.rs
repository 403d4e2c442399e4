//! The writer of an incomplete file: whether it lives, its process, its begin and its last write.
//!
//! A live writer has a lock in the lock file, on a byte that its file's inode number selects. So a check need not open the
//! file itself, and programs that lock images (qemu) meet no lock of ours.
//!
//! Beside the lock, the lock file has an entry for each writer. It names the process, and has a heartbeat of the monotonic clock:
//! a step of the host's clock makes no live writer look stalled. An entry that cannot be written (a full disk) is missing; then
//! the file's mtime counts.
//!
//! # A file without a live writer
//!
//! It is a dead writer's if we created it: then it has the sticky bit, which it loses after it has left `incomplete/`. Anything else
//! was put there by another program, a live Glance for example, and counts as a live writer's until it stalls. If the clock was set
//! back, so that its mtime lies in the future, the lock file has an entry for it, too: when that mtime was first seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::store::lock_file::LockFile;
use crate::sys::lock::LockKind;
use crate::sys::stat::StatAndBirth;
use crate::sys::time::{Timestamp, monotonic};

/// A byte in the lock file for each inode number. No other lock is here.
fn byte_of(inode: u64) -> u64 {
    const FIRST: u64 = 1 << 62;
    FIRST | (inode & (FIRST - 1))
}

/// After the lock file was replaced, a writer that writes has noticed within this time.
const NOTICED: Duration = Duration::from_secs(10);

/// How often a writer notes that it writes.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The entries begin here, in bytes. Before them are bytes for locks, and a note for the index.
const ENTRIES: usize = 64;

/// More writers than this have no entry.
const MAX_ENTRIES: usize = 1024;

/// What the lock file has of one writer: five numbers of 64 bits, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// The incomplete file; 0 in a free entry.
    inode: u64,
    /// Its time of birth in nanoseconds, since inode numbers are reused; 0 where that is unknown.
    born: i64,
    /// The process; [`WATCHED`] for a file without a live writer that we know of.
    process: u64,
    /// When it began, of the host's clock, for messages. Of a file that is watched: its mtime.
    since: Timestamp,
    /// When it wrote last, in nanoseconds of the monotonic clock; [`FINISHING`] once it has all bytes. Of a file that is watched: when
    /// its mtime was first seen.
    beat: u64,
}

/// The process of an entry that is no writer's: see [`idle`].
const WATCHED: u64 = 0;

/// An mtime that is less ahead counts as the present: clocks are adjusted in small steps.
const TOLERANCE: Duration = Duration::from_secs(2);

/// The heartbeat of a writer that verifies, syncs and publishes. It does not stall.
const FINISHING: u64 = u64::MAX;

impl Entry {
    const LENGTH: usize = 40;

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let mut next = || numbers.next();
        let (inode, born, process, since, beat) = (next()?, next()?, next()?, next()?, next()?);
        let since = Timestamp::from_nanoseconds(since.cast_signed());
        Some(Self { inode, born: born.cast_signed(), process, since, beat })
    }

    fn to_bytes(self) -> Vec<u8> {
        let since = self.since.as_nanoseconds().cast_unsigned();
        [self.inode, self.born.cast_unsigned(), self.process, since, self.beat]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }
}

/// The writer of an incomplete file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Writer {
    /// A live writer's, which last wrote so long ago. Without an entry, its process is unknown.
    Live { process: Option<u32>, since: Option<Timestamp>, idle: Duration },
    /// A writer's that died.
    Dead,
    /// Another program's, which last wrote so long ago.
    Unknown { idle: Duration },
}

impl Writer {
    /// Finds the writer of an incomplete file.
    pub(super) fn of(lock_file: Option<&Arc<LockFile>>, file: &StatAndBirth) -> Result<Self> {
        // Without the lock file, nobody of this host's handles writes.
        let Some(lock_file) = lock_file else {
            return Ok(Self::Unknown { idle: file.stat.modified.distance(Timestamp::now()) });
        };
        let inode = file.stat.id.inode;
        if lock_file.is_locked(byte_of(inode))? {
            let born = file.born.map_or(0, Timestamp::as_nanoseconds);
            let entry = entries(lock_file)?.into_iter().find(|entry| entry.inode == inode && entry.born == born);
            let Some(entry) = entry.filter(|entry| entry.process != WATCHED) else {
                return Ok(Self::Live { process: None, since: None, idle: idle(lock_file, file)? });
            };
            let idle = match entry.beat {
                FINISHING => Duration::ZERO,
                beat => since(beat),
            };
            return Ok(Self::Live { process: entry.process.try_into().ok(), since: Some(entry.since), idle });
        }
        // Its writer may have a lock on a lock file that was removed, and not have noticed yet.
        let is_older = file.born.zip(lock_file.born).is_some_and(|(file, lock_file)| file < lock_file);
        let is_marked = file.stat.is_sticky() || !lock_file.keeps_modes;
        if is_marked && !is_older {
            return Ok(Self::Dead);
        }
        let idle = idle(lock_file, file)?;
        Ok(if is_marked && idle >= NOTICED { Self::Dead } else { Self::Unknown { idle } })
    }

    /// Whether it may not be replaced: it lives or may live, and has not stalled.
    pub fn has_the_image(&self, stall_time: Duration) -> bool {
        match self {
            Self::Live { idle, .. } | Self::Unknown { idle } => *idle < stall_time,
            Self::Dead => false,
        }
    }
}

/// The live writers of one handle.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The file that has these locks and entries.
    file: Option<Arc<LockFile>>,
    /// By inode: the entry, and its offset in the file if it has a place there.
    writers: HashMap<u64, (Entry, Option<u64>)>,
}

impl Writers {
    /// Locks a new file for its writer. False when the lock of another file's writer, which is ending, is still there.
    pub(super) fn begin(&self, lock_file: &Arc<LockFile>, file: &StatAndBirth) -> Result<bool> {
        let entry = Entry {
            inode: file.stat.id.inode,
            born: file.born.map_or(0, Timestamp::as_nanoseconds),
            process: u64::from(std::process::id()),
            since: Timestamp::now(),
            beat: now(),
        };
        if !lock_file.try_hold(byte_of(entry.inode), LockKind::Exclusive)? {
            return Ok(false);
        }
        let mut state = self.state();
        let offset = place(lock_file, &entry);
        state.writers.insert(entry.inode, (entry, offset));
        state.file = Some(Arc::clone(lock_file));
        Ok(true)
    }

    /// Notes that a writer writes. True at most every half second.
    pub(super) fn beat(&self, inode: u64) -> bool {
        self.update(inode, |entry| (since(entry.beat) >= HEARTBEAT).then(now))
    }

    /// Notes that a writer has all bytes, and does not stall any more.
    pub fn finish(&self, inode: u64) {
        let _ = self.update(inode, |_| Some(FINISHING));
    }

    /// Ends a writer's lock.
    pub fn end(&self, inode: u64) {
        let mut state = self.state();
        let State { file: Some(file), writers } = &mut *state else { return };
        if let Some((_, offset)) = writers.remove(&inode) {
            if let Some(offset) = offset {
                // If the entry stays, the missing lock shows that the writer ended.
                let _ = file.write(offset, &[0; Entry::LENGTH]);
            }
            file.release(byte_of(inode));
        }
    }

    /// Locks the files of this handle's writers in a lock file that replaced another one.
    pub(super) fn move_to(&self, file: &Arc<LockFile>) -> Result<()> {
        let mut state = self.state();
        let State { file: present, writers } = &mut *state;
        if writers.is_empty() || present.as_ref().is_some_and(|present| Arc::ptr_eq(present, file)) {
            return Ok(());
        }
        for (inode, (entry, offset)) in writers {
            // If another writer has the lock, this one was replaced. Its next call fails, since its file has no name any more.
            file.try_hold(byte_of(*inode), LockKind::Exclusive)?;
            *offset = place(file, entry);
        }
        *present = Some(Arc::clone(file));
        Ok(())
    }

    /// Writes a heartbeat, if `beat` returns one. True when it did.
    fn update(&self, inode: u64, beat: impl FnOnce(&Entry) -> Option<u64>) -> bool {
        let mut state = self.state();
        let State { file: Some(file), writers } = &mut *state else { return false };
        let Some((entry, offset)) = writers.get_mut(&inode) else { return false };
        let Some(beat) = beat(entry) else { return false };
        entry.beat = beat;
        if let Some(offset) = offset {
            // Without it, the writer may look stalled, as one that does not write.
            let _ = file.write(*offset, &entry.to_bytes());
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long ago the last write to a file without a heartbeat was, by the file's mtime. If that lies in the future, the host's clock was
/// set back, or another program set the time: then the time counts from when this mtime was first seen.
fn idle(lock_file: &LockFile, file: &StatAndBirth) -> Result<Duration> {
    let modified = file.stat.modified;
    let present = Timestamp::now();
    if modified <= present.after(TOLERANCE) {
        return Ok(modified.distance(present));
    }
    let born = file.born.map_or(0, Timestamp::as_nanoseconds);
    let seen = Entry { inode: file.stat.id.inode, born, process: WATCHED, since: modified, beat: now() };
    let is_same = |entry: &Entry| Entry { beat: seen.beat, ..*entry } == seen && entry.beat <= seen.beat;
    if let Some(entry) = entries(lock_file)?.iter().find(|entry| is_same(entry)) {
        return Ok(since(entry.beat));
    }
    // Without a place for it, the file does not stall until the clock reaches its mtime.
    place(lock_file, &seen);
    Ok(Duration::ZERO)
}

/// The present, in nanoseconds of the monotonic clock.
fn now() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap_or(FINISHING)
}

/// How long ago a heartbeat was.
fn since(beat: u64) -> Duration {
    Duration::from_nanos(now().saturating_sub(beat))
}

/// All entries, free ones included, in their order.
fn entries(file: &LockFile) -> Result<Vec<Entry>> {
    let content = file.content(ENTRIES + MAX_ENTRIES * Entry::LENGTH)?;
    let entries = content.get(ENTRIES..).unwrap_or_default();
    Ok(entries.chunks_exact(Entry::LENGTH).filter_map(Entry::from_bytes).collect())
}

/// Writes an entry in a place that no live writer has. Returns its offset; `None` when there is no place.
fn place(file: &LockFile, entry: &Entry) -> Option<u64> {
    let present = entries(file).ok()?;
    let is_free = |present: &Entry| {
        present.inode == 0 || present.inode == entry.inode || !file.is_locked(byte_of(present.inode)).unwrap_or(true)
    };
    let place = present.iter().position(is_free).unwrap_or(present.len());
    let offset = (ENTRIES + place * Entry::LENGTH) as u64;
    (place < MAX_ENTRIES && file.write(offset, &entry.to_bytes()).is_ok()).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = Entry { inode: 7, born: -1, process: 4_000_000, since: Timestamp::now(), beat: FINISHING };
        assert_eq!(entry.to_bytes().len(), Entry::LENGTH);
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
        assert_eq!(Entry::from_bytes(&entry.to_bytes()[1..]), None);
    }
}
