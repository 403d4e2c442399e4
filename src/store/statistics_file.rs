//! The statistics of a cache, over all processes and restarts: counters in `.image_cache/statistics`.
//!
//! The file has 512 bytes: a magic word, its version, the counters, and a checksum of them. It is read, added to and rewritten under
//! the cache lock, with one write of 512 bytes in place, so that several processes add up exactly. It is not synced.
//!
//! - A process that dies before the write has added nothing; after it, everything.
//! - A file without a byte is new. A damaged one (another program, a power cut) counts from 0 again, which is logged.
//! - A file of a newer version is left alone: nothing is counted, and only reading the statistics fails.
//! - Without the cache lock, as in a read-only directory, a half-written file may be read: it is read again.

use std::ffi::OsStr;
use std::fs::File;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::store::checksum::checksum;
use crate::store::layout::{Area, Layout};
use crate::store::lock::CacheLockGuard;
use crate::store::recognise::OWN_SUBDIRECTORY;
use crate::sys::dir::Directory;
use crate::sys::file;
use crate::sys::signals::without_size_signal;

const NAME: &str = "statistics";

const LENGTH: usize = 512;
const MAGIC: &[u8; 8] = b"ic stats";
const VERSION: u64 = 1;
const VERSION_AT: usize = 8;
const COUNTERS_AT: usize = 16;
const CHECKSUM_AT: usize = LENGTH - 8;

/// How many counters a file of this version has room for.
pub(crate) const MAX_COUNTERS: usize = (CHECKSUM_AT - COUNTERS_AT) / 8;

/// How often a file that is being written is read.
const ATTEMPTS: usize = 3;

/// The counters of a file; those of later versions of this library are kept.
pub(crate) type Stored = [u64; MAX_COUNTERS];

/// Why a file has no counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unusable {
    Newer,
    Damaged,
}

/// What a file has.
type Content = std::result::Result<Stored, Unusable>;

/// Reads the counters. Fails for a file of a newer version.
pub(crate) fn read(layout: &Layout, log: &Log) -> Result<Stored> {
    let Some(own) = layout.directory(Area::Cached).open_subdirectory(OWN_SUBDIRECTORY)? else { return Ok(none()) };
    let Some(file) = own.open_file(OsStr::new(NAME))? else { return Ok(none()) };
    for _ in 1..ATTEMPTS {
        match content(&file, &own)? {
            Err(Unusable::Damaged) => {}
            content => return content.or_else(|why| unusable(why, &own, log)),
        }
    }
    content(&file, &own)?.or_else(|why| unusable(why, &own, log))
}

/// Adds to the counters.
pub(crate) fn add(layout: &Layout, lock: &CacheLockGuard<'_>, log: &Log, counts: &[u64]) -> Result<()> {
    lock.check_held()?;
    let (own, _) = layout.directory(Area::Cached).open_or_create(OWN_SUBDIRECTORY)?;
    let name = OsStr::new(NAME);
    let file = match own.open_to_write(name)? {
        Some(file) => Some(file),
        // The new descriptor could append only.
        None => own.create(name)?.map_or(Ok(None), |_| own.open_to_write(name))?,
    };
    let file = file.ok_or_else(|| Error::exists("create", &own.path_of(name)))?;
    let mut stored = content(&file, &own)?.or_else(|why| unusable(why, &own, log))?;
    for (stored, count) in stored.iter_mut().zip(counts) {
        *stored = stored.saturating_add(*count);
    }
    without_size_signal(|| file::write_at(&file, || own.path_of(name), 0, &to_bytes(&stored)))
}

fn none() -> Stored {
    [0; MAX_COUNTERS]
}

fn content(file: &File, own: &Directory) -> Result<Content> {
    let mut bytes = [0; LENGTH];
    let length = file::read_at(file, || own.path_of(OsStr::new(NAME)), 0, &mut bytes)?;
    Ok(from_bytes(&bytes[..length]))
}

/// The counters in place of those of a damaged file. Fails for a newer one.
fn unusable(why: Unusable, own: &Directory, log: &Log) -> Result<Stored> {
    let path = own.path_of(OsStr::new(NAME));
    match why {
        Unusable::Damaged => {
            log.warning(|| format!("the statistics are damaged, and are counted from 0 again: '{}'", path.display()));
            Ok(none())
        }
        Unusable::Newer => Err(Error::Unsupported(format!(
            "a newer version of this library has made the statistics; update, or remove them: '{}'",
            path.display()
        ))),
    }
}

fn to_bytes(counters: &Stored) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..VERSION_AT].copy_from_slice(MAGIC);
    bytes[VERSION_AT..COUNTERS_AT].copy_from_slice(&VERSION.to_le_bytes());
    for (place, counter) in bytes[COUNTERS_AT..CHECKSUM_AT].as_chunks_mut().0.iter_mut().zip(counters) {
        *place = counter.to_le_bytes();
    }
    let checksum = checksum(&bytes[..CHECKSUM_AT]);
    bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Content {
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    if bytes.is_empty() {
        return Ok(none());
    }
    if bytes.starts_with(MAGIC) && bytes.len() >= COUNTERS_AT && number(VERSION_AT) > VERSION {
        return Err(Unusable::Newer);
    }
    let is_intact = bytes.len() == LENGTH && bytes.starts_with(MAGIC) && number(VERSION_AT) == VERSION;
    if !is_intact || checksum(&bytes[..CHECKSUM_AT]) != number(CHECKSUM_AT) {
        return Err(Unusable::Damaged);
    }
    let mut counters = none();
    for (counter, place) in counters.iter_mut().zip(bytes[COUNTERS_AT..CHECKSUM_AT].as_chunks().0) {
        *counter = u64::from_le_bytes(*place);
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_they_were_written_and_damage_is_noticed() {
        let mut counters = none();
        for (number, counter) in (1..).zip(&mut counters) {
            *counter = u64::MAX / number;
        }
        let bytes = to_bytes(&counters);
        assert_eq!(from_bytes(&bytes), Ok(counters));
        for at in [0, 7, VERSION_AT + 7, COUNTERS_AT, CHECKSUM_AT - 1, CHECKSUM_AT, LENGTH - 1] {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            let expected = Err(if at == VERSION_AT + 7 { Unusable::Newer } else { Unusable::Damaged });
            assert_eq!(from_bytes(&damaged), expected, "{at}");
        }
        for length in [1, COUNTERS_AT, LENGTH - 1] {
            assert_eq!(from_bytes(&bytes[..length]), Err(Unusable::Damaged), "{length}");
        }
        assert_eq!(from_bytes(&[]), Ok(none()));
        assert_eq!(from_bytes(&[0; LENGTH]), Err(Unusable::Damaged));
    }

    #[test]
    fn a_newer_file_of_any_length_is_left_alone() {
        let mut bytes = to_bytes(&none());
        bytes[VERSION_AT] = 2;
        assert_eq!(from_bytes(&bytes), Err(Unusable::Newer));
        assert_eq!(from_bytes(&bytes[..100]), Err(Unusable::Newer));
    }
}
