//! A tee: delivers a source's bytes, and caches them on the way.

use std::ffi::{c_char, c_void};
use std::io::{self, Read};

use crate::ffi::argument::{buffer, image_id, invalid};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::{call, close, create, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::ffi::writer::expected;
use crate::{Result, Tee};

/// Reads the next bytes of an image for a tee.
///
/// - `user_data`: the pointer given to image_cache_tee_open()
/// - `buffer`: receives the bytes
/// - `capacity`: the size of the buffer in bytes, at least 1
///
/// Returns the number of bytes, 0 at the end, or a negative number on failure. More than capacity is a failure, too.
///
/// The function is called on the thread that calls image_cache_tee_read(). It is not called again after a failure. It
/// must not throw or longjmp. pthread_cancel() has no effect on the thread until image_cache_tee_read() returns.
///
/// A binding's function must not return a number by accident. Python's ctypes returns 0, or any number, from a function
/// that raises. A Go function that panics ends the process. Catch everything, and expect a size or call
/// image_cache_tee_refuse_empty(). Whole programs: docs/languages.md#python, docs/languages.md#go. Their sources:
///
/// ```python
/// @CFUNCTYPE(c_int64, c_void_p, c_void_p, c_size_t)  # keep a reference to it until the tee is closed
/// def source(user_data, buffer, capacity):
///     try:
///         data = store.read(capacity)
///         if len(data) > capacity:
///             return -1
///         memmove(buffer, data, len(data))
///         return len(data)
///     except BaseException:
///         return -1
/// ```
///
/// ```go
/// //export source
/// func source(user_data, buffer unsafe.Pointer, capacity C.size_t) (length C.int64_t) {
///     length = -1
///     defer func() { recover() }()
///     n, err := store.Read(unsafe.Slice((*byte)(buffer), capacity))
///     if n == 0 && err != io.EOF { return -1 }
///     return C.int64_t(n)
/// }
/// ```
pub type image_cache_source_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, buffer: *mut c_void, capacity: usize) -> i64>;

/// A source that is read, and cached on the way.
///
/// Created by image_cache_tee_open(), ended by image_cache_tee_close(). Use it from one thread at a time.
pub struct image_cache_tee_t(Slot<Tee<Source>>);
handle!(image_cache_tee_t, Tee<Source>, "tee", exclusive);

/// The caller's function with its data.
pub(super) struct Source {
    function: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> i64,
    user_data: *mut c_void,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the caller's function takes its own data and a buffer with that capacity.
        let length = unsafe { (self.function)(self.user_data, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(length).map_err(|_| io::Error::other(format!("the source function returned {length}")))
    }
}

/// Opens a tee, which reads from the caller's source, delivers the bytes, and caches them on the way.
///
/// - `cache`: the cache; it may be closed before the tee
/// - `image_id`: the image
/// - `source`: called once for each image_cache_tee_read()
/// - `user_data`: passed to source; it must stay valid until the tee ends
/// - `tee`: set to the tee, which image_cache_tee_close() ends
///
/// Returns IMAGE_CACHE_OK (also when the image cannot be cached), or
///
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id, source or tee is NULL
///
/// If the image cannot be cached (it is cached already, another writer has it, the disk is full), the tee delivers
/// the bytes without caching: see image_cache_tee_is_caching().
///
/// Threads: any. Blocks: for the cache lock, up to 10 s. Then the tee delivers without caching.
///
/// ```c
/// static int64_t from_store(void *user_data, void *buffer, size_t capacity)
/// {
///     size_t length = fread(buffer, 1, capacity, user_data);
///     return length == 0 && ferror(user_data) ? -1 : (int64_t)length;
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_open(
    cache: *const image_cache_t,
    image_id: *const c_char,
    source: image_cache_source_fn,
    user_data: *mut c_void,
    tee: *mut *mut image_cache_tee_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        create(cache, out!(tee), error, |cache| {
            let function = source.ok_or_else(|| invalid("source is NULL"))?;
            cache.tee(self::image_id(image_id)?, Source { function, user_data })
        })
    }
}

/// Sets the length that the source must have. To be called before the first read.
///
/// - `tee`: the tee
/// - `bytes`: the image's length
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: tee is NULL, a read was made already, or another length is expected already
///
/// With a hard limit or a floor, room for the image is reserved now. If there is none, the tee goes on without caching.
///
/// After a failure nothing is cached any more, because it could not be checked. The bytes are still delivered.
/// If a hard limit or a floor leaves no room for them, nothing is cached, and the call does not fail.
///
/// Threads: one at a time. Blocks: never; after a failure, up to 10 s for the cache lock; with a hard limit or a floor, as
/// image_cache_tee_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_expect_size(
    tee: *mut image_cache_tee_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(tee, (), error, |tee| tee.expect_size(bytes)) }
}

/// Refuses an empty image. To be called before the first read.
///
/// If the source returns 0 in its first call, the tee fails with IMAGE_CACHE_ERROR_SIZE_MISMATCH, and nothing is
/// published. This is for bindings, whose functions may return 0 by accident.
///
/// - `tee`: the tee
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: tee is NULL, or was read already
///
/// After a failure nothing is cached any more. The bytes are still delivered.
///
/// Threads: one at a time. Blocks: never; after a failure, up to 10 s for the cache lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_refuse_empty(
    tee: *mut image_cache_tee_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(tee, (), error, Tee::refuse_empty) }
}

/// Sets a digest that the source's bytes must have. To be called before the first read.
///
/// - `tee`: the tee
/// - `algorithm`: "md5", "sha256", "sha512" or "crc64nvme"
/// - `hex`: the digest in hexadecimal digits, of either case
///
/// Returns as image_cache_writer_expect_digest().
///
/// After a failure nothing is cached any more, because it could not be checked. The bytes are still delivered.
///
/// Threads: one at a time. Blocks: never; after a failure, up to 10 s for the cache lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_expect_digest(
    tee: *mut image_cache_tee_t,
    algorithm: *const c_char,
    hex: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(tee, (), error, |tee| expect_digest(tee, expected(algorithm, hex))) }
}

fn expect_digest(tee: &mut Tee<Source>, expected: Result<(crate::Algorithm, String)>) -> Result<()> {
    match expected {
        Ok((algorithm, hex)) => tee.expect_digest(algorithm, &hex),
        // The tee gives up caching, as for a digest that it refuses.
        Err(error) => tee.give_up(&error.to_string()).and(Err(error)),
    }
}

/// Reads the source's next bytes, with one call of the source, and caches them.
///
/// - `tee`: the tee
/// - `buffer`: receives the bytes; may be NULL if capacity is 0
/// - `capacity`: the size of the buffer in bytes; with 0 the source is not called
/// - `length`: set to the number of bytes; 0 at the end
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_SOURCE: the source failed, or returned more than capacity
/// - IMAGE_CACHE_ERROR_SIZE_MISMATCH: at the end: there are more or fewer bytes than expected, or none after
///   image_cache_tee_refuse_empty()
/// - IMAGE_CACHE_ERROR_DIGEST_MISMATCH: at the end: the bytes do not have an expected digest
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: tee or length is NULL; or buffer is NULL, and capacity is not 0
///
/// At the source's end, when length is 0, the image is published. So read to the end, or set the length with
/// image_cache_tee_expect_size().
///
/// Size and digest are checked after all bytes were delivered, whether they were cached or not. If the image cannot be
/// cached, the call does not fail. After the end or a failure, each further call returns the same.
///
/// Durability: an image that was published at the end is as durable as after image_cache_commit().
///
/// Threads: one at a time.
///
/// Blocks: for the source and for the disk. At the end, and where the tee gives up caching, also for the cache lock: up
/// to 10 s each time, twice at most. With a hard limit or a floor, also for a prune or reservation of another process: up to
/// 1 s. Then the bytes are delivered without caching.
///
/// ```c
/// status = image_cache_tee_open(cache, id, from_store, store, &tee, &error);
/// while (status == IMAGE_CACHE_OK) {
///     status = image_cache_tee_read(tee, buffer, sizeof buffer, &length, &error);
///     if (length == 0) break; // the end, or a failure: status says which
///     fwrite(buffer, 1, length, guest);
/// }
/// if (status != IMAGE_CACHE_OK) // the guest has a part, or wrong bytes: nothing was published
///     fprintf(stderr, "%s: %s\n", id, error.message);
/// image_cache_tee_close(tee);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_read(
    tee: *mut image_cache_tee_t,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(tee, out!(length), error, |tee| tee.read(self::buffer(buffer, capacity)?)) }
}

/// Whether the bytes are being cached, or were cached at the end.
///
/// - `tee`: the tee
///
/// Returns true; or false for NULL, and after the tee gave up caching.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_is_caching(tee: *const image_cache_tee_t) -> bool {
    // SAFETY: see the module.
    unsafe { peek(tee, false, Tee::is_caching) }
}

/// Ends a tee. Before the source's end, the file goes to invalid/.
///
/// - `tee`: the tee; may be NULL; harmless in a forked child
///
/// Exception: if a size was expected, and that many bytes have come, the image is checked and published as at the
/// source's end. If it is not published, this is logged.
///
/// Durability: an image that is published here is as durable as after image_cache_commit().
///
/// Threads: one at a time. Blocks: for the cache lock, and for the disk if the image is published, as
/// image_cache_commit().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_tee_close(tee: *mut image_cache_tee_t) {
    // SAFETY: see the module.
    unsafe { close(tee) }
}
