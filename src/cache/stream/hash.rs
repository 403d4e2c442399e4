//! The hash of a shared file, by the process that may have to verify it: as the bytes come, or from the page cache.

use crate::cache::stream::room::{PIECE, Room, RunningHash};
use crate::digest::algorithm::Algorithm;
use crate::digest::expectations::Expectations;
use crate::error::Result;
use crate::store::stream_facts::Facts;
use crate::sys::memory;

/// How many bytes that others appended are hashed with each piece of our own.
const CATCH_UP: u64 = 4 << 20;

type Digest = (Algorithm, String);

/// Compares the digests of the whole file with the facts. Returns the one to be stored. The outer result fails when the file cannot be
/// read.
pub(super) fn verify(room: &Room, facts: &Facts, length: u64) -> Result<Result<Option<String>>> {
    let mut work = room.work();
    let hash = running(&mut work.hash, &facts.digests)?;
    hash_until(room, hash, length)?;
    let outcome = hash.expectations.conclude(room.id.as_str());
    work.hash = None;
    Ok(outcome)
}

/// Hashes bytes that were appended at `offset`, or a part of what others have appended before. `expected`: how many digests.
pub(super) fn hash(room: &Room, slot: &mut Option<RunningHash>, expected: u64, offset: u64, data: &[u8]) -> Result<()> {
    if expected == 0 {
        return Ok(());
    }
    let hash = match slot {
        Some(hash) if hash.expectations.digests().len() as u64 == expected => hash,
        _ => running(slot, &room.facts()?.digests)?,
    };
    if hash.hashed == offset {
        return add(room, hash, data);
    }
    hash_until(room, hash, (hash.hashed + CATCH_UP).min(offset + data.len() as u64))
}

/// The hash of these digests, which begins at 0 when others were added.
fn running<'a>(slot: &'a mut Option<RunningHash>, digests: &[Digest]) -> Result<&'a mut RunningHash> {
    let hash = match slot.take() {
        Some(hash) if hash.expectations.digests() == digests => hash,
        _ => RunningHash { expectations: Expectations::of(None, digests)?, hashed: 0 },
    };
    Ok(slot.insert(hash))
}

fn add(room: &Room, hash: &mut RunningHash, data: &[u8]) -> Result<()> {
    hash.expectations.count(room.id.as_str(), data.len())?;
    hash.expectations.hash(data);
    hash.hashed += data.len() as u64;
    Ok(())
}

/// Reads bytes again, and hashes them.
fn hash_until(room: &Room, hash: &mut RunningHash, end: u64) -> Result<()> {
    if hash.hashed >= end || hash.expectations.digests().is_empty() {
        return Ok(());
    }
    let mut buffer = memory::buffer(PIECE, "verify the image")?;
    while hash.hashed < end {
        let most = usize::try_from(end - hash.hashed).unwrap_or(PIECE).min(PIECE);
        match room.read_at(hash.hashed, &mut buffer[..most])? {
            0 => return Err(room.lost("it became shorter")),
            length => add(room, hash, &buffer[..length])?,
        }
    }
    Ok(())
}
