//! A reader: a cached image that is open.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use crate::Reader;
use crate::ffi::argument::{buffer, image_id};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::{call, close, create, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// A cached image that is open. Made by image_cache_open_for_read(), ended by image_cache_reader_close(). It goes on with
/// the same bytes when the image is deleted, pruned or cached anew. One thread at a time may use it.
pub struct image_cache_reader_t(Slot<Reader>);
handle!(image_cache_reader_t, Reader, "reader", exclusive);

/// Opens a cached image. Opening counts as use: the image becomes the last to be pruned.
///
/// cache     asked; it may be closed before the reader
/// image_id  the image
/// reader    set to the reader, which image_cache_reader_close() ends; NULL on failure
/// error     filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_NOT_FOUND         the image is not cached
///   IMAGE_CACHE_ERROR_IO                the image's file cannot be opened
///   IMAGE_CACHE_ERROR_INVALID_IMAGE_ID  image_id cannot name an image
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// A failing index does not fail it.
///
/// Threads: any. Blocks: for a few system calls, and, a few times in a second, for the index. Since 0.1.
///
/// ```c
/// status = image_cache_open_for_read(cache, id, &reader, &error);
/// if (status == IMAGE_CACHE_ERROR_NOT_FOUND) // from the store then, and cached on the way
///     status = image_cache_tee_open(cache, id, from_store, source, &tee, &error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_open_for_read(
    cache: *const image_cache_t,
    image_id: *const c_char,
    reader: *mut *mut image_cache_reader_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { create(cache, out!(reader), error, |cache| cache.open_for_read(self::image_id(image_id)?)) }
}

/// Reads the image's next bytes.
///
/// reader    read from
/// buffer    the bytes go there; NULL is fine when capacity is 0
/// capacity  how many bytes it has room for
/// length    set to how many came: fewer than capacity is no sign of the end, 0 is; 0 on failure
/// error     filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_IO                the file cannot be read; with os_error 0, it has become shorter than it was at the
///                                       open
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error, and for buffer when capacity is 0)
///   IMAGE_CACHE_ERROR_FORKED            the reader came here over fork()
///
/// Threads: one at a time. Blocks: for the disk. Since 0.1.
///
/// ```c
/// while ((status = image_cache_read(reader, buffer, sizeof buffer, &length, &error)) == IMAGE_CACHE_OK && length > 0)
///     fwrite(buffer, 1, length, guest);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_read(
    reader: *mut image_cache_reader_t,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(reader, out!(length), error, |reader| reader.read(self::buffer(buffer, capacity)?)) }
}

/// Reads bytes at an offset. image_cache_read() goes on where it was.
///
/// reader    read from
/// offset    of the first byte
/// buffer    the bytes go there; NULL is fine when capacity is 0
/// capacity  how many bytes it has room for
/// length    set to how many came: fewer than capacity is no sign of the end; 0 at or beyond the end, and on failure
/// error     filled on failure; may be NULL
///
/// Returns as image_cache_read().
///
/// Threads: one at a time. Blocks: for the disk. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_read_at(
    reader: *mut image_cache_reader_t,
    offset: u64,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(reader, out!(length), error, |reader| reader.read_at(offset, self::buffer(buffer, capacity)?)) }
}

/// The image's length in bytes.
///
/// reader  asked
///
/// Returns the length, or 0 for NULL.
///
/// Threads: one at a time. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_size(reader: *const image_cache_reader_t) -> u64 {
    // SAFETY: see the module.
    unsafe { peek(reader, 0, Reader::size) }
}

/// The image's file descriptor, open for reading only: for sendfile, splice, mmap. image_cache_read() does not use the
/// file's own offset.
///
/// reader  asked
///
/// Returns the descriptor, or -1 for NULL and in a forked child.
///
/// The descriptor stays the reader's: it must not be closed, and is gone with the reader. It is close-on-exec; a dup() of
/// it, to hand to another program, outlives the reader.
///
/// Threads: one at a time. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_fd(reader: *const image_cache_reader_t) -> c_int {
    // SAFETY: see the module.
    unsafe { peek(reader, -1, |reader| reader.descriptor().map_or(-1, |descriptor| descriptor.as_raw_fd())) }
}

/// Ends a reader, which counts one hit of the image.
///
/// reader  ended; NULL is fine; harmless in a forked child
///
/// The first few hits in each second are written at once, others later: see image_cache_get_hit_count(). What cannot be written
/// is logged, and tried again later. Once the reader's cache is closed, each hit is written at once.
///
/// Threads: one at a time. Blocks: a few times in a second for the index. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_close(reader: *mut image_cache_reader_t) {
    // SAFETY: see the module.
    unsafe { close(reader) }
}
