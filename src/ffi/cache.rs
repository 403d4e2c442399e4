//! A cache: opening and closing.

use std::ffi::c_char;

use crate::ffi::argument::{invalid, path};
use crate::ffi::call::{call_without_handle, close, give, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::options::{current, driver_number, image_cache_options_t};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{ImageCache, Options};

/// A cache of images in one directory.
///
/// Created by image_cache_open(), ended by image_cache_close(). Many threads may use one handle at once. Many handles,
/// in many processes, may be open on the same directory.
pub struct image_cache_t(Slot<ImageCache>);
handle!(image_cache_t, ImageCache, "cache", shared);

/// Opens the cache in a directory.
///
/// - `directory`: its path, in any encoding; it and its subdirectories are created if missing, its parent is not
/// - `options`: the options, copied; NULL for the defaults
/// - `cache`: set to the cache, which image_cache_close() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_UNSUPPORTED: the driver is IMAGE_CACHE_DRIVER_XATTR, and the file system has no extended
///   attributes; a newer version of the library made the index; or a subdirectory is on another file system, subvolume
///   or mount than the directory
/// - IMAGE_CACHE_ERROR_NO_SPACE: the directory or a subdirectory cannot be created: the disk, a quota or the inodes are
///   used up (an existing cache opens on a full disk)
/// - IMAGE_CACHE_ERROR_IO: the directory or a subdirectory cannot be created, opened or read; or a subdirectory is a
///   symbolic link
/// - IMAGE_CACHE_ERROR_INDEX: the SQLite index cannot be opened or repaired: it cannot be read, or it is not a file (a
///   damaged index is rebuilt)
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: directory or cache is NULL; the directory has other files, and is not a
///   cache's; or it was used with another driver or database: see image_cache_options_set_change_driver()
/// - IMAGE_CACHE_ERROR_FORKED: called in a child that was forked while the cache was open with the SQLite driver
///
/// The directory belongs to the cache: every file in it counts as an image, and can be pruned. Leftovers of a crash are
/// repaired. A directory that Glance filled is opened in place.
///
/// A directory that may not be written (a read-only mount, a user without permission) is opened for reading, if its
/// subdirectories exist. Calls that would change something then return IMAGE_CACHE_ERROR_IO, and hits are not counted.
///
/// Threads: any.
///
/// Blocks: for the cache lock, up to 10 s; and for the disk. The first open after a crash reads the whole directory.
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
    // SAFETY: the caller guarantees it.
    unsafe { peek(options, None, |options| Some(current(options))) }.ok_or_else(|| invalid("options are broken"))
}

/// Ends a cache handle, and writes the hits that it collected.
///
/// - `cache`: the cache; may be NULL; harmless in a forked child
///
/// Its readers, writers, tees and lists continue to work, and keep what they need.
///
/// Durability: images that were committed with IMAGE_CACHE_DURABILITY_NONE are synced here. From then on they survive a
/// power cut. What writers and tees commit afterwards is synced when the last of them and of the readers ends.
///
/// Threads: any. No other call may use this handle now or later.
///
/// Blocks: for the cache lock, up to 10 s; for another program that locks the index, up to 2 s; and for the disk if
/// images are synced: seconds, for many or large ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_close(cache: *mut image_cache_t) {
    // SAFETY: see the module.
    unsafe { close(cache) }
}

/// The driver in use: IMAGE_CACHE_DRIVER_SQLITE or IMAGE_CACHE_DRIVER_XATTR.
///
/// - `cache`: the cache
///
/// Returns the driver, or -1 for NULL.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_get_driver(cache: *const image_cache_t) -> i32 {
    // SAFETY: see the module.
    unsafe { peek(cache, -1, |cache| driver_number(cache.driver())) }
}
