//! Bounds: a hard limit, a floor, and what is used of them.

use crate::ffi::argument::invalid;
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::options::{change, image_cache_options_t};
use crate::ffi::out::SizedOut;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{LimitMode, Result, Usage};

/// The maximum size is what image_cache_prune() prunes to. Until then, the cache may be larger. Each handle has its own
/// (the default for a new directory).
pub const IMAGE_CACHE_LIMIT_SOFT: i32 = 0;
/// The maximum size is never exceeded. It is the directory's, for all its handles, and is kept.
pub const IMAGE_CACHE_LIMIT_HARD: i32 = 1;

/// What a cache takes up on the disk, and its bounds. All numbers are bytes on the disk, unless said otherwise.
///
/// image_cache_get_usage() fills it. Fields are only ever appended.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct image_cache_usage_t {
    /// By cached images.
    pub cached: u64,
    /// By images that are being cached, with what is reserved for them.
    pub incomplete: u64,
    /// The part of incomplete that has no bytes yet.
    pub reserved: u64,
    /// By images whose fetch failed, or that were found damaged.
    pub invalid: u64,
    /// By deleted images, and files that were taken from stalled writers, that are still open; 0 with a soft limit, where they leave
    /// the directory at once.
    pub deleted: u64,
    /// The limit: the directory's if it is hard, else that of the handle.
    pub limit: u64,
    /// 1 if the limit is hard, else 0.
    pub is_hard: u64,
    /// What the file system has free for this user.
    pub free: u64,
    /// What stays free at least: the floor of the handle.
    pub min_free: u64,
    /// How many inodes the file system has free; 0 where it has no fixed number of them.
    pub free_inodes: u64,
    /// By pinned images, which are a part of cached.
    pub pinned: u64,
}

impl From<Usage> for image_cache_usage_t {
    fn from(usage: Usage) -> Self {
        let Usage {
            cached,
            incomplete,
            reserved,
            invalid,
            deleted,
            limit,
            is_hard,
            free,
            min_free,
            free_inodes,
            pinned,
        } = usage;
        let is_hard = u64::from(is_hard);
        Self { cached, incomplete, reserved, invalid, deleted, limit, is_hard, free, min_free, free_inodes, pinned }
    }
}

fn limit_mode(mode: i32) -> Result<LimitMode> {
    match mode {
        IMAGE_CACHE_LIMIT_SOFT => Ok(LimitMode::Soft),
        IMAGE_CACHE_LIMIT_HARD => Ok(LimitMode::Hard),
        _ => Err(invalid(format!("{mode} is no limit mode"))),
    }
}

/// Sets whether the maximum size may be exceeded.
///
/// - `options`: the options
/// - `mode`: one of IMAGE_CACHE_LIMIT_*. Default: the mode that the directory has; soft for a new one
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL, or the mode is unknown
///
/// With IMAGE_CACHE_LIMIT_HARD, image_cache_open() makes the maximum size of these options the hard limit of the
/// directory (if it was set; else a hard limit that is there stays as it is), for all its handles in all processes, also those that are open, and evicts down to it. The directory
/// keeps the limit: a later open without a mode keeps it, too, whatever its maximum size.
/// image_cache_set_max_size() changes it. An open with IMAGE_CACHE_LIMIT_SOFT removes it.
///
/// The hard limit counts blocks on the disk, of all files of images: cached, being cached, invalid, and deleted but
/// still open. A writer, tee or stream reserves room before it writes: for the whole image if its size is expected, else
/// step by step. Invalid files are removed for it, then images are evicted, least recently accessed first. What cannot
/// fit gets IMAGE_CACHE_ERROR_NO_SPACE before the disk is touched; a tee or stream goes on without caching. So
/// image_cache_prune() is not needed.
///
/// Not counted are the library's own files: the index, about 200 bytes an image, and .image_cache/, some KiB. Writers
/// that began before the limit became hard finish without reservations. Files that other programs add count with the next
/// reservation, which evicts for them; what they write to an image later counts after the next image_cache_clean(). A
/// deleted image of another user counts no longer, also if it is open, where the kernel gives no lease (see
/// image_cache_prune()).
///
/// Close to the limit, an image, also an empty one, needs a few more free blocks than it has bytes: for its attributes,
/// and for its extents, which are many on a fragmented disk.
///
/// On a file system that cannot reserve room (fallocate), image_cache_open() fails with
/// IMAGE_CACHE_ERROR_UNSUPPORTED. ext4, XFS, btrfs, tmpfs and overlayfs on them can.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_limit_mode(
    options: *mut image_cache_options_t,
    mode: i32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(options, (), error, |options| {
            limit_mode(mode).and_then(|mode| change(options, |old| Ok(old.limit_mode(mode))))
        })
    }
}

/// Sets how many bytes stay free on the file system of the cache: the larger of both values.
///
/// - `options`: the options
/// - `bytes`: so many bytes; default 0
/// - `percent`: so much of the file system's size, 0 to 100; default 0
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL, or percent is more than 100
///
/// For what writers, tees and streams of this handle write, images are evicted, also while other programs fill the disk.
/// If that is not enough, nothing is cached: a writer gets IMAGE_CACHE_ERROR_NO_SPACE, a tee or stream goes on without
/// caching. image_cache_prune() evicts for it, too. What is free for the superuser only does not count. For more than the file
/// system has in all, nothing is evicted, and nothing is cached.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_min_free(
    options: *mut image_cache_options_t,
    bytes: u64,
    percent: u32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| old.min_free(bytes, percent))) }
}

/// Sets how many inodes stay free on the file system of the cache: the larger of both values.
///
/// - `options`: the options
/// - `inodes`: so many inodes; default 0
/// - `percent`: so many of the file system's inodes, 0 to 100; default 0
///
/// Returns as image_cache_options_set_min_free().
///
/// As image_cache_options_set_min_free(), for inodes. A file system without a fixed number of inodes (btrfs) always has
/// enough.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_min_free_inodes(
    options: *mut image_cache_options_t,
    inodes: u64,
    percent: u32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| old.min_free_inodes(inodes, percent))) }
}

/// Sets the maximum size of an open cache.
///
/// - `cache`: the cache
/// - `bytes`: the limit in bytes; 0 is a valid limit
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: a hard limit could not be read or stored. One whose number is damaged is replaced
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk has no room to store a hard limit
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache is NULL
///
/// If the directory has a hard limit, this changes it, for all its handles in all processes, and evicts down to it. If
/// what cannot be evicted exceeds it, nothing new is cached until that has gone. Else it changes the limit of this
/// handle, and evicts nothing.
///
/// Durability: a hard limit survives a power cut after this returned.
///
/// Threads: any. Blocks: as image_cache_prune().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_set_max_size(
    cache: *const image_cache_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, (), error, |cache| cache.set_max_size(bytes)) }
}

/// What the cache takes up on the disk, and its bounds.
///
/// - `cache`: the cache
/// - `usage`: filled
/// - `size_of_usage`: sizeof *usage; of an older struct the first fields are filled, of a newer one the fields that this
///   version does not have are set to 0
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: a directory or an image cannot be read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or usage is NULL, or the size is 0 or above 4096 bytes
///
/// This is neither an access nor a hit. In a cache without a hard limit, each image is stat'ed.
///
/// Threads: any. Blocks: for the directories, and for the cache lock, up to 10 s.
///
/// ```c
/// image_cache_usage_t usage;
/// status = image_cache_get_usage(cache, &usage, sizeof usage, &error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_usage(
    cache: *const image_cache_t,
    usage: *mut image_cache_usage_t,
    size_of_usage: usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    let out = SizedOut { name: "usage", pointer: usage, size: size_of_usage };
    // SAFETY: see the module.
    unsafe { call(cache, out, error, |cache| cache.usage().map(image_cache_usage_t::from)) }
}
