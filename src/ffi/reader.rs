//! A reader: an open cached image.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr;

use crate::Reader;
use crate::ffi::argument::{buffer, image_id};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::{call, close, create, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};

/// An open cached image.
///
/// Created by image_cache_open_for_read(), ended by image_cache_reader_close(). While it is open, the image is in use, and
/// not evicted: see image_cache_prune(). It reads the same bytes even if the image is deleted or cached again. Use it from
/// one thread at a time.
pub struct image_cache_reader_t(Slot<Reader>);
handle!(image_cache_reader_t, Reader, "reader", exclusive);

/// Opens a cached image, which counts as an access.
///
/// - `cache`: the cache; it may be closed before the reader
/// - `image_id`: the image
/// - `reader`: set to the reader, which image_cache_reader_close() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NOT_FOUND: the image is not cached, or is being evicted
/// - IMAGE_CACHE_ERROR_IO: the image's file cannot be opened
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or reader is NULL
///
/// Until the reader closes, the image is in use, and no call evicts it. Then prune evicts it last. A failing index does
/// not fail the call.
///
/// If a process is stopped at the moment when it evicts the image, the call takes 2 ms of processor time, and finds no
/// image, for up to 45 s.
///
/// Threads: any. Blocks: for a few system calls. It waits for no lock: the index is written only while the cache lock
/// is free.
///
/// ```c
/// status = image_cache_open_for_read(cache, id, &reader, &error);
/// if (status != IMAGE_CACHE_OK) // read the store, and cache on the way where that is possible
///     status = image_cache_tee_open(cache, id, from_store, store, &tee, &error);
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
/// - `reader`: the reader
/// - `buffer`: receives the bytes; may be NULL if capacity is 0
/// - `capacity`: the size of the buffer in bytes
/// - `length`: set to the number of bytes read: 0 at the end; fewer than capacity do not mean the end
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: the file cannot be read; with os_error 0, it has become shorter than it was at the open
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: reader or length is NULL; or buffer is NULL, and capacity is not 0
///
/// Threads: one at a time. Blocks: for the disk.
///
/// ```c
/// while ((status = image_cache_read(reader, buffer, sizeof buffer, &length, &error)) == IMAGE_CACHE_OK && length > 0)
///     fwrite(buffer, 1, length, guest);
/// if (status != IMAGE_CACHE_OK) // the guest has a part: fail its boot, or send the rest from the store
///     fprintf(stderr, "%s: %s\n", id, error.message);
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

/// Reads bytes at an offset. The position of image_cache_read() does not change.
///
/// - `reader`: the reader
/// - `offset`: the offset of the first byte
/// - `buffer`: receives the bytes; may be NULL if capacity is 0
/// - `capacity`: the size of the buffer in bytes
/// - `length`: set to the number of bytes read: 0 at or beyond the end; fewer than capacity do not mean the end
///
/// Returns as image_cache_read().
///
/// Threads: one at a time. Blocks: for the disk.
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
/// - `reader`: the reader
///
/// Returns the length, or 0 for NULL.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_size(reader: *const image_cache_reader_t) -> u64 {
    // SAFETY: see the module.
    unsafe { peek(reader, 0, Reader::size) }
}

/// The path of the image's file, for a program that opens it by name.
///
/// - `reader`: the reader
///
/// Returns the path, absolute and without symbolic links when the cache was opened; or NULL for NULL and in a forked
/// child. It is the reader's, and valid until its close.
///
/// While the reader is open, the image is not evicted, and the path is its name. So keep the reader until the other program
/// has opened the path: from then on, that program keeps the image from eviction, as long as it has the file open. A
/// deletion (image_cache_delete_cached_image(), image_cache_delete_all_cached_images()) removes the name all the same.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_path(reader: *const image_cache_reader_t) -> *const c_char {
    // SAFETY: see the module.
    unsafe { peek(reader, ptr::null(), |reader| reader.c_path().map_or(ptr::null(), CStr::as_ptr)) }
}

/// The image's file descriptor, open for reading only: for sendfile, splice, mmap.
///
/// - `reader`: the reader
///
/// Returns the descriptor, or -1 for NULL and in a forked child.
///
/// The reader owns the descriptor, and closes it at its end: do not close it. It is close-on-exec. A dup() of it, for
/// another program, outlives the reader, and keeps the image in use. Its offset is 0 at the open, and the caller's to
/// move: image_cache_read() has a position of its own.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_fd(reader: *const image_cache_reader_t) -> c_int {
    // SAFETY: see the module.
    unsafe { peek(reader, -1, |reader| reader.descriptor().map_or(-1, |descriptor| descriptor.as_raw_fd())) }
}

/// Ends a reader, which counts one hit of the image.
///
/// - `reader`: the reader; may be NULL; harmless in a forked child
///
/// Hits are written at most once a second: see image_cache_get_hit_count(). A hit that cannot be written is logged, and
/// tried again later. Once the reader's cache is closed, each hit is written at once.
///
/// Threads: one at a time. Blocks: once a second for the index, if the cache lock is free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_reader_close(reader: *mut image_cache_reader_t) {
    // SAFETY: see the module.
    unsafe { close(reader) }
}
