//! The end of a shared fetch: the complete file is verified, inspected and published.
//!
//! The file is complete when it has the expected size, or when a source has returned 0 at its length. Who finds it complete takes the append
//! lock, and
//!
//! 1. verifies the bytes of the file, where no verdict is in the record. Bytes that were hashed as they came are not read again. The others
//!    see that the hash advances, and wait for as long as that takes;
//! 2. stores the verdict;
//! 3. if its handle has an inspection: releases the append lock, inspects the file, and takes the lock again. It has the turn meanwhile, so
//!    that one participant inspects at a time. No source is called any more;
//! 4. publishes the file as a writer does, or moves it to `invalid/`; and removes the record.
//!
//! The others wait for the append lock, and for the turn if they have an inspection, and then end with the verdict: at the end of each of
//! them, the image is published. One that waits in vain for the source time-out ends with the verdict, too. After a death in between, the
//! next one goes on: with step 1 without a verdict, else with step 3. A refusal is not stored: it is this handle's, and the file is gone.
//!
//! The inspection that counts is that of the participant who publishes. So none publishes what it would refuse. One without an inspection
//! may publish what another one would refuse.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::incomplete::IncompleteFile;
use crate::cache::inner::CacheInner;
use crate::cache::inspection::{Inspected, inspect};
use crate::cache::publish::publish;
use crate::cache::stream::hash::verify;
use crate::cache::stream::lost::spoil;
use crate::cache::stream::room::Room;
use crate::digest::algorithm::Algorithm;
use crate::error::{Error, Result};
use crate::store::layout::Area;
use crate::store::stream_facts::{Facts, Verdict};
use crate::store::stream_record::StreamRecord;
use crate::sys::file;
use crate::sys::stat::STICKY;

/// How long the append lock is waited for after an inspection. Its holder publishes, or adds what it expects.
const AFTER_INSPECTION: Duration = Duration::from_secs(1);

/// Ends the fetch of a complete file. Returns the verdict: `Ok` if the bytes are right; `None` while another participant does it. The
/// outer result fails when there will be no verdict.
pub(crate) fn conclude(cache: &Arc<CacheInner>, room: &Room) -> Result<Option<Result<()>>> {
    let progress = room.progress()?;
    if progress.has_verdict && room.check_name(cache.layout()).is_err() {
        // The file was published, or is invalid.
        let facts = room.facts()?;
        return Ok(facts.verdict.clone().map(|verdict| as_result(room, &facts, verdict)));
    }
    let has_inspection = cache.inspection.is_set();
    let turn = if has_inspection { room.try_turn(progress.turn)? } else { None };
    if has_inspection && turn.is_none() {
        return Ok(None);
    }
    let Some(mut lock) = room.lock_append(Duration::ZERO)? else { return Ok(None) };
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
    if facts.verdict == Some(Verdict::Right) && facts.digests.is_empty() && digest.is_none() {
        // The author of the verdict died before the end, and took the computed digest with it.
        digest = facts.length.map_or(Ok(None), |length| verify(room, &facts, length)?)?;
    }
    let verdict = facts.verdict.clone().unwrap_or(Verdict::Right);
    let outcome = as_result(room, &facts, verdict);
    let inspected = || inspect(cache, &room.id, &room.file, facts.length.unwrap_or(0));
    // It was published or moved while the turn was waited for: there is nothing to inspect.
    let is_named = || room.check_name(cache.layout()).is_ok();
    let passed = if has_inspection && outcome.is_ok() && is_named() {
        drop(lock);
        let passed = inspected();
        let Some(again) = room.lock_append(AFTER_INSPECTION)? else { return Ok(None) };
        lock = again;
        // A stream that joined meanwhile expects more.
        if room.facts()? != facts {
            return Ok(None);
        }
        passed
    } else {
        outcome.clone().and_then(|()| if is_named() { inspected() } else { Err(room.lost("it was published")) })
    };
    if is_named() {
        end_file(cache, room, &facts, passed, digest);
    }
    drop(lock);
    drop(turn);
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
fn end_file(cache: &Arc<CacheInner>, room: &Room, facts: &Facts, passed: Result<Inspected>, digest: Option<String>) {
    let length = facts.length.unwrap_or(0);
    // Who may read the image may do so from the moment on that it has its name.
    let opened = if passed.is_ok() { file::set_mode(&room.file, || room.path(), STICKY | facts.mode) } else { Ok(()) };
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
        match passed {
            Ok(inspected) => {
                let strongest = || facts.digests.iter().max_by_key(|(algorithm, _)| *algorithm);
                let digest =
                    digest.or_else(|| strongest().map(|(algorithm, hex)| format!("{}:{hex}", algorithm.name())));
                match opened {
                    Ok(()) => publish(image, digest.as_deref(), &inspected),
                    Err(error) => {
                        image.invalidate_for(&error);
                        Err(error)
                    }
                }
            }
            Err(error) => {
                image.invalidate_for(&error);
                // The verdict says so: others invalidate it where this has failed.
                if matches!(error, Error::DigestMismatch { .. }) { Ok(()) } else { Err(error) }
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
