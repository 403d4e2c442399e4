//! The hash of a shared file. One process hashes the bytes as they are appended, and stores its state in the record from time to time;
//! the others go on with that, so that each byte is hashed once.
//!
//! Who appends a piece hashes it if the hash is its own, or ends there. What others have appended meanwhile is read from the page cache.
//! A hash that is far behind is taken over: its process has died, or appends no more. Who verifies hashes the rest. It is short, except
//! after a restart of the host, when the file is hashed as it is on the disk.

use crate::cache::stream::room::{PIECE, Room, RunningHash};
use crate::digest::algorithm::Algorithm;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::store::stream_facts::Facts;
use crate::sys::memory;

/// How many bytes that others appended are hashed with each piece of our own.
const CATCH_UP: u64 = 4 << 20;

/// The hash is stored after so many bytes.
const STORED: u64 = 4 << 20;

/// A stored hash that is so many bytes behind is taken over. That of a live process is less behind: it hashes some batches at a time.
const BEHIND: u64 = 4 * STORED;

type Digest = (Algorithm, String);

/// Compares the digests of the whole file with the facts. Returns the one to be stored, also if none is expected. The outer result fails when the file cannot be
/// read.
pub(super) fn verify(room: &Room, facts: &Facts, length: u64) -> Result<Result<Option<String>>> {
    let mut work = room.work();
    let stored = room.record.hashed()?;
    let own = work.hash.take().filter(|hash| hash.hashed >= stored && hash.expectations.digests() == facts.digests);
    let mut hash = match own {
        Some(hash) => hash,
        None => taken_over(room, &facts.digests)?,
    };
    hash_until(room, &mut hash, length)?;
    let outcome = hash.expectations.conclude(room.id.as_str());
    if hash.is_own || !matches!(outcome, Err(Error::DigestMismatch { .. })) {
        return Ok(outcome);
    }
    // Not on the word of another process.
    let mut hash = begun(&facts.digests)?;
    hash_until(room, &mut hash, length)?;
    Ok(hash.expectations.conclude(room.id.as_str()))
}

/// Hashes bytes that were appended at `offset`, if this process is the one that does. `expected`: how many digests.
pub(super) fn hash(room: &Room, slot: &mut Option<RunningHash>, expected: u64, offset: u64, data: &[u8]) -> Result<()> {
    let end = offset + data.len() as u64;
    let stored = room.record.hashed()?;
    let hashed = stored.max(slot.as_ref().map_or(0, |hash| hash.hashed));
    if hashed > end && hashed > room.look()?.length {
        // Another program has shortened the file: the hash is that of bytes which are gone.
        return Err(room.lost("another program changed its length"));
    }
    let is_ours = |hash: &RunningHash| hash.hashed >= stored && hash.expectations.digests().len() as u64 == expected;
    let hash = match slot.take().filter(is_ours) {
        Some(hash) => slot.insert(hash),
        None if stored == offset || end.saturating_sub(stored) > BEHIND => {
            slot.insert(taken_over(room, &room.facts()?.digests)?)
        }
        None => return Ok(()),
    };
    if hash.hashed == offset {
        return add(room, hash, data);
    }
    hash_until(room, hash, (hash.hashed + CATCH_UP).min(end))
}

/// The hash in the record, or a new one if that is of other digests.
fn taken_over(room: &Room, digests: &[Digest]) -> Result<RunningHash> {
    let stored = room.record.hash()?;
    let resumed = stored.and_then(|stored| Some((stored.hashed, Expectations::resume(digests, &stored)?)));
    match resumed {
        Some((hashed, expectations)) => Ok(RunningHash { expectations, hashed, stored: hashed, is_own: hashed == 0 }),
        None => begun(digests),
    }
}

fn begun(digests: &[Digest]) -> Result<RunningHash> {
    Ok(RunningHash { expectations: Expectations::of_publication(digests)?, hashed: 0, stored: 0, is_own: true })
}

fn add(room: &Room, hash: &mut RunningHash, data: &[u8]) -> Result<()> {
    hash.expectations.count(room.id.as_str(), data.len() as u64)?;
    hash.expectations.hash(data);
    hash.hashed += data.len() as u64;
    let behind = hash.hashed - hash.stored;
    // Several algorithms are seldom at the same byte by themselves.
    let save = if behind < 2 * STORED { Expectations::save } else { Expectations::save_all };
    if behind >= STORED
        && let Some(saved) = save(&hash.expectations)
        && saved.hashed > hash.stored
    {
        room.record.set_hash(&saved)?;
        hash.stored = saved.hashed;
    }
    Ok(())
}

/// Reads bytes again, and hashes them.
fn hash_until(room: &Room, hash: &mut RunningHash, end: u64) -> Result<()> {
    if hash.hashed >= end {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::inner::CacheInner;
    use crate::cache::lifecycle;
    use crate::cache::stream::fetch::append;
    use crate::cache::stream::join::{Joined, join};
    use crate::digest::state::HashState;
    use crate::options::Options;

    fn room_with(scratch: &std::path::Path, content: &[u8]) -> (Arc<CacheInner>, Arc<Room>, Facts) {
        let cache = Arc::new(lifecycle::open(&scratch.join("cache"), Options::default()).unwrap());
        let id = cache.layout().image_id("1").unwrap();
        let Joined::Room(room) = join(&cache, &id, &Expectations::default(), None).unwrap() else { panic!() };
        append(&cache, &room, 0, content, Duration::from_secs(1)).unwrap();
        let mut facts = room.facts().unwrap();
        facts.digests =
            [Algorithm::Md5, Algorithm::Sha256].map(|algorithm| (algorithm, digest(algorithm, content))).into();
        room.record.set(&facts).unwrap();
        (cache, room, facts)
    }

    fn digest(algorithm: Algorithm, content: &[u8]) -> String {
        let mut state = HashState::new(algorithm);
        state.update(content);
        state.finish()
    }

    /// A record's hash after those bytes.
    fn saved(digests: &[Digest], hashed: &[u8]) -> crate::digest::hasher::SavedHash {
        let mut expectations = Expectations::of_publication(digests).unwrap();
        expectations.hash(hashed);
        expectations.save().unwrap()
    }

    #[test]
    fn a_wrong_hash_of_another_process_condemns_no_image() {
        let scratch = tempfile::tempdir().unwrap();
        let (_cache, room, facts) = room_with(scratch.path(), b"content");
        room.record.set_hash(&saved(&facts.digests, b"other")).unwrap();
        let strongest = verify(&room, &facts, 7).unwrap().unwrap();
        assert_eq!(strongest, Some(format!("sha256:{}", digest(Algorithm::Sha256, b"content"))));
    }

    #[test]
    fn without_expectations_a_crc_is_gone_on_with() {
        let scratch = tempfile::tempdir().unwrap();
        let (_cache, room, mut facts) = room_with(scratch.path(), b"content");
        facts.digests.clear();
        room.record.set(&facts).unwrap();
        room.record.set_hash(&saved(&[], b"con")).unwrap();
        assert_eq!(taken_over(&room, &[]).unwrap().hashed, 3);
        let stored = verify(&room, &facts, 7).unwrap().unwrap();
        assert_eq!(stored, Some(format!("crc64nvme:{}", digest(Algorithm::Crc64Nvme, b"content"))));
    }

    #[test]
    fn a_hash_of_other_digests_is_not_gone_on_with() {
        let scratch = tempfile::tempdir().unwrap();
        let (_cache, room, mut facts) = room_with(scratch.path(), b"content");
        room.record.set_hash(&saved(&facts.digests, b"con")).unwrap();
        assert_eq!(taken_over(&room, &facts.digests).unwrap().hashed, 3);
        facts.digests.pop();
        assert_eq!(taken_over(&room, &facts.digests).unwrap().hashed, 0);
        assert!(verify(&room, &facts, 7).unwrap().is_ok());
    }
}
