//! A cache: opening, closing and asking it.

use std::ffi::c_char;

use crate::ffi::argument::{image_id, invalid, path};
use crate::ffi::call::{call, call_without_handle, close, create, give, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::list::{List, image_cache_list_t};
use crate::ffi::options::{current, driver_number, image_cache_options_t};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{ImageCache, Options};

/// A cache of images in one directory. Made by image_cache_open(), ended by image_cache_close(). Many threads may use it
/// at once. Many handles, in many processes, may be open on the same directory.
pub struct image_cache_t(Slot<ImageCache>);
handle!(image_cache_t, ImageCache, "cache", shared);

/// Opens the cache in a directory. What a crash left behind is repaired, and a directory that Glance filled is opened in
/// place. The directory is to be the cache's own: every file in it counts as an image, and can be pruned.
///
/// directory  its path, in any encoding; it and its folders are created when missing, its parent is not
/// options    how to open it, copied; NULL for the defaults
/// cache      set to the cache, which image_cache_close() ends; NULL on failure
/// error      filled on failure; may be NULL
///
/// A directory that may not be written to (a read-only mount, a user without the right) is opened for reading, if its
/// folders are there: what would change something then returns IMAGE_CACHE_ERROR_IO, and hits are not counted.
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_UNSUPPORTED       the file system has no extended attributes, and the driver is
///                                       IMAGE_CACHE_DRIVER_XATTR; or the index was made by a newer version of the library; or
///                                       a folder is on another file system, subvolume or mount than the directory
///   IMAGE_CACHE_ERROR_NO_SPACE          the disk, a quota or the inodes are used up: something cannot be created or
///                                       written
///   IMAGE_CACHE_ERROR_IO                the directory or one of its folders cannot be created, opened or read, or a folder
///                                       is a symbolic link; or images that were not synced before the host restarted cannot be
///                                       removed
///   IMAGE_CACHE_ERROR_INDEX             the SQLite index cannot be opened or put right: it cannot be read, another program
///                                       has it locked, or something that is no file has its name (one that is damaged
///                                       is made anew)
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for options and error); or the directory has files of others, and is no
///                                       cache; or it was used with another driver or database: see
///                                       image_cache_options_set_change_driver()
///   IMAGE_CACHE_ERROR_FORKED            this process was forked by one that had the cache open with the SQLite driver
///
/// Threads: any. Blocks: for the disk; the first open after a crash reads the whole directory. Since 0.1.
///
/// ```c
/// image_cache_options_t *options = image_cache_options_new();
/// image_cache_options_set_max_size(options, UINT64_C(50) << 30, NULL);
/// image_cache_options_set_log(options, log_line, stderr, NULL);
/// status = image_cache_open("/var/cache/agent", options, &cache, &error);
/// image_cache_options_free(options);
/// if (status != IMAGE_CACHE_OK) fprintf(stderr, "no cache: %s\n", error.message);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_open(
    directory: *const c_char,
    options: *const image_cache_options_t,
    cache: *mut *mut image_cache_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call_without_handle(out!(cache), error, || {
            ImageCache::open(path("directory", directory)?, options_or_default(options)?).map(give)
        })
    }
}

unsafe fn options_or_default(options: *const image_cache_options_t) -> crate::Result<Options> {
    if options.is_null() {
        return Ok(Options::default());
    }
    // SAFETY: passed on.
    unsafe { peek(options, None, |options| Some(current(options))) }.ok_or_else(|| invalid("options are broken"))
}

/// Ends a cache handle, and writes the hits that it collected. Readers, writers, tees and lists that were made from it go on,
/// and keep what they need.
///
/// cache  ended; NULL is fine; harmless in a forked child
///
/// Durability: images that were committed with IMAGE_CACHE_DURABILITY_NONE are synced by whichever of these handles ends
/// last, and from then on outlast a power cut.
/// Threads: any, but no other call may use this handle now or later.
/// Blocks: for the index, and for the disk where images are synced: seconds, for many or large ones. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_close(cache: *mut image_cache_t) {
    // SAFETY: see the module.
    unsafe { close(cache) }
}

/// The driver in use: IMAGE_CACHE_DRIVER_SQLITE or IMAGE_CACHE_DRIVER_XATTR.
///
/// cache  asked
///
/// Returns the driver, or -1 for NULL.
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_driver(cache: *const image_cache_t) -> i32 {
    // SAFETY: see the module.
    unsafe { peek(cache, -1, |cache| driver_number(cache.driver())) }
}

/// Whether an image is cached.
///
/// cache     asked
/// image_id  the image
/// answer    set to the answer; false on failure
/// error     filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                a look at the directory failed
///   IMAGE_CACHE_ERROR_INVALID_IMAGE_ID  image_id cannot name an image
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Threads: any. Blocks: for one look at the directory. Since 0.1.
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

/// Whether a file of an image stands in incomplete/, its writer alive or not. Whether one can begin to write it is for
/// image_cache_begin_write() to say, which takes over from a writer that is dead.
///
/// cache     asked
/// image_id  the image
/// answer    set to the answer; false on failure
/// error     filled on failure; may be NULL
///
/// Returns as image_cache_is_cached().
///
/// Threads: any. Blocks: for one look at incomplete/. Since 0.1.
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
/// cache     asked
/// image_id  the image
/// answer    set to the answer; false on failure
/// error     filled on failure; may be NULL
///
/// Returns as image_cache_is_cached().
///
/// Threads: any. Blocks: for a look at the queue's folder and at the directory. Since 0.1.
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

/// Whether an image is neither cached nor being cached, and nothing else (a folder, say) has its name. It is false, too,
/// where a dead writer's file stands in incomplete/, which image_cache_begin_write() takes over: this is for display. To
/// learn whether an image can be written, begin to write it.
///
/// cache     asked
/// image_id  the image
/// answer    set to the answer; false on failure
/// error     filled on failure; may be NULL
///
/// Returns as image_cache_is_cached().
///
/// Threads: any. Blocks: for a look at incomplete/ and at the directory. Since 0.1.
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
/// cache  asked
/// bytes  set to the sum of their lengths in bytes; 0 on failure
/// error  filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                the directory cannot be read
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Threads: any.
/// Blocks: for the index; the xattr driver, and any driver whose index fails, reads the whole directory. Since 0.1.
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
/// cache     asked
/// image_id  the image
/// bytes     set to its length in bytes; 0 on failure
/// error     filled on failure; may be NULL
///
/// Returns as image_cache_is_cached(), or
///   IMAGE_CACHE_ERROR_NOT_FOUND  the image is not cached
///
/// Threads: any. Blocks: for one look at the directory. Since 0.1.
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
/// cache     asked
/// image_id  the image
/// hits      set to the count; 0 for an image that is not cached, and on failure
/// error     filled on failure; may be NULL
///
/// All hits of this handle are counted, and of handles that were closed. Others, in this process or another, write the first
/// few hits in each second at once, and collect the rest in memory until they are asked for hits, a list or a prune, are
/// closed, or something is read through them a second later. What a process has collected is lost when it is killed, or ends
/// without image_cache_close().
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                a look at the directory failed
///   IMAGE_CACHE_ERROR_INDEX             the hits cannot be read in the index, or on the image's file
///   IMAGE_CACHE_ERROR_INVALID_IMAGE_ID  image_id cannot name an image
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Threads: any. Blocks: for the index. Since 0.1.
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

/// Lists the cached images, by image id: a snapshot.
///
/// cache  asked
/// list   set to the list, which image_cache_list_free() ends; NULL on failure
/// error  filled on failure; may be NULL
///
/// Hits and last use are as image_cache_get_hit_count() says.
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_NO_SPACE          the index must be put right first, and the disk is full
///   IMAGE_CACHE_ERROR_IO                the directory cannot be read
///   IMAGE_CACHE_ERROR_INDEX             the index cannot be read or put right
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Threads: any. Blocks: for the index; the xattr driver reads the whole directory. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_cached(
    cache: *const image_cache_t,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(list), error, |cache| cache.list_cached().map(List::of_cached)) }
}

/// Lists the queued images, oldest first: a snapshot. An entry's last_accessed and last_modified are when it was queued,
/// its size and hits are 0, its digest NULL.
///
/// cache  asked
/// list   set to the list, which image_cache_list_free() ends; NULL on failure
/// error  filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                the queue's folder cannot be read
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Threads: any. Blocks: for reading the queue's folder. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_queued(
    cache: *const image_cache_t,
    list: *mut *mut image_cache_list_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(list), error, |cache| cache.list_queued().and_then(List::of_queued)) }
}
