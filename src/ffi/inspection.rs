//! Options: what is inspected before an image is published.

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs::File;
use std::os::fd::AsRawFd as _;

use crate::ffi::argument::text;
use crate::ffi::call::call;
use crate::ffi::options::{UserData, change, image_cache_options_t};
use crate::ffi::status::{IMAGE_CACHE_OK, image_cache_error_t, image_cache_status_t};
use crate::{Inspector, Options, Result};

/// The size of the buffer for an inspector's reason, in bytes.
const REASON: usize = 400;

/// Inspects an image before it is published.
///
/// - `user_data`: the pointer given to image_cache_options_set_inspector()
/// - `image_id`: the image; valid until the function returns
/// - `fd`: the image's file, open for reading only, at offset 0; lent until the function returns, which must not close it
/// - `length`: the length of the file in bytes, and not the size of the disk that a guest sees
/// - `reason`: a buffer of zeros for the reason of a refusal: NUL-terminated UTF-8; messages add the id
/// - `capacity`: the size of reason in bytes
///
/// Returns IMAGE_CACHE_OK to accept the image. Any other number, a positive one too, refuses it.
///
/// The function is called on the thread that commits or imports the image, or that reads a tee or a stream to its end, or
/// closes it there: after all bytes are on the disk. fd is close-on-exec; a child can open /proc/PID/fd/FD of this process. It is called on several threads at once for several images. No lock of the cache is held, so it may take long,
/// and it may call the library. It must not wait for the same image, which is being cached until it returns. It must not
/// close the cache, throw or longjmp. pthread_cancel() has no effect on the thread until the call returns.
///
/// A binding's function must not return 0 by accident, which accepts the image. Python's ctypes returns 0 from a function
/// that raises. Catch everything, as for image_cache_source_fn, and return IMAGE_CACHE_ERROR_REFUSED.
pub type image_cache_inspect_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        image_id: *const c_char,
        fd: i32,
        length: u64,
        reason: *mut c_char,
        capacity: usize,
    ) -> image_cache_status_t,
>;

/// Sets which formats an image may have to be cached, and refuses images that are not self-contained.
///
/// - `options`: the options
/// - `formats`: names that commas (and blanks) separate, of "raw", "qcow2", "vmdk", "vhd", "vhdx" and "iso", for example "raw,qcow2"; NULL:
///   nothing is checked (the default)
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL, or formats has a name that is none of these
///
/// An image is checked before it is published, after its size and digests: its format is found as qemu does, by the
/// signatures in it. An image is refused if its format is not accepted; if it has the signatures of two formats; if it
/// has a backing file, a parent, an external data file or other extents; if it is encrypted; if it needs a feature that
/// is unknown; or if a table of it is outside of the file. docs/safe-images.md has all rules. At most 1 MiB is read.
///
/// image_cache_commit() or image_cache_import() then returns IMAGE_CACHE_ERROR_REFUSED, and the file goes to invalid/ with the reason. A tee and a
/// stream deliver all bytes of their source, and do not cache the image. Images that are cached already are not checked,
/// and neither are those that handles without this option, or other programs, put there.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_formats(
    options: *mut image_cache_options_t,
    formats: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| with_formats(old, formats))) }
}

/// Sets a function that inspects each image before it is published.
///
/// - `options`: the options
/// - `inspect`: called with each image, after its size, digests and format were checked, until the last handle of every
///   cache opened with these options has ended; NULL: none (the default)
/// - `user_data`: passed to inspect; it must stay valid as long as inspect may be called
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// A refused image is treated as by image_cache_options_set_formats(). If several processes stream an image, the inspector
/// of the one that publishes it counts: a handle never publishes what its own inspector refuses, but one without an
/// inspector may.
///
/// Threads: any. Blocks: never.
///
/// ```c
/// static image_cache_status_t inspect(void *user_data, const char *image_id, int32_t fd, uint64_t length, char *reason,
///                                     size_t capacity)
/// {
///     const uint64_t *most = user_data; // the agent's quota
///     if (length <= *most) return IMAGE_CACHE_OK;
///     snprintf(reason, capacity, "its file has %llu bytes, the quota is %llu", (unsigned long long)length, (unsigned long long)*most);
///     (void)image_id, (void)fd;
///     return IMAGE_CACHE_ERROR_REFUSED;
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_inspector(
    options: *mut image_cache_options_t,
    inspect: image_cache_inspect_fn,
    user_data: *mut c_void,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(options, (), error, |options| change(options, |old| Ok(old.inspector(inspector(inspect, user_data)))))
    }
}

unsafe fn with_formats(options: Options, formats: *const c_char) -> Result<Options> {
    if formats.is_null() {
        return Ok(options.every_format());
    }
    // SAFETY: the caller guarantees it.
    options.formats(&unsafe { text("formats", formats) }?)
}

fn inspector(inspect: image_cache_inspect_fn, user_data: *mut c_void) -> Option<Inspector> {
    let inspect = inspect?;
    let user_data = UserData(user_data);
    Some(Inspector::new(move |image_id: &str, file: &File, length| {
        // An id has no NUL.
        let image_id = CString::new(image_id).map_err(|_| "its id has a NUL".to_owned())?;
        let mut reason = [0; REASON];
        // The last byte stays 0.
        let (place, capacity) = (reason.as_mut_ptr(), REASON - 1);
        // SAFETY: the caller's function takes its own data, a text, an open file and a buffer with that capacity.
        let status = unsafe { inspect(user_data.get(), image_id.as_ptr(), file.as_raw_fd(), length, place, capacity) };
        if status == IMAGE_CACHE_OK {
            return Ok(());
        }
        reason[REASON - 1] = 0;
        // SAFETY: its last byte is 0.
        let text = unsafe { CStr::from_ptr(reason.as_ptr()) }.to_string_lossy();
        Err(if text.is_empty() { format!("its inspector returned {status}") } else { text.into_owned() })
    }))
}
