//! Deleting, pruning and cleaning.

use std::ffi::c_char;
use std::time::Duration;

use crate::ImageCache;
use crate::ffi::argument::image_id;
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// Deletes a cached image. An image that is not cached is no error.
///
/// - `cache`: the cache
/// - `image_id`: the image
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_PINNED: the image is pinned; the message names the holders, and for how long
/// - IMAGE_CACHE_ERROR_IO: the image cannot be deleted
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or image_id is NULL
///
/// An image in use is deleted, too: its readers keep its bytes. image_cache_delete_unused_image() leaves it.
///
/// Durability: deletions are not synced. After a power cut the image may be there again, whole.
///
/// Threads: any. Blocks: for a few system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_cached_image(
    cache: *const image_cache_t,
    image_id: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, (), error, |cache| cache.delete_cached_image(self::image_id(image_id)?)) }
}

/// Deletes a cached image, unless it is in use: see image_cache_prune(). An image that is not cached is no error.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `deleted`: set to false if the image is in use, and stays; else to true, also if it was not cached
///
/// Returns as image_cache_delete_cached_image(), or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or deleted is NULL
///
/// Durability: as for image_cache_delete_cached_image().
///
/// Threads: any. Blocks: for a few system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_unused_image(
    cache: *const image_cache_t,
    image_id: *const c_char,
    deleted: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(deleted), error, |cache| cache.delete_unused_image(self::image_id(image_id)?)) }
}

/// Deletes every image that is cached now, and nothing else.
///
/// - `cache`: the cache
/// - `deleted`: set to the number of images deleted
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_PINNED: an image is pinned
/// - IMAGE_CACHE_ERROR_IO: the directory cannot be read, or an image cannot be deleted
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or deleted is NULL
///
/// If an image cannot be deleted, or is pinned, the others are deleted all the same; deleted is 0 then, as after each
/// failure.
///
/// Durability: as for image_cache_delete_cached_image().
///
/// Threads: any. Blocks: for the directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_all_cached_images(
    cache: *const image_cache_t,
    deleted: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(deleted), error, ImageCache::delete_all_cached_images) }
}

/// Evicts the least recently accessed images that are not in use, until the rest has at most the maximum size.
///
/// - `cache`: the cache
/// - `images`: set to the number of images evicted
/// - `bytes`: set to their size in bytes
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: an image cannot be deleted, and the limit is missed; an image cannot be stat'ed, so the
///   limit may be missed; or the directory cannot be read
/// - IMAGE_CACHE_ERROR_INDEX: the index fails during the prune (an index that fails at its start is not used)
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, images or bytes is NULL
///
/// Images that cannot be deleted or stat'ed are skipped, and others are evicted instead. Exception: if the images that
/// cannot be deleted exceed the limit alone, none is evicted. Images of 0 bytes stay. Each eviction is logged
/// (IMAGE_CACHE_LOG_INFO).
///
/// The maximum size is that of this handle, in bytes of the images. With a hard limit it is the directory's, in blocks of all
/// files of images. Then, and for a floor, invalid files are removed first.
///
/// Pinned images stay: others are evicted instead. If the limit is missed because of them, the call returns
/// IMAGE_CACHE_OK, and logs how many they are (IMAGE_CACHE_LOG_INFO).
///
/// An image is in use, and left, while anybody has its file open: a reader or stream of any process, a dup() of its
/// descriptor, a mapping, or another program, such as a hypervisor that opened it by its path. So a user who may only read
/// the directory keeps an image from eviction as long as he has it open. Others are evicted instead. If the limit is
/// missed for images in use alone, that is no error; they are logged (IMAGE_CACHE_LOG_INFO), with their bytes. A process
/// that dies uses nothing.
///
/// The kernel says who has a file open, by a lease (fcntl(2), F_SETLEASE). No signal of it reaches this process. Another
/// program that opens an image at the moment when it is evicted waits for a few microseconds, or gets EAGAIN if it opens
/// with O_NONBLOCK; if this process is stopped at that moment, it waits until then or for 45 s. Exception: where the kernel
/// gives no lease (an image of another user without CAP_LEASE, some network file systems), only images that somebody has
/// locked count as in use, as qemu does. Others are evicted: their readers keep the bytes, which stay on the disk until
/// the last one closes.
///
/// Durability: as for image_cache_delete_cached_image().
///
/// Threads: any. One call prunes at a time, over all processes.
///
/// Blocks: for another prune, up to 10 s; for the cache lock, up to 10 s; and for the directory.
///
/// ```c
/// if (image_cache_clean(cache, -1, &removed, &error) != IMAGE_CACHE_OK)
///     fprintf(stderr, "clean: %s\n", error.message);
/// if (image_cache_prune(cache, &images, &bytes, &error) != IMAGE_CACHE_OK)
///     fprintf(stderr, "prune: %s\n", error.message);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_prune(
    cache: *const image_cache_t,
    images: *mut u64,
    bytes: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, (out!(images), out!(bytes)), error, |cache| {
            cache.prune().map(|pruned| (pruned.images, pruned.bytes))
        })
    }
}

/// Evicts the least recently accessed images, until the rest has at most so many bytes. Otherwise as image_cache_prune().
///
/// - `cache`: the cache
/// - `bytes`: the size that the rest may have, in bytes; the maximum size of the handle does not matter
/// - `images`: set to the number of images evicted
/// - `freed`: set to their size in bytes
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: as image_cache_prune()
/// - IMAGE_CACHE_ERROR_INDEX: as image_cache_prune()
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, images or freed is NULL
///
/// Durability: as for image_cache_delete_cached_image().
///
/// Threads: any. Blocks: as image_cache_prune().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_prune_to(
    cache: *const image_cache_t,
    bytes: u64,
    images: *mut u64,
    freed: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, (out!(images), out!(freed)), error, |cache| {
            cache.prune_to(bytes).map(|pruned| (pruned.images, pruned.bytes))
        })
    }
}

/// Evicts the least recently accessed images, until an image of so many bytes fits: within the maximum size of this
/// handle, and on the disk. To be called before the image is fetched.
///
/// - `cache`: the cache
/// - `bytes`: the image's size in bytes
/// - `images`: set to the number of images evicted; 0 if there was room
/// - `freed`: set to their size in bytes
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NO_SPACE: so much room cannot be made; the message says how many bytes are in use or
///   pinned. Nothing was evicted, unless that showed only afterwards: images were opened meanwhile, or another program writes
/// - IMAGE_CACHE_ERROR_IO: as image_cache_prune()
/// - IMAGE_CACHE_ERROR_INDEX: as image_cache_prune()
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, images or freed is NULL
///
/// The room is not reserved: another process may take it before the image is written. Images that are being cached do
/// not count yet, except on the disk. So prune after the fetch as well. The message says what is in the way.
///
/// Durability: as for image_cache_delete_cached_image().
///
/// Threads: any. Blocks: as image_cache_prune().
///
/// ```c
/// uint64_t size = 10 << 20, freed;
/// status = image_cache_make_room(cache, size, &images, &freed, &error);
/// if (status == IMAGE_CACHE_OK)
///     status = image_cache_begin_write(cache, id, &writer, &error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_make_room(
    cache: *const image_cache_t,
    bytes: u64,
    images: *mut u64,
    freed: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, (out!(images), out!(freed)), error, |cache| {
            cache.make_room(bytes).map(|pruned| (pruned.images, pruned.bytes))
        })
    }
}

/// Removes invalid images, and incomplete files that are a dead writer's or have stalled, those of streams included.
/// Compares the index.
///
/// - `cache`: the cache
/// - `stall_time`: in seconds, also below 2 s; 0 removes all incomplete files; negative: the configured one
/// - `removed`: set to the number of files removed
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: a directory cannot be read, or a file cannot be removed
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or removed is NULL
///
/// An incomplete file has stalled if its live writer, its streams, or another program, wrote nothing to it for the stall
/// time. A fetch that its streams have left stays until then: the next stream resumes it. A
/// live writer then gets IMAGE_CACHE_ERROR_LOST from its next chunk, or its commit. It does not stall while it
/// verifies, syncs and publishes, unless stall_time is 0. In invalid/, subdirectories stay, and names that no image can
/// have. If a file cannot be removed, the others are removed all the same.
///
/// Pins that have ended, damaged ones, and those of images that are not cached any more are removed, and not counted.
///
/// The index is compared with the directory as a whole, and corrected. With a hard limit, deleted images that are not open any
/// more leave the disk, and the next reservation counts all images again.
///
/// Durability: removals are not synced. After a power cut a file may be there again. Images that were committed with
/// IMAGE_CACHE_DURABILITY_NONE are synced, also those of a process that died.
///
/// Threads: any. Blocks: for the directories.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_clean(
    cache: *const image_cache_t,
    stall_time: i64,
    removed: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, out!(removed), error, |cache| cache.clean(u64::try_from(stall_time).ok().map(Duration::from_secs)))
    }
}
