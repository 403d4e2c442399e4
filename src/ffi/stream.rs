//! A stream: an image that all its readers on a host fetch together.

use std::ffi::{c_char, c_void};
use std::io;
use std::time::Duration;

use crate::ffi::argument::{buffer, image_id, invalid};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::{call, close, create, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::ffi::writer::expected;
use crate::{RangeSource, Stream, StreamRole};

/// Reads bytes of an image at an offset, for a stream.
///
/// - `user_data`: the pointer given to image_cache_stream_open()
/// - `offset`: where to read, in bytes
/// - `buffer`: receives the bytes
/// - `capacity`: the size of the buffer in bytes, at least 1 and at most 1 MiB. It grows from 64 KiB to 1 MiB from call to
///   call, as long as a call takes less than 250 ms
///
/// Returns the number of bytes, 0 at the end, or a negative number on failure. More than capacity is a failure, too.
///
/// The function is called on the thread that reads the stream, while others may wait for its bytes. If it does not return
/// within the source timeout of another participant, that one calls its own source, and these bytes are dropped. It must
/// not throw or longjmp, and must not use the stream for which it is called. pthread_cancel() has no effect on the thread
/// until the read returns. For bindings: see image_cache_source_fn.
pub type image_cache_range_source_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, offset: u64, buffer: *mut c_void, capacity: usize) -> i64>;

/// A reader of an image that may still have to be fetched.
///
/// Created by image_cache_stream_open(), ended by image_cache_stream_close(). Use it from one thread at a time.
pub struct image_cache_stream_t(Slot<Stream<Source>>);
handle!(image_cache_stream_t, Stream<Source>, "stream", exclusive);

/// The bytes come from the cached image.
pub const IMAGE_CACHE_STREAM_CACHED: i32 = 0;
/// The bytes that were read last came from the stream's own source, into the file that all share.
pub const IMAGE_CACHE_STREAM_FETCHING: i32 = 1;
/// The bytes that were read last came from the file that all share. Also before the first read of an image that is not cached.
pub const IMAGE_CACHE_STREAM_FOLLOWING: i32 = 2;
/// The bytes come from the stream's own source, and are not cached.
pub const IMAGE_CACHE_STREAM_ALONE: i32 = 3;

fn role(role: StreamRole) -> i32 {
    match role {
        StreamRole::Cached => IMAGE_CACHE_STREAM_CACHED,
        StreamRole::Fetching => IMAGE_CACHE_STREAM_FETCHING,
        StreamRole::Following => IMAGE_CACHE_STREAM_FOLLOWING,
        StreamRole::Alone => IMAGE_CACHE_STREAM_ALONE,
    }
}

/// The caller's function with its data.
pub(super) struct Source {
    function: unsafe extern "C" fn(*mut c_void, u64, *mut c_void, usize) -> i64,
    user_data: *mut c_void,
}

impl RangeSource for Source {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the caller's function takes its own data and a buffer with that capacity.
        let length = unsafe { (self.function)(self.user_data, offset, buffer.as_mut_ptr().cast(), buffer.len()) };
        usize::try_from(length).map_err(|_| io::Error::other(format!("the source function returned {length}")))
    }
}

/// Opens a stream: reads a cached image, or fetches it together with all other streams of it on this host.
///
/// - `cache`: the cache; it may be closed before the stream
/// - `image_id`: the image
/// - `source`: called for bytes that are not in the cache
/// - `user_data`: passed to source; it must stay valid until the stream ends
/// - `stream`: set to the stream, which image_cache_stream_close() ends
///
/// Returns IMAGE_CACHE_OK (also when the image cannot be cached), or
///
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id, source or stream is NULL
///
/// The streams of an image, in all threads and processes, share one file. One of them at a time calls its source, for one
/// piece of up to 1 MiB; all read that piece as soon as it is there. A stream that fails, hangs or is closed, or whose
/// process dies, costs the others at most the piece that it was fetching. Without participants, the file stays, and the
/// next stream resumes it.
///
/// An image that a writer or tee caches is read as it grows. If the image cannot be cached (the disk is full, the
/// directory may not be written), the stream reads from its own source, alone: see image_cache_stream_role().
///
/// A stream of a cached image counts as a reader: an access, and a hit at its close. One that has fetched the image, or
/// followed its fetch, counts no hit.
///
/// Threads: any. Blocks: for a few system calls.
///
/// ```c
/// static int64_t from_store_at(void *user_data, uint64_t offset, void *buffer, size_t capacity)
/// {
///     if (fseek(user_data, (long)offset, SEEK_SET) != 0)
///         return -1;
///     size_t length = fread(buffer, 1, capacity, user_data);
///     return length == 0 && ferror(user_data) ? -1 : (int64_t)length;
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_open(
    cache: *const image_cache_t,
    image_id: *const c_char,
    source: image_cache_range_source_fn,
    user_data: *mut c_void,
    stream: *mut *mut image_cache_stream_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        create(cache, out!(stream), error, |cache| {
            let function = source.ok_or_else(|| invalid("source is NULL"))?;
            cache.stream(self::image_id(image_id)?, Source { function, user_data })
        })
    }
}

/// Sets the length that the image must have. To be called before the first read.
///
/// - `stream`: the stream
/// - `bytes`: the image's length
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: stream is NULL, a read was made already, or another length is expected already
///
/// The source is then never called beyond the length: a longer image is cut off there, which only a digest detects.
///
/// A stream whose expectations contradict those of the fetch under way, or the cached image, reads from its own source,
/// alone.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_expect_size(
    stream: *mut image_cache_stream_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(stream, (), error, |stream| stream.expect_size(bytes)) }
}

/// Sets a digest that the image must have. To be called before the first read.
///
/// - `stream`: the stream
/// - `algorithm`: "md5", "sha256", "sha512" or "crc64nvme"
/// - `hex`: the digest in hexadecimal digits, of either case
///
/// Returns as image_cache_writer_expect_digest().
///
/// The digests that all participants expect are verified over the bytes in the file, once. Without any, the image has
/// the bytes that the participants' sources returned, which must be the same.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_expect_digest(
    stream: *mut image_cache_stream_t,
    algorithm: *const c_char,
    hex: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(stream, (), error, |stream| {
            expected(algorithm, hex).and_then(|(algorithm, hex)| stream.expect_digest(algorithm, &hex))
        })
    }
}

/// Sets how long a read waits while no byte comes.
///
/// - `stream`: the stream
/// - `milliseconds`: the time, or 0: for ever, which is the default
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: stream is NULL
///
/// After that time, a read returns IMAGE_CACHE_ERROR_TIMED_OUT, and can be called again. The time that the stream's own
/// source takes does not count. With a time above the source timeout, the read calls its own source before it times out.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_set_timeout(
    stream: *mut image_cache_stream_t,
    milliseconds: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(stream, (), error, |stream| {
            stream.set_timeout((milliseconds > 0).then_some(Duration::from_millis(milliseconds)))
        })
    }
}

/// Sets how long another participant's source may take for one call.
///
/// - `stream`: the stream
/// - `milliseconds`: the time, at least 1; 30,000 by default
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: stream is NULL, or milliseconds is 0
///
/// After that time without a new byte, a read of this stream calls its own source. A process that died is not waited for.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_set_source_timeout(
    stream: *mut image_cache_stream_t,
    milliseconds: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(stream, (), error, |stream| match milliseconds {
            0 => Err(invalid("milliseconds is 0")),
            _ => stream.set_source_timeout(Duration::from_millis(milliseconds)),
        })
    }
}

/// Reads the image's next bytes, and fetches them if nobody else does.
///
/// - `stream`: the stream
/// - `buffer`: receives the bytes; may be NULL if capacity is 0
/// - `capacity`: the size of the buffer in bytes
/// - `length`: set to the number of bytes; 0 at the end; fewer than capacity do not mean the end
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_SOURCE: the stream's own source failed, or returned more than capacity
/// - IMAGE_CACHE_ERROR_SIZE_MISMATCH: the stream's own source ended before the expected size
/// - IMAGE_CACHE_ERROR_DIGEST_MISMATCH: at the end: the bytes do not have a digest that a participant expects
/// - IMAGE_CACHE_ERROR_TIMED_OUT: no byte came within the time of image_cache_stream_set_timeout()
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: stream or length is NULL; or buffer is NULL, and capacity is not 0
///
/// Each of the first three is final for this stream. A failed source is its own stream's failure only; a digest that does
/// not match fails all participants, and the file goes to invalid/.
///
/// The end, when length is 0, comes after the image was verified. So read to the end, or set the length with
/// image_cache_stream_expect_size(). If the image cannot be cached, the call does not fail.
///
/// Durability: the participant that ends the fetch publishes the image, and the others wait for that. At the end of each,
/// it is as durable as after image_cache_commit().
///
/// Threads: one at a time. Blocks: for the source, the disk, and other participants: see
/// image_cache_stream_set_timeout(). With a hard limit or a floor, also for a prune or reservation of another process, up to
/// 1 s, and for the cache lock, up to 10 s. Then the stream goes on without caching.
///
/// ```c
/// status = image_cache_stream_open(cache, id, from_store_at, source, &stream, &error);
/// if (status == IMAGE_CACHE_OK)
///     status = image_cache_stream_expect_size(stream, bytes, &error);
/// while (status == IMAGE_CACHE_OK) {
///     status = image_cache_stream_read(stream, buffer, sizeof buffer, &length, &error);
///     if (length == 0) break; // the end, or a failure: status says which
///     fwrite(buffer, 1, length, guest);
/// }
/// image_cache_stream_close(stream);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_read(
    stream: *mut image_cache_stream_t,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(stream, out!(length), error, |stream| stream.read(self::buffer(buffer, capacity)?)) }
}

/// Reads bytes at an offset. The position of image_cache_stream_read() does not change.
///
/// - `stream`: the stream
/// - `offset`: where to read, in bytes
/// - `buffer`: receives the bytes; may be NULL if capacity is 0
/// - `capacity`: the size of the buffer in bytes
/// - `length`: set to the number of bytes; 0 at or beyond the end; fewer than capacity do not mean the end
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_SOURCE: the stream's own source failed, or returned more than capacity
/// - IMAGE_CACHE_ERROR_TIMED_OUT: no byte came within the time of image_cache_stream_set_timeout()
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: stream or length is NULL; or buffer is NULL, and capacity is not 0
///
/// Bytes that are less than 8 MiB ahead of the fetch, or less than a second at its present speed, are waited for, and what
/// is in between is fetched. Bytes further ahead come from the stream's own source, and are not cached. Bytes that are read
/// before the end of the fetch are not verified yet.
///
/// Threads: one at a time. Blocks: as image_cache_stream_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_read_at(
    stream: *mut image_cache_stream_t,
    offset: u64,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(stream, out!(length), error, |stream| stream.read_at(offset, self::buffer(buffer, capacity)?)) }
}

/// Where the bytes that were read last came from.
///
/// - `stream`: the stream
///
/// Returns one of the IMAGE_CACHE_STREAM_ constants; IMAGE_CACHE_STREAM_ALONE for NULL.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_role(stream: *const image_cache_stream_t) -> i32 {
    // SAFETY: see the module.
    unsafe { peek(stream, IMAGE_CACHE_STREAM_ALONE, |stream| role(stream.role())) }
}

/// How many bytes of the image are in the cache.
///
/// - `stream`: the stream
///
/// Returns the number of bytes; 0 for NULL, before the first read of an image that is not cached, and for a stream that is
/// alone.
///
/// Threads: one at a time. Blocks: for one system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_available(stream: *const image_cache_stream_t) -> u64 {
    // SAFETY: see the module.
    unsafe { peek(stream, 0, Stream::available) }
}

/// Ends a stream. The other participants go on.
///
/// - `stream`: the stream; may be NULL; harmless in a forked child
///
/// If it was the last participant, the image stays resumable until it stalls (see image_cache_clean()). If
/// image_cache_stream_read() has returned all bytes of an expected size, the image is verified and published, as at the
/// end.
///
/// Threads: one at a time. Blocks: for a few system calls, and for the disk if the image is published.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_stream_close(stream: *mut image_cache_stream_t) {
    // SAFETY: see the module.
    unsafe { close(stream) }
}

/// Waits until an image is cached.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `milliseconds`: how long; 0 does not wait
/// - `cached`: set to true when the image is cached, and to false when no live writer, tee or stream caches it
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or cached is NULL
/// - IMAGE_CACHE_ERROR_IO: the image's files cannot be stat'ed
/// - IMAGE_CACHE_ERROR_TIMED_OUT: the image is still being cached after that time, or another process held the cache lock
///   for 10 s
///
/// Threads: any. Blocks: up to that time, and for the cache lock once a second.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_wait_cached(
    cache: *const image_cache_t,
    image_id: *const c_char,
    milliseconds: u64,
    cached: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, out!(cached), error, |cache| {
            cache.wait_cached(self::image_id(image_id)?, Duration::from_millis(milliseconds))
        })
    }
}
