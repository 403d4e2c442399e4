//! A writer: an image that is being cached.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;

use crate::ffi::argument::{data, image_id, invalid, text};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::{call, create, end};
use crate::ffi::handle::{Handle as _, Slot, handle};
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{Algorithm, Error, Result, Writer};

/// The one writer of an image, over all threads and processes of the host.
///
/// Created by image_cache_begin_write(), ended by image_cache_commit() or image_cache_abort(). Use it from one thread
/// at a time. Its lock on the image lasts no longer than the process.
pub struct image_cache_writer_t(pub(super) Slot<Hold>);
handle!(image_cache_writer_t, Hold, "writer", exclusive);

/// Who owns the writer.
pub(super) enum Hold {
    /// C owns it, and ends it.
    Own(Box<Writer>),
    /// The library owns it, and lends it to a fetch function for the length of its call.
    Lent {
        writer: NonNull<Writer>,
        /// Set when the function aborts it.
        aborted: Option<String>,
    },
}

impl Hold {
    fn writer(&mut self) -> Result<&mut Writer> {
        match self {
            Self::Own(writer) => Ok(writer),
            Self::Lent { aborted: Some(_), .. } => Err(invalid("the writer was aborted")),
            // SAFETY: `lend` keeps the writer alive during the call, and does not use it meanwhile.
            Self::Lent { writer, aborted: None } => Ok(unsafe { writer.as_mut() }),
        }
    }
}

/// Begins to cache an image, and becomes its only writer.
///
/// - `cache`: the cache; it may be closed before the writer ends
/// - `image_id`: the image
/// - `writer`: set to the writer, which image_cache_commit() or image_cache_abort() ends
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_ALREADY_CACHED: the image is cached already
/// - IMAGE_CACHE_ERROR_BEING_CACHED: another live writer, in any process, has the image
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk, a quota or the inodes are used up
/// - IMAGE_CACHE_ERROR_IO: its file cannot be created; something else, for example a subdirectory, has its name; or a
///   file that a restart may have torn has its name, and cannot be removed
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or writer is NULL
///
/// A dead writer blocks no other. A live writer that has written nothing for longer than the stall time loses the
/// image, unless it verifies, syncs or publishes. With BEING_CACHED, the message has the writer's process id, and for
/// how long it has been writing. A file in incomplete/ that another program wrote counts as a live writer's. A fetch
/// that its streams have left is replaced, and its bytes are lost: a stream would resume it.
///
/// Threads: any. Blocks: for the cache lock, up to 10 s.
///
/// ```c
/// status = image_cache_begin_write(cache, id, &writer, &error);
/// if (status == IMAGE_CACHE_OK) {
///     status = image_cache_writer_expect_digest(writer, "sha256", hex, &error);
///     while (status == IMAGE_CACHE_OK && (length = fread(buffer, 1, sizeof buffer, store)) > 0)
///         status = image_cache_write_chunk(writer, buffer, length, &error);
///     if (status == IMAGE_CACHE_OK && ferror(store)) status = IMAGE_CACHE_ERROR_SOURCE;
///     if (status == IMAGE_CACHE_OK) status = image_cache_commit(writer, &error); // ends the writer
///     else image_cache_abort(writer, "the download failed");                     // ends it as well
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_begin_write(
    cache: *const image_cache_t,
    image_id: *const c_char,
    writer: *mut *mut image_cache_writer_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        create(cache, out!(writer), error, |cache| {
            cache.begin_write(self::image_id(image_id)?).map(Box::new).map(Hold::Own)
        })
    }
}

/// Sets the length that the image must have.
///
/// - `writer`: the writer
/// - `bytes`: the image's length
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: writer is NULL, a chunk was written already (an empty one counts), or another
///   length is expected already
/// - IMAGE_CACHE_ERROR_NO_SPACE: the cache has a hard limit or a floor, and so many bytes do not fit
/// - IMAGE_CACHE_ERROR_IO: room cannot be reserved
///
/// A chunk beyond this length fails. A commit with fewer bytes fails.
///
/// With a hard limit or a floor, room for the image is reserved now, and images are evicted for it: before a byte is
/// fetched. A failure of that is final: every chunk, and the commit, return it again.
///
/// Threads: one at a time. Blocks: never; with a hard limit or a floor, as image_cache_write_chunk().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_writer_expect_size(
    writer: *mut image_cache_writer_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(writer, (), error, |writer| writer.writer()?.expect_size(bytes)) }
}

/// Sets a digest that the image must have. Several digests can be expected.
///
/// - `writer`: the writer
/// - `algorithm`: "md5", "sha256", "sha512" or "crc64nvme"
/// - `hex`: the digest in hexadecimal digits, of either case
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_UNSUPPORTED: algorithm is none of these
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: writer, algorithm or hex is NULL; hex has the wrong length or letters; a chunk
///   was written already; or another digest of that algorithm is expected already
///
/// The strongest digest is stored with the image. After a failure the digest is not expected, and the writer can still
/// be used. If the digest must be checked, abort.
///
/// Threads: one at a time. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_writer_expect_digest(
    writer: *mut image_cache_writer_t,
    algorithm: *const c_char,
    hex: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(writer, (), error, |writer| {
            expected(algorithm, hex).and_then(|(algorithm, hex)| writer.writer()?.expect_digest(algorithm, &hex))
        })
    }
}

/// Parses the expected digest of a writer or a tee.
pub(super) unsafe fn expected(algorithm: *const c_char, hex: *const c_char) -> Result<(Algorithm, String)> {
    // SAFETY: the caller guarantees it.
    let (algorithm, hex) = unsafe { (text("algorithm", algorithm)?, text("hex", hex)?) };
    Ok((Algorithm::from_name(&algorithm)?, hex))
}

/// Appends bytes to the image.
///
/// - `writer`: the writer
/// - `data`: the bytes, borrowed for the call; may be NULL if length is 0
/// - `length`: the number of bytes
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_SIZE_MISMATCH: there are more bytes now than expected
/// - IMAGE_CACHE_ERROR_LOST: the file was cleaned away, lost to another writer after a stall, or changed
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk or a quota is used up; or a hard limit or a floor leaves no room
/// - IMAGE_CACHE_ERROR_IO: the file cannot be written
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: writer is NULL; or data is NULL, and length is not 0
///
/// The first failure to write is final: every later chunk, and the commit, return it again. If the disk is full, the
/// space of the image is freed at once. A call with an invalid argument changes nothing.
///
/// Threads: one at a time. Blocks: for the disk; with a hard limit or a floor, also for a prune or reservation of another
/// process, up to 10 s, and for the cache lock, up to 10 s; then it returns IMAGE_CACHE_ERROR_TIMED_OUT, which is final.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_write_chunk(
    writer: *mut image_cache_writer_t,
    data: *const c_void,
    length: usize,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(writer, (), error, |writer| writer.writer()?.write_chunk(self::data(data, length)?)) }
}

/// Appends a hole to the image: bytes that are 0, and take up no room on the disk.
///
/// - `writer`: the writer
/// - `length`: how many bytes; 0 is allowed
///
/// Returns as image_cache_write_chunk().
///
/// The bytes count for size and digests as written zeros do, but are neither written nor read. With crc64nvme, the digest
/// that is computed where none is expected, any number of them takes milliseconds. Other digests hash them: 1 TiB takes
/// half an hour or more with a SHA-256. To report progress then, or to be able to stop, append a long hole in several
/// calls. With a hard limit or a floor, what was reserved for these bytes is freed.
///
/// Threads: one at a time. Blocks: for the disk.
///
/// ```c
/// status = image_cache_write_chunk(writer, buffer, sizeof buffer, &error);
/// if (status == IMAGE_CACHE_OK)
///     status = image_cache_write_hole(writer, (10 << 20) - sizeof buffer, &error);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_write_hole(
    writer: *mut image_cache_writer_t,
    length: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(writer, (), error, |writer| writer.writer()?.write_hole(length)) }
}

/// Publishes the image if it is as expected. Ends the writer, also on failure.
///
/// - `writer`: the writer; one that was lent to a fetch function is not ended, and stays as it is
///
/// Returns IMAGE_CACHE_OK, the failure of an earlier image_cache_write_chunk() for this writer, or
///
/// - IMAGE_CACHE_ERROR_SIZE_MISMATCH: there are fewer bytes than expected
/// - IMAGE_CACHE_ERROR_DIGEST_MISMATCH: the bytes do not have an expected digest
/// - IMAGE_CACHE_ERROR_REFUSED: image_cache_options_set_formats() does not accept the image, or the function of
///   image_cache_options_set_inspector() refused it
/// - IMAGE_CACHE_ERROR_LOST: the file was cleaned away, lost to another writer after a stall, or changed
/// - IMAGE_CACHE_ERROR_ALREADY_CACHED: another program put a file there meanwhile
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk, a quota or the inodes are used up
/// - IMAGE_CACHE_ERROR_IO: the file cannot be synced or moved, or something else, for example a subdirectory, has the
///   image's name
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: writer is NULL, or was lent to a fetch function
///
/// On failure the file goes to invalid/, where image_cache_clean() removes it. An index that cannot be written does not
/// fail the commit: it is logged, and the index is rebuilt later.
///
/// Durability: with IMAGE_CACHE_DURABILITY_FULL the image is on the disk when this returns. With
/// IMAGE_CACHE_DURABILITY_NONE it need not be.
///
/// Threads: one at a time.
///
/// Blocks: for the disk, and for the cache lock, up to 10 s each time. The commit takes the lock to publish the image.
/// With full durability it takes it again after the last sync; a time-out is then only logged. With
/// IMAGE_CACHE_DURABILITY_NONE, a handle's first commit takes it once more, before it publishes. An inspector may take any
/// time, without the lock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_commit(
    writer: *mut image_cache_writer_t,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        if is_lent(writer) {
            call(writer, (), error, |_| Err(invalid("the writer is the prefetch's, which commits it")))
        } else {
            end(writer, error, |hold| match hold {
                Hold::Own(writer) => writer.commit(),
                Hold::Lent { .. } => Err(Error::Internal("a writer that was lent was ended".to_owned())),
            })
        }
    }
}

/// Ends the writer without publishing the image.
///
/// - `writer`: the writer; may be NULL; harmless in a forked child; if it was lent to a fetch function, the fetch fails
/// - `reason`: stored with the file and logged, in UTF-8; NULL for none
///
/// The file goes to invalid/ with the reason, until the next image_cache_clean().
///
/// Threads: one at a time. Blocks: for the cache lock, up to 10 s; and for a few milliseconds if a long
/// image is hashed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_abort(writer: *mut image_cache_writer_t, reason: *const c_char) {
    // SAFETY: see the module.
    unsafe {
        let reason = text("reason", reason).unwrap_or_else(|_| "it was aborted".to_owned());
        if is_lent(writer) {
            call(writer, (), std::ptr::null_mut(), |hold| {
                if let Hold::Lent { aborted, .. } = hold {
                    *aborted = Some(reason);
                }
                Ok(())
            });
        } else if !writer.is_null() {
            end(writer, std::ptr::null_mut(), |hold| {
                if let Hold::Own(writer) = hold {
                    writer.abort(&reason);
                }
                Ok(())
            });
        }
    }
}

unsafe fn is_lent(writer: *const image_cache_writer_t) -> bool {
    // SAFETY: a writer that is not NULL is valid.
    unsafe { writer.as_ref() }.is_some_and(|writer| writer.slot().is_lent())
}
