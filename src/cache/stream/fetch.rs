//! The fetch that streams share: nobody owns it.
//!
//! # Protocol
//!
//! The file is `incomplete/<id>`. It only grows, so that each of its bytes is valid as soon as it is there. Participants read it without a
//! lock. One that needs more bytes than there are does this:
//!
//! 1. It tries the present turn. Who has the turn calls its source, at the file's length; all others wait until the file has grown, or
//!    the turn is free. A turn lasts for one call of a source: a slow or absent consumer has none. If its process dies, the kernel frees it.
//! 2. It appends the bytes, under the append lock, if nothing has changed: the name still is this file's, and the length is where the
//!    source was called. Else it drops them, and reads the file again. A kill within the write leaves fewer bytes, which are right.
//! 3. A turn that lasts for the source time-out, without a new byte, is taken over: under the append lock, its number is increased. The
//!    source that hangs may return at any time. Its bytes are dropped in step 2 if others were faster. If all sources are slower than
//!    the time-out, the first one that returns counts: otherwise they would replace each other without end.
//!
//! # Expectations
//!
//! The expectations of all participants are verified. A stream that contradicts them goes on alone. Those of participants who have left
//! hold as long as there are others. A stream that expects more than the verdict covers has the file verified again.
//!
//! A process that is stopped within the append lock delays others for the source time-out at most. They then go on alone.
//!
//! `conclude` has the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cache::bounds::reserve;
use crate::cache::incomplete::LEAST_ROOM;
use crate::cache::inner::CacheInner;
use crate::cache::stream::hash::hash;
use crate::cache::stream::lost::{abandon, spoil};
use crate::cache::stream::room::{AppendGuard, Room};
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::store::stream_facts::Facts;
use crate::sys::file;
use crate::sys::signals::without_size_signal;

/// So many bytes are synced at once, so that they need not be fetched again after a restart of the host.
const SYNCED: u64 = 32 << 20;

/// How a participant's bytes were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// They are in the file.
    Kept,
    /// Others were faster. The file has other bytes there, or will have.
    Dropped,
}

/// The append lock. A verification may have it for longer than `within`, as long as it goes on.
fn lock(room: &Room, within: Duration) -> Result<AppendGuard<'_>> {
    if let Some(guard) = room.lock_append(Duration::ZERO)? {
        return Ok(guard);
    }
    let mut hashed = room.record.hashed()?;
    loop {
        if let Some(guard) = room.lock_append(within)? {
            return Ok(guard);
        }
        if std::mem::replace(&mut hashed, room.record.hashed()?) == hashed {
            let path = room.record.path();
            return Err(Error::TimedOut {
                operation: "get the append lock from another process",
                path,
                waited: within,
            });
        }
    }
}

/// Whether both cannot be met.
pub(crate) fn contradicts(facts: &Facts, own: &Expectations) -> bool {
    let other_size = facts.size.or(facts.length).zip(own.size()).is_some_and(|(theirs, own)| theirs != own);
    let is_other =
        |algorithm, hex: &String| facts.digests.iter().any(|(known, theirs)| *known == algorithm && theirs != hex);
    other_size || own.digests().iter().any(|(algorithm, hex)| is_other(*algorithm, hex))
}

/// Adds a participant's expectations to those of the fetch. Fails when they contradict, or when the fetch has ended.
pub(crate) fn agree(cache: &CacheInner, room: &Room, own: &Expectations, within: Duration) -> Result<()> {
    let is_known = |facts: &Facts| {
        own.size().is_none_or(|size| facts.size == Some(size))
            && own.digests().iter().all(|digest| facts.digests.contains(digest))
    };
    // The record cannot have it, and no file can.
    if own.size() == Some(u64::MAX) {
        return Err(Error::InvalidArgument(format!("image '{}' cannot be as long as is expected", room.id)));
    }
    let mut facts = room.facts()?;
    if !is_known(&facts) {
        let _lock = lock(room, within)?;
        facts = room.facts()?;
        if contradicts(&facts, own) {
            return Err(Error::InvalidArgument(format!(
                "image '{}' is being fetched with another expected size or digest",
                room.id
            )));
        }
        if facts.verdict.is_some() {
            room.check_name(cache.layout())?;
            // Its author died before the end. The next one verifies what is expected now.
            facts.verdict = None;
        }
        facts.size = facts.size.or(own.size());
        let new: Vec<_> = own.digests().iter().filter(|digest| !facts.digests.contains(digest)).cloned().collect();
        facts.digests.extend(new);
        if room.record.hash()?.is_some_and(|saved| Expectations::resume(&facts.digests, &saved).is_none()) {
            // What was hashed so far is not what is expected now.
            room.record.forget_hash()?;
        }
        if facts.size.is_some_and(|size| room.look().is_ok_and(|look| look.length > size)) {
            return Err(room.lost("it has more bytes than are expected"));
        }
        room.record.set(&facts)?;
    }
    Ok(())
}

/// Reserves room on the disk for the file's first `end` bytes, or for all of them if their number is known. To be called by the one that
/// has the turn, before it calls its source.
pub(crate) fn reserve_room(cache: &CacheInner, room: &Room, end: u64, size: Option<u64>) -> Result<()> {
    let reserved = room.reserved.load(Ordering::Relaxed);
    if !cache.bounds.are_set() {
        return Ok(());
    }
    let limit = cache.limit()?;
    // Again if the limit was lowered meanwhile.
    if end <= reserved && limit >= room.limit.load(Ordering::Relaxed) {
        room.limit.store(limit, Ordering::Relaxed);
        return Ok(());
    }
    let need = size.unwrap_or(end).max(end);
    let wish = if size.is_some() || reserved == 0 { need } else { reserve::step_after(end) };
    let patience = reserve::SHORT_PATIENCE;
    let reserved = reserve::reserve(cache, &room.file, || room.path(), (reserved, 0), (need, wish), patience)?;
    room.reserved.store(reserved.end, Ordering::Relaxed);
    room.limit.store(reserved.limit, Ordering::Relaxed);
    // Others may have published it meanwhile: the turn was taken over.
    if let Err(error) = room.check_name(cache.layout()) {
        file::set_length(&room.file, || room.path(), room.look()?.length)?;
        return Err(error);
    }
    Ok(())
}

/// Step 2: appends the bytes that the source returned at `offset`.
pub(crate) fn append(cache: &CacheInner, room: &Room, offset: u64, data: &[u8], within: Duration) -> Result<Appended> {
    let digests = {
        let _lock = lock(room, within)?;
        let progress = room.progress()?;
        if progress.length.is_some() || room.check_name(cache.layout())? != offset {
            return Ok(Appended::Dropped);
        }
        let appended = without_size_signal(|| file::append(&room.file, || room.path(), data));
        if let Err(error) = &appended
            && error.is_no_space()
            && cache.bounds.are_set()
            && !room.is_space_made.swap(true, Ordering::Relaxed)
        {
            // Once: the bytes that were written are right, and the others are fetched again.
            let least = (data.len() as u64).max(LEAST_ROOM);
            let made = reserve::make_room(cache, least, reserve::SHORT_PATIENCE);
            return if made.is_ok_and(|pruned| pruned.images > 0) {
                Ok(Appended::Dropped)
            } else {
                appended.map(|()| Appended::Kept)
            };
        }
        appended?;
        if room.look()?.length != offset + data.len() as u64 {
            // Another program has shortened it since the look: these bytes are in the wrong place, and nobody may read them.
            let emptied = file::truncate(&room.file, || room.path());
            spoil(cache, room);
            return Err(emptied.err().unwrap_or_else(|| room.lost("another program changed its length")));
        }
        if progress.process != u64::from(std::process::id()) {
            let mut facts = room.facts()?;
            facts.process = std::process::id();
            room.record.set(&facts)?;
        }
        progress.digests
    };
    room.waiters.announce();
    let end = offset + data.len() as u64;
    let kept = keep(cache, room, digests, offset, data);
    // The kernel may report lost bytes only once: nobody may publish them.
    let is_synced = kept.inspect_err(|error| abandon(cache, room, error))?;
    if is_synced && let Err(error) = note_synced(room, end, within) {
        // After a restart of the host, these bytes are fetched again.
        cache.log().warning(|| error.to_string());
    }
    Ok(Appended::Kept)
}

fn note_synced(room: &Room, end: u64, within: Duration) -> Result<()> {
    let _lock = lock(room, within)?;
    let mut facts = room.facts()?;
    facts.synced = facts.synced.max(end);
    room.record.set(&facts)
}

/// Hashes bytes that were appended, and has them written to the disk. True when all bytes up to their end were synced. A failure is one
/// to write them.
fn keep(cache: &CacheInner, room: &Room, digests: u64, offset: u64, data: &[u8]) -> Result<bool> {
    let end = offset + data.len() as u64;
    let mut work = room.work();
    work.writeback.advance(&room.file, end, || room.path())?;
    let hashed = hash(room, &mut work.hash, digests, offset, data);
    if let Err(error @ Error::Lost { .. }) = hashed {
        return Err(error);
    }
    if hashed.is_err() {
        // The verification hashes the whole file, or goes on with the hash in the record.
        work.hash = None;
    }
    let is_due = cache.durability == Durability::Full && end.saturating_sub(work.synced) >= SYNCED;
    if is_due {
        file::sync_data(&room.file, || room.path())?;
        work.synced = end;
    }
    Ok(is_due)
}

/// Step 3: has the next turn begin, if the present one still has the number `turn`, and the file has no byte after `length`.
pub(crate) fn take_over(cache: &CacheInner, room: &Room, turn: u64, length: u64, within: Duration) -> Result<()> {
    let _lock = lock(room, within)?;
    let mut facts = room.facts()?;
    if facts.turn == turn && room.look()?.length == length {
        facts.turn += 1;
        room.record.set(&facts)?;
        cache
            .log()
            .warning(|| format!("image '{}': a source has not returned; the fetch goes on with another one", room.id));
    }
    Ok(())
}

/// A source has returned 0 at `length`, the end of the file. Fails with the size that was expected meanwhile.
pub(crate) fn note_end(cache: &CacheInner, room: &Room, length: u64, within: Duration) -> Result<()> {
    let _lock = lock(room, within)?;
    let mut facts = room.facts()?;
    // Others may have found the end, and published the file.
    if room.look()?.length == length && facts.length.is_none() {
        room.check_name(cache.layout())?;
        // A stream that joined during the call of the source may know better.
        if let Some(expected) = facts.size.filter(|size| *size != length) {
            return Err(Error::SizeMismatch { image_id: room.id.to_string(), expected, actual: length });
        }
        facts.length = Some(length);
        room.record.set(&facts)?;
    }
    Ok(())
}
