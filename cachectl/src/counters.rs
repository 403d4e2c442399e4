//! What all processes have counted since the cache was created, for `stats`, metrics and the report.

use image_cache::Statistics;
use serde::Serialize;

/// The counters. Programs read their names: in JSON they stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub hits: u64,
    pub misses: u64,
    pub bytes_served: u64,
    pub commits: u64,
    pub failures: Failures,
    pub evictions: u64,
    pub evicted_bytes: u64,
    pub streams_followed: u64,
    pub bytes_not_fetched: u64,
    pub verified: u64,
    pub found_damaged: u64,
}

/// Images that were not cached, by their reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    pub aborted: u64,
    pub closed_early: u64,
    pub wrong_digest: u64,
    pub wrong_size: u64,
    pub no_space: u64,
    pub lost: u64,
    pub source_failed: u64,
    pub other: u64,
}

/// How many images were not cached for a reason.
#[derive(Debug)]
pub struct Reason {
    /// For programs.
    pub name: &'static str,
    /// For people.
    pub words: &'static str,
    pub images: u64,
}

impl Failures {
    pub fn reasons(&self) -> [Reason; 8] {
        [
            ("aborted", "aborted by the agent", self.aborted),
            ("closed_early", "closed before the end", self.closed_early),
            ("wrong_digest", "wrong digest", self.wrong_digest),
            ("wrong_size", "wrong size", self.wrong_size),
            ("no_space", "no space", self.no_space),
            ("lost", "file lost", self.lost),
            ("source_failed", "source failed", self.source_failed),
            ("other", "other reasons", self.other),
        ]
        .map(|(name, words, images)| Reason { name, words, images })
    }

    pub fn sum(&self) -> u64 {
        self.reasons().iter().fold(0, |sum, reason| sum.saturating_add(reason.images))
    }
}

impl From<&Statistics> for Counters {
    fn from(counted: &Statistics) -> Self {
        Self {
            hits: counted.hits,
            misses: counted.misses,
            bytes_served: counted.bytes_served,
            commits: counted.commits,
            failures: Failures {
                aborted: counted.aborted_by_call,
                closed_early: counted.closed_early,
                wrong_digest: counted.wrong_digest,
                wrong_size: counted.wrong_size,
                no_space: counted.no_space,
                lost: counted.lost,
                source_failed: counted.source_failed,
                other: counted.other_failures,
            },
            evictions: counted.evictions,
            evicted_bytes: counted.evicted_bytes,
            streams_followed: counted.streams_followed,
            bytes_not_fetched: counted.bytes_not_fetched,
            verified: counted.verified,
            found_damaged: counted.found_damaged,
        }
    }
}
