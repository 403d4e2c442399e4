//! Pinning images: a pinned image is neither evicted nor deleted.
//!
//! # Protocol
//!
//! 1. Under the pins lock, and without the cache lock: add up the sizes of all pinned images. No other pin is made meanwhile, so
//!    that two cannot use the same share of the limit.
//! 2. Under the cache lock: the image is still cached. Write its record (see `store::pins`). From here on it is not removed.
//! 3. Durability full: sync the record. A pin for the process's life is not synced: it does not outlive the host.
//!
//! A process that dies before 2 has pinned nothing. One that is stopped in 1 delays other pins, up to 10 s, and nothing else. If 3
//! fails, the pin holds all the same until the host restarts; the call returns the failure.
//!
//! A pin names the id. An image that other programs remove, and that is cached again, is still pinned, unless a clean came first.

use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::query::{image_size, is_cached, not_found};
use crate::error::{Error, Result};
use crate::options::Durability;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::pin_record::{MAX_HOLDER, PinTime};
use crate::store::pins::Pins;

/// Pins an image for some time; `None`: as long as this process lives.
pub(crate) fn pin(cache: &CacheInner, id: &ImageId, holder: &[u8], time: Option<Duration>) -> Result<()> {
    check_holder(holder)?;
    let size = image_size(cache, id)?;
    let _pins_lock = cache.lock.acquire_pins()?;
    let pins = Pins::create(cache.layout(), cache.log())?;
    check_limit(cache, &pins, id, size)?;
    let file = {
        let lock = cache.lock.acquire()?;
        if !is_cached(cache, id)? {
            drop(lock);
            return Err(not_found(cache, id));
        }
        let time = match time {
            Some(time) => PinTime::Seconds(time.as_secs()),
            None => pins.process_life(&lock)?,
        };
        pins.add(&lock, id, holder, time)?
    };
    if time.is_some() && cache.durability == Durability::Full {
        pins.sync(&file, id)?;
    }
    Ok(())
}

/// Removes the pin of a holder, if there is one.
pub(crate) fn unpin(cache: &CacheInner, id: &ImageId, holder: &[u8]) -> Result<()> {
    check_holder(holder)?;
    match Pins::open(cache.layout(), cache.log())? {
        Some(pins) if pins.has_file(id)? => pins.remove(&cache.lock.acquire()?, id, holder),
        _ => Ok(()),
    }
}

fn check_holder(holder: &[u8]) -> Result<()> {
    let why = if holder.is_empty() {
        "it is empty"
    } else if holder.len() > MAX_HOLDER {
        "it is longer than 255 bytes"
    } else if holder.contains(&0) {
        "it has a NUL"
    } else {
        return Ok(());
    };
    Err(Error::InvalidArgument(format!("cannot name the holder of a pin: {why}")))
}

/// Fails when the image is not pinned yet, and would exceed the part of the limit that can be pinned.
fn check_limit(cache: &CacheInner, pins: &Pins<'_>, id: &ImageId, bytes: u64) -> Result<()> {
    let limit = max_pinned(cache)?;
    let mut pinned = 0_u64;
    for other in pins.ids()? {
        if pins.of_or_unknown(&other).is_empty() {
            continue;
        }
        if other == *id {
            return Ok(());
        }
        let stat = cache.layout().stat(Area::Cached, &other)?.image();
        pinned = pinned.saturating_add(stat.map_or(0, |stat| stat.size));
    }
    if pinned.saturating_add(bytes) <= limit {
        return Ok(());
    }
    Err(Error::PinnedFull { image_id: id.to_string(), bytes, pinned, limit })
}

/// What the pinned images take up on the disk, in bytes.
pub(crate) fn allocated(cache: &CacheInner) -> Result<u64> {
    let Some(pins) = Pins::open(cache.layout(), cache.log())? else { return Ok(0) };
    let mut allocated = 0_u64;
    for id in pins.ids()? {
        if !pins.of_or_unknown(&id).is_empty() {
            let stat = cache.layout().stat(Area::Cached, &id)?.image();
            allocated = allocated.saturating_add(stat.map_or(0, |stat| stat.allocated));
        }
    }
    Ok(allocated)
}

/// How many bytes can be pinned.
fn max_pinned(cache: &CacheInner) -> Result<u64> {
    let part = u128::from(cache.limit()?) * u128::from(cache.max_pinned) / 100;
    Ok(u64::try_from(part).unwrap_or(u64::MAX))
}
