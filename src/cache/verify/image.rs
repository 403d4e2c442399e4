//! The verification of one image.
//!
//! 1. Open its file, and take its lock: one call verifies it at a time.
//! 2. Compare the length with that of the commit. Another one needs no reading.
//! 3. Read and hash the bytes, without a lock that others wait for. With the stored digest, the image is good, whatever else happens to it.
//! 4. With another digest, read it again. It is damaged if two readings in a row have the same wrong digest, and neither length nor mtime
//!    changed between the beginning of the first and the end of the second. So neither a read error of memory or bus, nor a program that
//!    just writes to the file, makes a good image invalid. After four readings without a verdict it is unreadable.
//! 5. A damaged image is moved to `invalid/` under the cache lock, if its name still is that of the file that was read, with the same
//!    length and mtime. Else it was deleted, evicted or cached again meanwhile, and nothing is moved.
//! 6. The time is stored on the file, and the digest if there was none.
//!
//! A kill leaves what was stored so far. An image that is deleted meanwhile is read to its end, from the file that is open.

use std::fs::File;
use std::ops::ControlFlow;

use crate::cache::inner::CacheInner;
use crate::cache::query::{image, open_served};
use crate::cache::remove::withdraw_damaged;
use crate::cache::resized;
use crate::cache::verify::call::Call;
use crate::cache::verify::pieces::{Bytes, Content, Pieces};
use crate::digest::algorithm::{Algorithm, parse};
use crate::digest::expectations::COMPUTED;
use crate::digest::state::HashState;
use crate::error::{Error, Result};
use crate::index::Driver;
use crate::store::committed;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::verified::LastVerified;
use crate::sys::file;
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;
use crate::sys::uncached::UncachedFile;

/// How often an image is read.
const READINGS: usize = 4;

/// How the verification of an image ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Verified,
    Failed,
    Unreadable,
    WithoutDigest,
    Skipped,
    /// The caller's function stopped it.
    Stopped,
}

/// Verifies an image. A failure is one to read it.
pub(super) fn verify_image(call: &mut Call<'_>, id: &ImageId) -> Result<Outcome> {
    let Some((file, stat)) = open_served(call.cache, id)? else { return Ok(Outcome::Skipped) };
    let inode = stat.id.inode;
    // Without a lock, two calls may verify it.
    let is_ours = call.locks.as_ref().is_none_or(|locks| locks.try_lock_image(inode).unwrap_or(true));
    if !is_ours {
        return Ok(Outcome::Skipped);
    }
    let outcome = verify_file(call, id, &file);
    if let Some(locks) = &call.locks {
        locks.unlock_image(inode);
    }
    outcome
}

fn verify_file(call: &mut Call<'_>, id: &ImageId, file: &File) -> Result<Outcome> {
    let began = Timestamp::now();
    let last = LastVerified::of(file);
    if last.as_ref().is_some_and(|last| call.is_done(last)) {
        return Ok(Outcome::Skipped);
    }
    let recorded = last.and_then(|last| last.digest);
    let stored = stored_digest(call.cache, id, file).or_else(|| recorded.clone());
    let expected = stored.as_deref().and_then(parse);
    let algorithm = expected.map_or(COMPUTED, |(algorithm, _)| algorithm);
    let mut former: Option<(FileStat, String)> = None;
    for _ in 0..READINGS {
        let before = FileStat::of(file, || call.cache.layout().path(Area::Cached, id))?;
        if let Some(size) = committed::if_other_in_any_case(file, &before) {
            return Ok(withdraw(call.cache, id, file, &before, &resized::why(size, before.size)));
        }
        let ControlFlow::Continue(actual) = hash(call, id, file, before.size, algorithm)? else {
            return Ok(Outcome::Stopped);
        };
        // The file has become shorter, or its end cannot be read: that says nothing of its bytes.
        let Some(actual) = actual else {
            former = None;
            continue;
        };
        let after = FileStat::of(file, || call.cache.layout().path(Area::Cached, id))?;
        let is_unchanged = is_same_content(&before, &after);
        match expected {
            Some((_, hex)) if hex == actual => {
                record(call, id, file, &LastVerified { at: began, digest: recorded });
                return Ok(Outcome::Verified);
            }
            None if is_unchanged => {
                let digest = Some(format!("{}:{actual}", algorithm.name()));
                record(call, id, file, &LastVerified { at: began, digest });
                return Ok(Outcome::WithoutDigest);
            }
            Some((_, hex)) if is_unchanged => {
                if former.as_ref().is_some_and(|(stat, wrong)| is_same_content(stat, &before) && *wrong == actual) {
                    let name = algorithm.name();
                    let why = format!("it has the {name} digest {actual}, and {hex} was stored");
                    return Ok(withdraw(call.cache, id, file, &after, &why));
                }
                call.cache.log().warning(|| format!("image '{id}' seems to be damaged; it is read again"));
                former = Some((before, actual));
            }
            _ => former = None,
        }
    }
    call.cache.log().warning(|| {
        format!("image '{id}' is not verified: its bytes change while they are read, or its end cannot be read")
    });
    Ok(Outcome::Unreadable)
}

/// Whether nobody wrote to the file in between, as far as its status shows it. Readers set the atime, and the ctime with it.
fn is_same_content(one: &FileStat, other: &FileStat) -> bool {
    (one.size, one.modified) == (other.size, other.modified)
}

/// The digest that was stored at the commit.
fn stored_digest(cache: &CacheInner, id: &ImageId, file: &File) -> Option<String> {
    committed::digest(file).ok().flatten().or_else(|| {
        // On a file system without attributes, the index has it, for a file with this length and mtime.
        if !matches!(cache.index().driver, Driver::Sqlite(_)) {
            return None;
        }
        let stat = FileStat::of(file, || cache.layout().path(Area::Cached, id)).ok()?;
        let image = image(cache, id).ok()?;
        let difference = stat.modified.distance(Timestamp::from_nanoseconds(image.last_modified));
        (image.size == stat.size && difference.as_micros() == 0).then_some(image.digest)?
    })
}

/// The digest of the file's first `size` bytes; `None` if there were less. Breaks when the caller's function stops it.
fn hash(
    call: &mut Call<'_>,
    id: &ImageId,
    file: &File,
    size: u64,
    algorithm: Algorithm,
) -> Result<ControlFlow<(), Option<String>>> {
    let path = || call.cache.layout().path(Area::Cached, id);
    let uncached = UncachedFile::new(file::duplicated(file, path)?);
    let piece = call.pace.piece(algorithm);
    let zeros = if algorithm.is_fast() { u64::MAX } else { piece as u64 };
    let mut pieces = Pieces::new(uncached, size, piece, zeros)?;
    let mut state = HashState::new(algorithm);
    let mut done = 0;
    if (call.progress)(id.as_str(), done, size).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    loop {
        let hashed = pieces.next(|bytes| match bytes {
            Bytes::Data(data) => state.update(data),
            Bytes::Zeros(length) => state.update_zeros(length),
        });
        let hashed = hashed.map_err(|failure| failure.into_error(&call.cache.layout().path(Area::Cached, id)))?;
        let (length, read) = match hashed {
            None => return Ok(ControlFlow::Continue((done == size).then(|| state.finish()))),
            Some(Content::Read(length)) => (length as u64, length),
            Some(Content::Zeros(length)) => (length, 0),
        };
        done += length;
        call.bytes_read += read as u64;
        let (progress, pace) = (&mut call.progress, &mut call.pace);
        let mut report = || progress(id.as_str(), done, size);
        if report().is_break() || pace.spend(read, report).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
}

/// Moves a damaged image to `invalid/`.
fn withdraw(cache: &CacheInner, id: &ImageId, file: &File, found: &FileStat, why: &str) -> Outcome {
    let moved = cache.lock.acquire().and_then(|lock| withdraw_damaged(cache, &lock, id, (file, found), why));
    match moved {
        Ok(true) => Outcome::Failed,
        Ok(false) => Outcome::Skipped,
        Err(error) => {
            cache.log().error(|| format!("image '{id}' is damaged, and stays: {why}: {error}"));
            Outcome::Failed
        }
    }
}

/// Stores the time on the file. A setting of attributes copies a file of a lower layer.
fn record(call: &Call<'_>, id: &ImageId, file: &File, verified: &LastVerified) {
    if call.cache.layout().may_set_metadata() {
        let path = || call.cache.layout().path(Area::Cached, id);
        let stored =
            verified.store(file).map_err(|error| Error::from_io("set an extended attribute of", &path(), &error));
        call.unrecorded.note(stored, call.cache.log(), |error| format!("{error}; that it was verified is not stored"));
    }
}
