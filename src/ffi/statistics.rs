//! Statistics.

use std::mem::offset_of;

use crate::Statistics;
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::out::SizedOut;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// What a cache has, and what all processes have counted since it was created.
///
/// The caller allocates it, and passes its size. Later versions may append fields.
#[repr(C)]
pub struct image_cache_statistics_t {
    /// How many images are cached.
    pub images: u64,
    /// Their lengths in bytes.
    pub bytes: u64,
    /// What they take up on the disk, in bytes.
    pub allocated: u64,
    /// The limit in bytes: the directory's if it is hard, else that of this handle.
    pub limit: u64,
    /// How many bytes are free on the file system.
    pub free: u64,
    /// How long ago the image that is evicted next was accessed, in seconds; 0 if no image can be evicted.
    pub next_victim_idle: u64,
    /// How often images were read (opened and closed).
    pub hits: u64,
    /// How often an image was not cached as a reader or a stream of it was opened.
    pub misses: u64,
    /// How many images were cached: by writers, tees, streams, prefetches and imports.
    pub commits: u64,
    /// How many images were not cached, because the caller aborted.
    pub aborted_by_call: u64,
    /// The same, because a writer or tee was closed before the end.
    pub closed_early: u64,
    /// The same, because the bytes had another digest than expected.
    pub wrong_digest: u64,
    /// The same, because there were more or fewer bytes than expected.
    pub wrong_size: u64,
    /// The same, because the disk was full.
    pub no_space: u64,
    /// The same, because the incomplete file was cleaned away or changed.
    pub lost: u64,
    /// The same, because the source or fetch function failed.
    pub source_failed: u64,
    /// The same, for another reason.
    pub other_failures: u64,
    /// How many images were evicted.
    pub evictions: u64,
    /// Their lengths in bytes.
    pub evicted_bytes: u64,
    /// How many streams got bytes that another one, or a writer, had fetched.
    pub streams_followed: u64,
    /// How many bytes those were.
    pub bytes_not_fetched: u64,
    /// How many bytes readers and streams have returned.
    pub bytes_served: u64,
    /// How many verifications found an image intact.
    pub verified: u64,
    /// How many verifications found an image damaged. What an open finds is not counted.
    pub found_damaged: u64,
}

// C programs have this layout compiled in, except the size, because later versions may append fields.
// tests/abi/layout.c checks the same of the header.
const _: () = {
    assert!(size_of::<image_cache_statistics_t>() == 192 && align_of::<u64>() <= 8);
    assert!(offset_of!(image_cache_statistics_t, images) == 0);
    assert!(offset_of!(image_cache_statistics_t, bytes) == 8);
    assert!(offset_of!(image_cache_statistics_t, allocated) == 16);
    assert!(offset_of!(image_cache_statistics_t, limit) == 24);
    assert!(offset_of!(image_cache_statistics_t, free) == 32);
    assert!(offset_of!(image_cache_statistics_t, next_victim_idle) == 40);
    assert!(offset_of!(image_cache_statistics_t, hits) == 48);
    assert!(offset_of!(image_cache_statistics_t, misses) == 56);
    assert!(offset_of!(image_cache_statistics_t, commits) == 64);
    assert!(offset_of!(image_cache_statistics_t, aborted_by_call) == 72);
    assert!(offset_of!(image_cache_statistics_t, closed_early) == 80);
    assert!(offset_of!(image_cache_statistics_t, wrong_digest) == 88);
    assert!(offset_of!(image_cache_statistics_t, wrong_size) == 96);
    assert!(offset_of!(image_cache_statistics_t, no_space) == 104);
    assert!(offset_of!(image_cache_statistics_t, lost) == 112);
    assert!(offset_of!(image_cache_statistics_t, source_failed) == 120);
    assert!(offset_of!(image_cache_statistics_t, other_failures) == 128);
    assert!(offset_of!(image_cache_statistics_t, evictions) == 136);
    assert!(offset_of!(image_cache_statistics_t, evicted_bytes) == 144);
    assert!(offset_of!(image_cache_statistics_t, streams_followed) == 152);
    assert!(offset_of!(image_cache_statistics_t, bytes_not_fetched) == 160);
    assert!(offset_of!(image_cache_statistics_t, bytes_served) == 168);
    assert!(offset_of!(image_cache_statistics_t, verified) == 176);
    assert!(offset_of!(image_cache_statistics_t, found_damaged) == 184);
};

impl From<Statistics> for image_cache_statistics_t {
    fn from(statistics: Statistics) -> Self {
        Self {
            images: statistics.images,
            bytes: statistics.bytes,
            allocated: statistics.allocated,
            limit: statistics.limit,
            free: statistics.free,
            next_victim_idle: statistics.next_victim_idle,
            hits: statistics.hits,
            misses: statistics.misses,
            commits: statistics.commits,
            aborted_by_call: statistics.aborted_by_call,
            closed_early: statistics.closed_early,
            wrong_digest: statistics.wrong_digest,
            wrong_size: statistics.wrong_size,
            no_space: statistics.no_space,
            lost: statistics.lost,
            source_failed: statistics.source_failed,
            other_failures: statistics.other_failures,
            evictions: statistics.evictions,
            evicted_bytes: statistics.evicted_bytes,
            streams_followed: statistics.streams_followed,
            bytes_not_fetched: statistics.bytes_not_fetched,
            bytes_served: statistics.bytes_served,
            verified: statistics.verified,
            found_damaged: statistics.found_damaged,
        }
    }
}

/// Gets the statistics of a cache: what it has now, and what all processes have counted, over restarts.
///
/// - `cache`: the cache
/// - `statistics`: filled with the statistics
/// - `size_of_statistics`: sizeof *statistics; of an older struct the first fields are filled, of a newer one the fields
///   that this version does not have are set to 0
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_UNSUPPORTED: a newer version of the library made the statistics (everything else works)
/// - IMAGE_CACHE_ERROR_IO: the directory or the statistics cannot be read
/// - IMAGE_CACHE_ERROR_INDEX: the index fails as it is read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or statistics is NULL, or the size is 0 or above 4096 bytes
///
/// The counters include all that this handle and closed handles have counted. Other handles add what they have counted
/// as one of their readers closes, at a query of hits or accesses, a prune or a commit, once a second at most; and at
/// their close. A process that is killed, or ends without image_cache_close(), loses what it has counted since. A
/// handle that may not write counts nothing, and can read the statistics.
///
/// If the file of the counters is damaged, they begin at 0 again, which is logged (IMAGE_CACHE_LOG_WARNING).
///
/// Durability: the counters are not synced. After a power cut they may be older ones, or begin at 0.
///
/// Threads: any. Blocks: for the cache lock, up to 10 s; and for the directory, all of which is read.
///
/// ```c
/// image_cache_statistics_t now;
/// if (image_cache_get_statistics(cache, &now, sizeof now, &error) == IMAGE_CACHE_OK)
///     printf("%llu of %llu reads hit\n", (unsigned long long)now.hits, (unsigned long long)(now.hits + now.misses));
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_statistics(
    cache: *const image_cache_t,
    statistics: *mut image_cache_statistics_t,
    size_of_statistics: usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    let out = SizedOut { name: "statistics", pointer: statistics, size: size_of_statistics };
    // SAFETY: see the module.
    unsafe { call(cache, out, error, |cache| cache.statistics().map(image_cache_statistics_t::from)) }
}
