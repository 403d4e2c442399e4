//! Pins.

use std::ffi::c_char;
use std::time::Duration;

use crate::Result;
use crate::ffi::argument::{bytes, image_id, invalid};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// Pins a cached image: it is neither evicted nor deleted until the pin ends, by no process.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `holder`: who pins it: 1 to 255 bytes of any encoding, copied
/// - `seconds`: how long; 0: as long as this process lives, also after image_cache_close()
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NOT_FOUND: the image is not cached
/// - IMAGE_CACHE_ERROR_NO_SPACE: more than half of the maximum size would be pinned, or another part
///   (image_cache_options_set_max_pinned()), and the message has PINNED_FULL; or the disk is full
/// - IMAGE_CACHE_ERROR_IO: the pin cannot be stored; or it cannot be synced, and holds until the host restarts
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or holder is NULL; the holder is empty or longer than 255 bytes;
///   seconds is 2^63 or more; or 512 holders have pinned the image
///
/// An image can have many holders. Its pins are the directory's: they hold for all processes, and outlast this one and
/// its restart. A second pin by the same holder replaces its time, whatever process made the first one. Only the
/// holder's name counts: any process may unpin it, so give each user of an image a name of its own.
///
/// A pin of some seconds does not depend on the host's clock until the host restarts. After that, it ends at its time on
/// the clock, and at most that many seconds after the restart. A pin with seconds 0 ends at once when the process ends,
/// also by SIGKILL; if the process has forked, when the child has ended or called exec() as well. Such pins cost the
/// process one descriptor for each directory, until it ends.
///
/// A pin names the id. If another program removes the image, and it is cached again, it is still pinned, unless
/// image_cache_clean() was called meanwhile. An image that moves to invalid/ loses its pins: the log names their holders. An image that is pinned
/// already counts once, and a further pin of it always fits.
///
/// A pin whose record is damaged holds until image_cache_clean() removes it, which is logged.
///
/// Durability: with IMAGE_CACHE_DURABILITY_FULL, a pin of some seconds survives a power cut once this has returned.
///
/// Threads: any.
///
/// Blocks: for another pin and for the cache lock, up to 10 s each; with IMAGE_CACHE_DURABILITY_FULL, for the disk.
///
/// ```c
/// status = image_cache_pin(cache, id, "guest-17", 0, &error);
/// if (status == IMAGE_CACHE_ERROR_NOT_FOUND)
///     puts("fetch it first");
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_pin(
    cache: *const image_cache_t,
    image_id: *const c_char,
    holder: *const c_char,
    seconds: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, (), error, |cache| {
            cache.pin(self::image_id(image_id)?, bytes("holder", holder)?, pin_time(seconds)?)
        })
    }
}

/// Removes the pin of a holder. If the holder has not pinned the image, that is no error.
///
/// - `cache`: the cache
/// - `image_id`: the image, cached or not
/// - `holder`: whose pin is removed, as for image_cache_pin()
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: the pin cannot be removed
/// - IMAGE_CACHE_ERROR_NO_SPACE: the pin cannot be removed, since the disk is full
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or holder is NULL; or the holder is empty or longer than 255
///   bytes
///
/// The pins of other holders stay.
///
/// Durability: removals are not synced. After a power cut the pin may be there again, until its time.
///
/// Threads: any. Blocks: for the cache lock, up to 10 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_unpin(
    cache: *const image_cache_t,
    image_id: *const c_char,
    holder: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, (), error, |cache| cache.unpin(self::image_id(image_id)?, bytes("holder", holder)?)) }
}

/// A negative number of a careless caller would be a pin for ever.
fn pin_time(seconds: u64) -> Result<Option<Duration>> {
    if i64::try_from(seconds).is_err() {
        return Err(invalid(format!("an image cannot be pinned for {seconds} s")));
    }
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}
