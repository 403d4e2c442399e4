//! Deleting, pruning and cleaning.

use std::ffi::c_char;
use std::time::Duration;

use crate::ImageCache;
use crate::ffi::argument::image_id;
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// Deletes a cached image; one that is not cached is no error. Its readers keep its bytes.
///
/// cache     asked
/// image_id  the image
/// error     filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                it cannot be deleted
///   IMAGE_CACHE_ERROR_INVALID_IMAGE_ID  image_id cannot name an image
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Durability: deletions are not synced; after a power cut the image may be there again, whole.
/// Threads: any. Blocks: for a few system calls. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_cached_image(
    cache: *const image_cache_t,
    image_id: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, (), error, |cache| cache.delete_cached_image(self::image_id(image_id)?)) }
}

/// Deletes every image that is cached now, and nothing else.
///
/// cache    asked
/// deleted  set to how many images were deleted; 0 on failure
/// error    filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                the directory cannot be read, or an image cannot be deleted
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// What can be deleted is deleted even when another image cannot be.
///
/// Durability: as for image_cache_delete_cached_image().
/// Threads: any. Blocks: for the directory. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_all_cached_images(
    cache: *const image_cache_t,
    deleted: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(deleted), error, ImageCache::delete_all_cached_images) }
}

/// Deletes images, the least recently accessed first, until the cache has at most its maximal size. An image that is open
/// is not spared: its readers keep its bytes, and the disk has them until the last reader closes.
///
/// cache   asked
/// images  set to how many images were deleted; 0 on failure
/// bytes   set to their size in bytes; 0 on failure
/// error   filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                the limit is missed since images could not be deleted; or it may be missed since
///                                       some could not even be examined (all others are deleted that had to be); or the
///                                       directory cannot be read
///   IMAGE_CACHE_ERROR_INDEX             the index fails in the middle (one that fails at once is done without)
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Durability: as for image_cache_delete_cached_image().
/// Threads: any; one prunes, over all processes, and others wait for it. Blocks: for the directory. Since 0.1.
///
/// ```c
/// if (image_cache_clean(cache, -1, &removed, &error) != IMAGE_CACHE_OK ||
///     image_cache_prune(cache, &images, &bytes, &error) != IMAGE_CACHE_OK)
///     fprintf(stderr, "housekeeping: %s\n", error.message);
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

/// Empties invalid/ of images (names that no image can have, and folders, stay), and removes the incomplete files to which
/// nothing was written for the stall time, whether their writers live or not. A writer that lives gets
/// IMAGE_CACHE_ERROR_LOST from its next chunk, or its commit.
///
/// cache       asked
/// stall_time  in seconds; 0 removes all incomplete files; negative: the configured one
/// removed     set to how many files were removed; 0 on failure
/// error       filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                a folder cannot be read, or a file cannot be removed
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// What can be removed is removed even when something else cannot be.
///
/// Durability: removals are not synced; after a power cut a file may be there again.
/// Threads: any. Blocks: for the directories. Since 0.1.
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
