//! A verification of one image, or a pass over all of them.
//!
//! A pass takes the images that were verified longest ago first; the time is kept on each file. So one that is stopped, or killed, goes on
//! where it was. Calls of several processes at the same time take part in one pass: each image is verified by one of them, under its lock,
//! and what was verified since the pass began is done (see `store::verify_lock`).
//!
//! No lock that others wait for is held while bytes are read or hashed, or while the caller's function runs. A process that is stopped
//! keeps the lock of its image, which the others leave to it.

use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::query::{not_found, open_served};
use crate::cache::verify::call::{Call, Progress};
use crate::cache::verify::image::{Outcome, verify_image};
use crate::cache::verify::pace::Pace;
use crate::error::{Error, Result};
use crate::log::LogOnce;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::verified::LastVerified;
use crate::store::verify_lock::VerifyLocks;
use crate::sys::memory;
use crate::sys::time::Timestamp;

/// How images are verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// At most so many bytes are read a second; 0: without a limit.
    pub bytes_per_second: u64,
    /// Images that were verified within this time are skipped.
    pub skip_verified_within: Duration,
}

/// The result of a verification: numbers of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// They have their digests.
    pub verified: u64,
    /// They are damaged, and were moved to `invalid/`. One that this process has no permission to move stays, which is logged.
    pub failed: u64,
    /// They could not be read, or another program wrote to them at the same time. They stay, which is logged.
    pub unreadable: u64,
    /// No digest was stored at their commits. The present one was computed and stored for the next verification.
    pub without_digest: u64,
    /// They were verified since the pass began or within the time of the options, are being verified by another call, or vanished.
    pub skipped: u64,
    /// How many bytes were read. Holes are not.
    pub bytes_read: u64,
    /// Whether the caller stopped it.
    pub stopped: bool,
}

/// Verifies one image, or all of them.
pub(crate) fn verify(
    cache: &CacheInner,
    id: Option<&ImageId>,
    options: &VerifyOptions,
    progress: &mut Progress<'_>,
) -> Result<Verified> {
    let locks = VerifyLocks::open(cache.layout()).unwrap_or_else(|error| {
        if !error.is_not_permitted() {
            cache.log().warning(|| format!("{error}; images may be verified by several calls at the same time"));
        }
        None
    });
    let now = Timestamp::now();
    let recently = match options.skip_verified_within {
        Duration::ZERO => now,
        within => now.before(within),
    };
    let mut call = Call {
        cache,
        progress: &mut |id, done, total| progress(id, done, total),
        pace: Pace::new(options.bytes_per_second),
        bytes_read: 0,
        locks,
        since: recently,
        unrecorded: LogOnce::default(),
    };
    let mut result = Verified::default();
    if let Some(id) = id {
        if !cache.layout().has(Area::Cached, id)? {
            return Err(not_found(cache, id));
        }
        call.count(id, &mut result)?;
    } else {
        call.join();
        for (_, id) in call.images(&mut result)? {
            call.count(&id, &mut result)?;
            if result.stopped {
                break;
            }
        }
    }
    result.bytes_read = call.bytes_read;
    Ok(result)
}

impl Call<'_> {
    /// Takes part in the pass of other calls, or begins one. Without the locks for it, this call verifies all images.
    fn join(&mut self) {
        let Some(locks) = &self.locks else { return };
        match self.cache.lock.acquire().and_then(|lock| locks.join(&lock)) {
            Ok(began) => self.since = self.since.min(began),
            Err(error) => {
                self.cache.log().warning(|| format!("{error}; this call verifies all images"));
            }
        }
    }

    /// All images that are to be verified, those that were verified longest ago first.
    fn images(&self, result: &mut Verified) -> Result<Vec<(Option<Timestamp>, ImageId)>> {
        let mut images = Vec::new();
        for id in self.cache.layout().ids(Area::Cached)? {
            let id = id?;
            // One that cannot be opened is counted when its turn comes.
            let Ok(opened) = open_served(self.cache, &id) else {
                memory::push(&mut images, (None, id), "list the images")?;
                continue;
            };
            let Some((file, _)) = opened else { continue };
            match LastVerified::of(&file) {
                Some(last) if self.is_done(&last) => result.skipped += 1,
                last => memory::push(&mut images, (last.map(|last| last.at), id), "list the images")?,
            }
        }
        // Some file systems list a name twice if it is removed and added meanwhile.
        images.sort_unstable_by(|(at, id), (other_at, other)| (at, id.as_str()).cmp(&(other_at, other.as_str())));
        images.dedup_by(|(_, id), (_, other)| id.as_str() == other.as_str());
        Ok(images)
    }

    /// Verifies an image, and counts it.
    fn count(&mut self, id: &ImageId, result: &mut Verified) -> Result<()> {
        let outcome = match verify_image(self, id) {
            Err(error) if error.is_lack_of_resources() || matches!(error, Error::NoMemory { .. }) => return Err(error),
            Err(error) => {
                self.cache.log().warning(|| format!("image '{id}' is not verified: {error}"));
                Outcome::Unreadable
            }
            Ok(outcome) => outcome,
        };
        if matches!(outcome, Outcome::Verified | Outcome::Failed) {
            self.cache.counters().add_verified(matches!(outcome, Outcome::Verified));
        }
        match outcome {
            Outcome::Verified => result.verified += 1,
            Outcome::Failed => result.failed += 1,
            Outcome::Unreadable => result.unreadable += 1,
            Outcome::WithoutDigest => result.without_digest += 1,
            Outcome::Skipped => result.skipped += 1,
            Outcome::Stopped => result.stopped = true,
        }
        Ok(())
    }
}
