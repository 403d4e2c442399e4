//! The numbers of a cache at one moment.

use std::time::{SystemTime, UNIX_EPOCH};

use image_cache::{Holder, ImageCache};
use serde::{Serialize, Serializer};

use crate::cli::Driver;
use crate::counters::Counters;
use crate::exit::Failure;
use crate::units::rfc3339;

/// The numbers of a cache. Counters are those of all processes, since the cache was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Seconds since 1970; in JSON, as text of RFC 3339.
    #[serde(serialize_with = "as_text")]
    pub time: u64,
    pub directory: String,
    pub driver: Driver,
    pub images: u64,
    /// Their lengths.
    pub bytes: u64,
    /// What they take up on the disk.
    pub allocated: u64,
    pub pinned_images: u64,
    pub pinned_allocated: u64,
    pub incomplete_images: u64,
    pub incomplete_allocated: u64,
    pub reserved: u64,
    /// Those of the incomplete images whose writer is dead.
    pub dead_writers: u64,
    pub invalid_images: u64,
    pub invalid_allocated: u64,
    pub deleted_allocated: u64,
    pub queued_images: u64,
    /// `None`: there is none.
    pub limit: Option<u64>,
    pub is_hard: bool,
    pub min_free: u64,
    pub free: u64,
    /// `None`: the file system has no fixed number of inodes.
    pub free_inodes: Option<u64>,
    /// For how long the image that is evicted next was not accessed, in seconds.
    pub next_victim_idle: u64,
    #[serde(flatten)]
    pub counters: Counters,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn as_text<S: Serializer>(seconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let nanoseconds = i64::try_from(*seconds).unwrap_or(0).saturating_mul(1_000_000_000);
    serializer.serialize_str(&rfc3339(nanoseconds))
}

impl Snapshot {
    /// Reads the numbers. Each image's status is read.
    pub fn of(cache: &ImageCache, directory: String) -> Result<Self, Failure> {
        let (usage, counted) = (cache.usage()?, cache.statistics()?);
        let (incomplete, invalid) = (cache.list_incomplete()?, cache.list_invalid()?);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
        let now = now.unwrap_or(i64::MAX);
        // The list names pinned images; most caches have none, and need no list.
        let pinned_images = match usage.pinned {
            0 => 0,
            _ => cache.list_cached()?.filter(|image| image.pinned_until > now).count() as u64,
        };
        Ok(Self {
            time: u64::try_from(now / 1_000_000_000).unwrap_or(0),
            directory,
            driver: cache.driver().into(),
            images: counted.images,
            bytes: counted.bytes,
            allocated: counted.allocated,
            pinned_images,
            pinned_allocated: usage.pinned,
            incomplete_images: incomplete.len() as u64,
            incomplete_allocated: usage.incomplete,
            reserved: usage.reserved,
            dead_writers: incomplete.iter().filter(|image| image.holder == Holder::DeadWriter).count() as u64,
            invalid_images: invalid.len() as u64,
            invalid_allocated: usage.invalid,
            deleted_allocated: usage.deleted,
            queued_images: cache.list_queued()?.len() as u64,
            limit: (usage.limit != u64::MAX).then_some(usage.limit),
            is_hard: usage.is_hard,
            min_free: usage.min_free,
            free: usage.free,
            free_inodes: (usage.free_inodes > 0).then_some(usage.free_inodes),
            next_victim_idle: counted.next_victim_idle,
            counters: Counters::from(&counted),
        })
    }

    /// What counts for the limit: blocks for a hard one, and the images' lengths for a soft one.
    pub fn used(&self) -> u64 {
        if !self.is_hard {
            return self.bytes;
        }
        let parts = [self.allocated, self.incomplete_allocated, self.invalid_allocated, self.deleted_allocated];
        parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::counters::Failures;

    /// Numbers that all differ.
    pub fn snapshot() -> Snapshot {
        Snapshot {
            time: 1_790_000_000,
            directory: "/var/lib/images".to_owned(),
            driver: Driver::Sqlite,
            images: 101,
            bytes: 102,
            allocated: 103,
            pinned_images: 104,
            pinned_allocated: 105,
            incomplete_images: 106,
            incomplete_allocated: 107,
            reserved: 108,
            dead_writers: 109,
            invalid_images: 110,
            invalid_allocated: 111,
            deleted_allocated: 112,
            queued_images: 113,
            limit: Some(114),
            is_hard: true,
            min_free: 115,
            free: 116,
            free_inodes: Some(117),
            next_victim_idle: 118,
            counters: Counters {
                hits: 119,
                misses: 120,
                commits: 121,
                failures: Failures {
                    aborted: 122,
                    closed_early: 123,
                    wrong_digest: 124,
                    wrong_size: 125,
                    no_space: 126,
                    lost: 127,
                    source_failed: 128,
                    other: 129,
                },
                evictions: 130,
                evicted_bytes: 131,
                bytes_served: 132,
                bytes_not_fetched: 133,
                streams_followed: 134,
                verified: 135,
                found_damaged: 136,
            },
        }
    }

    #[test]
    fn a_hard_limit_counts_all_blocks_and_a_soft_one_lengths() {
        let hard = snapshot();
        assert_eq!(hard.used(), 103 + 107 + 111 + 112);
        assert_eq!(Snapshot { is_hard: false, ..hard }.used(), 102);
    }
}
