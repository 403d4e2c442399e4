//! Queries: which images are cached, and what is known of them.

use std::ffi::c_char;

use crate::ImageCache;
use crate::ffi::argument::image_id;
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::{call, create};
use crate::ffi::list::{List, image_cache_list_t};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// Whether an image is cached.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `answer`: set to the answer
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: a lookup in the directory failed
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or answer is NULL
///
/// Threads: any. Blocks: for one lookup in the directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_is_cached(
    cache: *const image_cache_t,
    image_id: *const c_char,
    answer: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(answer), error, |cache| cache.is_cached(self::image_id(image_id)?)) }
}

/// Whether incomplete/ has a file of an image, its writer alive or dead.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `answer`: set to the answer
///
/// Returns as image_cache_is_cached().
///
/// The answer does not say whether the image can be written: image_cache_begin_write() takes over from a dead writer.
///
/// Threads: any. Blocks: for one lookup in incomplete/.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_is_being_cached(
    cache: *const image_cache_t,
    image_id: *const c_char,
    answer: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(answer), error, |cache| cache.is_being_cached(self::image_id(image_id)?)) }
}

/// Whether an image is in the queue.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `answer`: set to the answer
///
/// Returns as image_cache_is_cached().
///
/// Threads: any. Blocks: for a lookup in queue/ and in the directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_is_queued(
    cache: *const image_cache_t,
    image_id: *const c_char,
    answer: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(answer), error, |cache| cache.is_queued(self::image_id(image_id)?)) }
}

/// Whether an image is neither cached nor being cached, and its name is free.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `answer`: set to the answer
///
/// Returns as image_cache_is_cached().
///
/// The name is not free if something else has it, for example a subdirectory. The answer is false, too, if incomplete/
/// has the file of a dead writer, which image_cache_begin_write() takes over. So the answer is for display. To learn
/// whether an image can be written, begin to write it.
///
/// Threads: any. Blocks: for a lookup in incomplete/ and in the directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_is_cacheable(
    cache: *const image_cache_t,
    image_id: *const c_char,
    answer: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(answer), error, |cache| cache.is_cacheable(self::image_id(image_id)?)) }
}

/// The size of all cached images.
///
/// - `cache`: the cache
/// - `bytes`: set to the sum of their lengths in bytes
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: the directory cannot be read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or bytes is NULL
///
/// Threads: any.
///
/// Blocks: with SQLite, for the cache lock, up to 10 s. The xattr driver takes no lock, and reads the whole directory.
/// So does SQLite after a time-out, or if its index fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_cache_size(
    cache: *const image_cache_t,
    bytes: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(bytes), error, ImageCache::cache_size) }
}

/// The length of a cached image.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `bytes`: set to its length in bytes
///
/// Returns as image_cache_is_cached(), or
///
/// - IMAGE_CACHE_ERROR_NOT_FOUND: the image is not cached
///
/// Threads: any. Blocks: for one lookup in the directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_image_size(
    cache: *const image_cache_t,
    image_id: *const c_char,
    bytes: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(bytes), error, |cache| cache.image_size(self::image_id(image_id)?)) }
}

/// How often an image was read (opened and closed) since it was cached.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `hits`: set to the count; 0 if the image is not cached
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: a lookup in the directory failed
/// - IMAGE_CACHE_ERROR_INDEX: the hits cannot be read from the index, or from the image's file
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or hits is NULL
///
/// The count includes all hits of this handle and of closed handles. Other handles, in this process or another, collect
/// their hits in memory. Their hits are included once they have written them: as one of their readers closes, at most
/// once a second; before a hit count, a list or a prune through them; and at their close. A process that is killed, or
/// ends without image_cache_close(), loses the hits that it collected. Hits of a handle that may not write are not
/// counted. Neither may be the hit of a reader that outlives its cache: it waits for nobody.
///
/// Threads: any. Blocks: for the cache lock, up to 10 s; for another program that locks the index, up to 2 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_hit_count(
    cache: *const image_cache_t,
    image_id: *const c_char,
    hits: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(hits), error, |cache| cache.hit_count(self::image_id(image_id)?)) }
}

/// Lists the cached images, ordered by image id. Images that come or go meanwhile may or may not be included.
///
/// - `cache`: the cache
/// - `list`: set to the list, which image_cache_list_free() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NO_SPACE: the index must be rebuilt first, and the disk is full
/// - IMAGE_CACHE_ERROR_IO: the directory cannot be read
/// - IMAGE_CACHE_ERROR_INDEX: the index cannot be read or rebuilt
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or list is NULL
///
/// image_cache_get_hit_count() describes which hits and accesses are included.
///
/// Threads: any.
///
/// Blocks: for the cache lock, up to 10 s; for another program that locks the index, up to 2 s. The xattr driver reads
/// the whole directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_cached(
    cache: *const image_cache_t,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(list), error, |cache| cache.list_cached().map(List::of)) }
}

/// Lists the queued images, oldest first: a snapshot.
///
/// - `cache`: the cache
/// - `list`: set to the list, which image_cache_list_free() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: queue/ cannot be read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or list is NULL
///
/// In an entry, last_accessed and last_modified are the time when the image was queued. Its size and hits are 0, its
/// digest is NULL.
///
/// Threads: any. Blocks: for queue/.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_queued(
    cache: *const image_cache_t,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(list), error, |cache| cache.list_queued().map(List::of)) }
}

/// Gets a cached image as image_cache_list_cached() shows it: a list of one. This is neither an access nor a hit.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `list`: set to the list, which image_cache_list_free() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NOT_FOUND: the image is not cached
/// - IMAGE_CACHE_ERROR_NO_SPACE: the index must be rebuilt first, and the disk is full
/// - IMAGE_CACHE_ERROR_IO: a lookup in the directory failed
/// - IMAGE_CACHE_ERROR_INDEX: the index cannot be read or rebuilt
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or list is NULL
///
/// Threads: any. Blocks: for the cache lock, up to 10 s; for another program that locks the index, up to 2 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_image(
    cache: *const image_cache_t,
    image_id: *const c_char,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        create(cache, out!(list), error, |cache| {
            cache.get_image(self::image_id(image_id)?).map(|image| List::of([image]))
        })
    }
}

/// Lists the images that are being cached, ordered by image id: a snapshot.
///
/// - `cache`: the cache
/// - `list`: set to the list, which image_cache_list_free() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: incomplete/ cannot be read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or list is NULL
///
/// An entry's size is how many bytes are there, its reason tells who has the image: a writer, streams, nobody. Its process
/// is that of the writer, or of the stream that fetched last, since when the writing or fetch began. last_accessed and
/// last_modified are the time of the last write.
///
/// Threads: any. Blocks: for the cache lock, up to 10 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_incomplete(
    cache: *const image_cache_t,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(list), error, |cache| cache.list_incomplete().map(List::of)) }
}

/// Lists the images whose fetch has failed, ordered by image id: a snapshot. They are kept until image_cache_clean().
///
/// - `cache`: the cache
/// - `list`: set to the list, which image_cache_list_free() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: invalid/ cannot be read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or list is NULL
///
/// An entry's size is how many bytes are there, its reason why the fetch failed; NULL where the file system has no
/// extended attributes. last_accessed and last_modified are the time of the last write.
///
/// Threads: any. Blocks: for invalid/.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_invalid(
    cache: *const image_cache_t,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(list), error, |cache| cache.list_invalid().map(List::of)) }
}
