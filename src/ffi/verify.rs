//! Verifying cached images.

use std::ffi::{CString, c_char, c_void};
use std::mem::offset_of;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::ffi::argument::{image_id, sized};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::out::SizedOut;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{Verified, VerifyOptions};

/// Reports how far image_cache_verify() is, and can stop it.
///
/// - `user_data`: the pointer in the options
/// - `image_id`: the image that is being verified; valid until the function returns
/// - `done`: how many of its bytes were read and hashed
/// - `total`: its length in bytes
///
/// Returns 0 to go on. Any other number stops the verification: the present image is not verified.
///
/// It is called before the first byte of each image and after each piece of up to 4 MiB, and ten times a second while the
/// verification waits because of its rate. With a crc64nvme, a hole is one piece, whatever its length. An image that seems
/// to be damaged is read again, from 0 on. The function is called on the thread that called image_cache_verify(). It may
/// call the library, but must not close that cache. It must not throw or longjmp.
pub type image_cache_verify_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, image_id: *const c_char, done: u64, total: u64) -> i32>;

/// Options of image_cache_verify().
///
/// The caller allocates it, and sets all of it to 0 first: 0 is the default of each field. Later versions may append
/// fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct image_cache_verify_options_t {
    /// At most so many bytes are read a second, by this call; 0: without a limit.
    pub bytes_per_second: u64,
    /// Images that were verified within so many seconds are skipped; 0: none.
    pub skip_seconds: u64,
    /// Called while images are read, and can stop it; NULL: none.
    pub progress: image_cache_verify_progress_fn,
    /// Passed to progress.
    pub user_data: *mut c_void,
}

/// The result of image_cache_verify().
///
/// The caller allocates it. Later versions may append fields.
#[repr(C)]
pub struct image_cache_verify_result_t {
    /// Images that have their digests.
    pub verified: u64,
    /// Images that are damaged, and were moved to invalid/. If this process has no permission for that, they stay.
    pub failed: u64,
    /// Images that could not be read, or that another program wrote to at the same time. They stay.
    pub unreadable: u64,
    /// Images for which no digest was stored. The present one was stored, if this process may, for the next time.
    pub without_digest: u64,
    /// Images that were verified lately, that another call verifies, or that vanished meanwhile.
    pub skipped: u64,
    /// How many bytes were read. Holes are not.
    pub bytes_read: u64,
    /// 1 if progress stopped it, else 0.
    pub stopped: u64,
}

// C programs have these layouts compiled in. tests/abi/layout.c checks the same of the header.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<image_cache_verify_options_t>() == 32 && align_of::<image_cache_verify_options_t>() == 8);
    assert!(offset_of!(image_cache_verify_options_t, bytes_per_second) == 0);
    assert!(offset_of!(image_cache_verify_options_t, skip_seconds) == 8);
    assert!(offset_of!(image_cache_verify_options_t, progress) == 16);
    assert!(offset_of!(image_cache_verify_options_t, user_data) == 24);
    assert!(size_of::<image_cache_verify_result_t>() == 56 && align_of::<image_cache_verify_result_t>() == 8);
    assert!(offset_of!(image_cache_verify_result_t, verified) == 0);
    assert!(offset_of!(image_cache_verify_result_t, failed) == 8);
    assert!(offset_of!(image_cache_verify_result_t, unreadable) == 16);
    assert!(offset_of!(image_cache_verify_result_t, without_digest) == 24);
    assert!(offset_of!(image_cache_verify_result_t, skipped) == 32);
    assert!(offset_of!(image_cache_verify_result_t, bytes_read) == 40);
    assert!(offset_of!(image_cache_verify_result_t, stopped) == 48);
};

impl Default for image_cache_verify_options_t {
    fn default() -> Self {
        Self { bytes_per_second: 0, skip_seconds: 0, progress: None, user_data: std::ptr::null_mut() }
    }
}

/// Verifies an image, or all: compares the bytes on the disk with the digests that were stored at the commits.
///
/// - `cache`: the cache
/// - `image_id`: the image; NULL: all images
/// - `options`: the rate, what is skipped, and a function that can stop it; NULL: the defaults
/// - `size_of_options`: sizeof *options, 1 to 4096; not used if options is NULL
/// - `result`: set to how many images are good, damaged and so on
/// - `size_of_result`: sizeof *result; of an older struct the first fields are set, of a newer one the fields that this
///   version does not have are set to 0
///
/// Returns IMAGE_CACHE_OK, also for damaged images, or
///
/// - IMAGE_CACHE_ERROR_NOT_FOUND: the image is not cached
/// - IMAGE_CACHE_ERROR_IO: the directory cannot be read, or no descriptor is left
/// - IMAGE_CACHE_ERROR_UNSUPPORTED: options sets a field that this version of the library lacks
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or result is NULL, or a size is 0 or above 4096 bytes
///
/// A damaged image has another length than at its commit, or in two readings the same wrong digest. It is moved to
/// invalid/; the reason there has both digests. Its readers keep its bytes. image_cache_open_for_read() finds another
/// length, too, but no other damage.
///
/// Each image has a digest: the strongest one that the caller of its commit expected, else a CRC-64/NVME, which detects
/// accidents, but no manipulation. A file that Glance put there, or one on a file system without extended attributes, has
/// none. Its CRC is computed, counted in without_digest, and stored for the next verification, where that is possible.
///
/// Images that were verified longest ago come first; the time is stored on their files. So a verification that was
/// stopped, or whose process died, goes on with the images that it had not finished, if skip_seconds is set; the one that it
/// was in begins again, so give it time for the largest image. Calls at the same time, in all processes, share the images:
/// each is verified by one of them. For a regular check of everything, set skip_seconds to its period.
///
/// The bytes are read from the disk where the file system allows it (O_DIRECT), and through the page cache elsewhere.
/// They do not displace others from memory, and the access times stay. At most 4 MiB of memory are used, and a thread
/// that reads ahead and ends with the call. Writers, readers, deletions and evictions go on meanwhile.
///
/// Durability: results are not synced. A power cut may lose when an image was verified.
///
/// Threads: any. Blocks: for the disk and the rate; for the cache lock, up to 10 s.
///
/// ```c
/// image_cache_verify_options_t options = {.bytes_per_second = 50 << 20, .skip_seconds = 7 * 86400};
/// image_cache_verify_result_t result;
/// status = image_cache_verify(cache, NULL, &options, sizeof options, &result, sizeof result, &error);
/// if (status == IMAGE_CACHE_OK && result.failed > 0)
///     fprintf(stderr, "%llu images were damaged\n", (unsigned long long)result.failed);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_verify(
    cache: *const image_cache_t,
    image_id: *const c_char,
    options: *const image_cache_verify_options_t,
    size_of_options: usize,
    result: *mut image_cache_verify_result_t,
    size_of_result: usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, SizedOut { name: "result", pointer: result, size: size_of_result }, error, |cache| {
            let options = sized("options", options, size_of_options)?;
            let id = if image_id.is_null() { None } else { Some(self::image_id(image_id)?) };
            cache.verify(id, &options.parsed(), progress(&options)).map(Into::into)
        })
    }
}

impl image_cache_verify_options_t {
    fn parsed(&self) -> VerifyOptions {
        VerifyOptions {
            bytes_per_second: self.bytes_per_second,
            skip_verified_within: Duration::from_secs(self.skip_seconds),
        }
    }
}

/// The caller's function, which gets the id as a C string.
fn progress(options: &image_cache_verify_options_t) -> impl FnMut(&str, u64, u64) -> ControlFlow<()> {
    let (function, user_data) = (options.progress, options.user_data);
    let mut shown = CString::default();
    move |id, done, total| {
        let Some(function) = function else { return ControlFlow::Continue(()) };
        if shown.as_bytes() != id.as_bytes() {
            // An id has no NUL.
            shown = CString::new(id).unwrap_or_default();
        }
        // SAFETY: the caller's function takes these arguments. It is called on the thread of the call.
        let answer = unsafe { function(user_data, shown.as_ptr(), done, total) };
        if answer == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl From<Verified> for image_cache_verify_result_t {
    fn from(result: Verified) -> Self {
        let Verified { verified, failed, unreadable, without_digest, skipped, bytes_read, stopped } = result;
        Self { verified, failed, unreadable, without_digest, skipped, bytes_read, stopped: stopped.into() }
    }
}
