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
//! # The end
//!
//! The file is complete when it has the expected size, or when a source has returned 0 at its length. Who finds it complete takes the append
//! lock, and
//!
//! 1. verifies the bytes of the file, where no verdict is in the record. Bytes that were hashed as they came are not read again. The others
//!    see that the hash advances, and wait for as long as that takes;
//! 2. stores the verdict;
//! 3. publishes the file as a writer does, or moves it to `invalid/`; and removes the record.
//!
//! The others wait for the append lock, and then end with the verdict: at the end of each of them, the image is published. After a death
//! in between, the next one goes on: with step 1 without a verdict, else with step 3.
//!
//! The expectations of all participants are verified. A stream that contradicts them goes on alone. Those of participants who have left
//! hold as long as there are others. A stream that expects more than the verdict covers has the file verified again.
//!
//! A process that is stopped within the append lock delays others for the source time-out at most. They then go on alone.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::incomplete::IncompleteFile;
use crate::cache::inner::CacheInner;
use crate::cache::publish::publish;
use crate::cache::stream::hash::{hash, verify};
use crate::cache::stream::lost::{abandon, spoil};
use crate::cache::stream::room::{AppendGuard, Room};
use crate::digest::algorithm::Algorithm;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::store::layout::Area;
use crate::store::stream_facts::{Facts, Verdict};
use crate::store::stream_record::StreamRecord;
use crate::sys::file;
use crate::sys::signals::without_size_signal;
use crate::sys::stat::STICKY;

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
        if facts.size.is_some_and(|size| room.look().is_ok_and(|look| look.length > size)) {
            return Err(room.lost("it has more bytes than are expected"));
        }
        room.record.set(&facts)?;
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
        without_size_signal(|| file::append(&room.file, || room.path(), data))?;
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

/// Ends the fetch of a complete file. Returns the verdict: `Ok` if the bytes are right; `None` while another participant does it. The
/// outer result fails when there will be no verdict.
pub(crate) fn conclude(cache: &Arc<CacheInner>, room: &Room) -> Result<Option<Result<()>>> {
    if room.progress()?.has_verdict && room.check_name(cache.layout()).is_err() {
        // The file was published, or is invalid.
        let facts = room.facts()?;
        return Ok(facts.verdict.clone().map(|verdict| as_result(room, &facts, verdict)));
    }
    let Some(lock) = room.lock_append(Duration::ZERO)? else { return Ok(None) };
    let mut facts = room.facts()?;
    let mut digest = None;
    if facts.verdict.is_none() {
        let length = room.check_name(cache.layout())?;
        if facts.length.or(facts.size) != Some(length) {
            // Since it was found complete. The hash may be that of the bytes which are gone.
            return Err(room.lost("another program changed its length"));
        }
        let found = verify(room, &facts, length)?;
        facts.length = Some(length);
        facts.verdict = Some(match found {
            Ok(strongest) => {
                digest = strongest;
                Verdict::Right
            }
            Err(Error::DigestMismatch { actual, algorithm, .. }) => {
                Verdict::Wrong(Algorithm::from_name(algorithm)?, actual)
            }
            Err(error) => return Err(error),
        });
        room.record.set(&facts)?;
        room.waiters.announce();
    }
    let verdict = facts.verdict.clone().unwrap_or(Verdict::Right);
    let outcome = as_result(room, &facts, verdict);
    if room.check_name(cache.layout()).is_ok() {
        end_file(cache, room, &facts, &outcome, digest);
    }
    drop(lock);
    room.waiters.announce();
    Ok(Some(outcome))
}

/// The verdict as the end of a stream.
pub(crate) fn as_result(room: &Room, facts: &Facts, verdict: Verdict) -> Result<()> {
    match verdict {
        Verdict::Right => Ok(()),
        Verdict::Wrong(algorithm, actual) => {
            let expected = facts.digests.iter().find(|(known, _)| *known == algorithm);
            Err(Error::DigestMismatch {
                image_id: room.id.to_string(),
                algorithm: algorithm.name(),
                expected: expected.map(|(_, hex)| hex.clone()).unwrap_or_default(),
                actual,
            })
        }
    }
}

/// Publishes the file or invalidates it, and removes the record. Where this fails, the bytes have been delivered all the same.
fn end_file(cache: &Arc<CacheInner>, room: &Room, facts: &Facts, outcome: &Result<()>, digest: Option<String>) {
    let length = facts.length.unwrap_or(0);
    // Who may read the image may do so from the moment on that it has its name.
    let opened = if outcome.is_ok() { file::set_mode(&room.file, || room.path(), STICKY | facts.mode) } else { Ok(()) };
    if let Err(error) = &opened
        && error.is_denied()
    {
        // Streams read the verified file as it is.
        cache
            .log()
            .warning(|| format!("{error}; image '{}' is published by a stream of the user who began it", room.id));
        return;
    }
    let ended = file::duplicated(&room.file, || room.path()).and_then(|file| {
        let image = IncompleteFile::of_stream(cache, room.id.clone(), file, room.file_id, length);
        match outcome {
            Ok(()) => {
                let strongest = || facts.digests.iter().max_by_key(|(algorithm, _)| *algorithm);
                let digest =
                    digest.or_else(|| strongest().map(|(algorithm, hex)| format!("{}:{hex}", algorithm.name())));
                match opened {
                    Ok(()) => publish(image, digest.as_deref()),
                    Err(error) => {
                        image.invalidate(&error.to_string());
                        Err(error)
                    }
                }
            }
            Err(error) => {
                image.invalidate(&error.to_string());
                Ok(())
            }
        }
    });
    let removed = cache.lock.acquire().and_then(|lock| {
        // Another fetch may have begun.
        let is_taken = cache.layout().has(Area::Incomplete, &room.id)?;
        if is_taken { Ok(()) } else { StreamRecord::remove(cache.layout(), &lock, &room.id) }
    });
    // A failed sync is final. It was too late for the cache lock only if nothing else has failed.
    if matches!(&ended, Err(error) if !matches!(error, Error::TimedOut { .. }))
        && room.check_name(cache.layout()).is_ok()
    {
        spoil(cache, room);
    }
    if let Err(error) = ended.and(removed) {
        cache.log().warning(|| format!("{error}; the bytes were delivered only"));
    }
}
