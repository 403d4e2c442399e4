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

/// The one writer of an image, over all threads and processes of the host. Made by image_cache_begin_write(), ended by
/// image_cache_commit() or image_cache_abort(). One thread at a time may use it; the image is not locked for longer than
/// the process lives.
pub struct image_cache_writer_t(pub(super) Slot<Hold>);
handle!(image_cache_writer_t, Hold, "writer", exclusive);

/// Whose the writer is.
pub(super) enum Hold {
    /// C's, to be ended by it.
    Own(Box<Writer>),
    /// The library's, lent to a fetch function for the length of its call.
    Lent {
        writer: NonNull<Writer>,
        /// Set when the function asks to abort.
        aborted: Option<String>,
    },
}

impl Hold {
    fn writer(&mut self) -> Result<&mut Writer> {
        match self {
            Self::Own(writer) => Ok(writer),
            Self::Lent { aborted: Some(_), .. } => Err(invalid("the writer was aborted")),
            // SAFETY: what is lent outlives the call that it is lent for, and nobody else uses it meanwhile.
            Self::Lent { writer, aborted: None } => Ok(unsafe { writer.as_mut() }),
        }
    }
}

/// Begins to cache an image, and becomes its only writer.
///
/// cache     asked; it may be closed before the writer ends
/// image_id  the image
/// writer    set to the writer, which image_cache_commit() or image_cache_abort() ends; NULL on failure
/// error     filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_ALREADY_CACHED    it is cached already
///   IMAGE_CACHE_ERROR_BEING_CACHED      another live writer, of any process, has the image; one that died blocks nobody,
///                                       one that has written nothing for longer than the stall time loses it
///   IMAGE_CACHE_ERROR_NO_SPACE          the disk, a quota or the inodes are used up
///   IMAGE_CACHE_ERROR_IO                its file cannot be created, or something else (a folder, say) has its name
///   IMAGE_CACHE_ERROR_INVALID_IMAGE_ID  image_id cannot name an image
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error)
///   IMAGE_CACHE_ERROR_FORKED            the cache came here over fork()
///
/// Threads: any. Blocks: for a few system calls. Since 0.1.
///
/// ```c
/// status = image_cache_begin_write(cache, id, &writer, &error);
/// if (status == IMAGE_CACHE_OK) {
///     status = image_cache_writer_expect_digest(writer, "sha256", hex, &error);
///     while (status == IMAGE_CACHE_OK && (length = fread(buffer, 1, sizeof buffer, source)) > 0)
///         status = image_cache_write_chunk(writer, buffer, length, &error);
///     if (ferror(source)) status = IMAGE_CACHE_ERROR_SOURCE;
///     if (status == IMAGE_CACHE_OK) status = image_cache_commit(writer, &error);
///     else image_cache_abort(writer, "the download failed");
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

/// Expects the image to have that many bytes. A chunk beyond them, and a commit with fewer, fail.
///
/// writer  changed
/// bytes   the image's length
/// error   filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  writer is NULL, a chunk was written already (an empty one counts), or another
///                                       length is expected already
///   IMAGE_CACHE_ERROR_FORKED            the writer came here over fork()
///
/// Threads: one at a time. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_writer_expect_size(
    writer: *mut image_cache_writer_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(writer, (), error, |writer| writer.writer()?.expect_size(bytes)) }
}

/// Expects the image to have a digest. Several can be expected; the strongest is kept with the image. One that is refused
/// is not expected, and the writer goes on: a caller that must have its digest checked aborts.
///
/// writer     changed
/// algorithm  "md5", "sha256" or "sha512"
/// hex        the digest in hexadecimal digits, of either case
/// error      filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_UNSUPPORTED       algorithm is none of these three
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error), a digest of the wrong length or letters, a chunk was
///                                       written already, or another digest of that algorithm is expected already
///   IMAGE_CACHE_ERROR_FORKED            the writer came here over fork()
///
/// Threads: one at a time. Blocks: never. Since 0.1.
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

/// Parses what a writer or a tee is to expect.
pub(super) unsafe fn expected(algorithm: *const c_char, hex: *const c_char) -> Result<(Algorithm, String)> {
    // SAFETY: passed on.
    let (algorithm, hex) = unsafe { (text("algorithm", algorithm)?, text("hex", hex)?) };
    Ok((Algorithm::from_name(&algorithm)?, hex))
}

/// Appends bytes to the image. The first failure to write is final: every later chunk, and the commit, return it again;
/// what did not fit on a full disk gives its room back at once. A call that is refused for its arguments changes nothing.
///
/// writer  written to
/// data    the bytes, borrowed for the call; NULL is fine when length is 0
/// length  how many
/// error   filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_SIZE_MISMATCH     there are more bytes now than expected
///   IMAGE_CACHE_ERROR_LOST              the file was cleaned away, lost to another writer after a stall, or changed
///   IMAGE_CACHE_ERROR_NO_SPACE          the disk or a quota is used up
///   IMAGE_CACHE_ERROR_IO                the file cannot be written
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error, and for data when length is 0)
///   IMAGE_CACHE_ERROR_FORKED            the writer came here over fork()
///
/// Threads: one at a time. Blocks: for the disk. Since 0.1.
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

/// Publishes the image, if it is what was expected, and ends the writer, whatever the outcome. On failure the file goes to
/// invalid/, where image_cache_clean() removes it.
///
/// writer  ended; a writer that was lent to a fetch function is not, and stays as it is
/// error   filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, what an earlier image_cache_write_chunk() for this writer failed with, or
///   IMAGE_CACHE_ERROR_SIZE_MISMATCH     there are fewer bytes than expected
///   IMAGE_CACHE_ERROR_DIGEST_MISMATCH   the bytes do not have a digest that was expected
///   IMAGE_CACHE_ERROR_LOST              the file was cleaned away, lost to another writer after a stall, or changed
///   IMAGE_CACHE_ERROR_ALREADY_CACHED    another program put a file there meanwhile
///   IMAGE_CACHE_ERROR_NO_SPACE          the disk, a quota or the inodes are used up
///   IMAGE_CACHE_ERROR_IO                the file cannot be synced or moved, or something else (a folder, say) has the
///                                       image's name
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  writer is NULL, or was lent to a fetch function
///   IMAGE_CACHE_ERROR_FORKED            the writer came here over fork()
///
/// An index that cannot be written does not fail it: the log says so, and the index is put right later.
///
/// Durability: with IMAGE_CACHE_DURABILITY_FULL the image is on the disk when this returns; with
/// IMAGE_CACHE_DURABILITY_NONE it need not be.
/// Threads: one at a time. Blocks: for the disk. Since 0.1.
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

/// Gives an image up and ends the writer. Its file goes to invalid/, with the reason, until the next image_cache_clean().
///
/// writer  ended; NULL is fine; harmless in a forked child; of a writer that was lent to a fetch function, the fetch fails
/// reason  kept with the file and logged, in UTF-8; NULL for none
///
/// Threads: one at a time. Blocks: for a few system calls, and, of a long image that is hashed, for a few milliseconds. Since 0.1.
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
    // SAFETY: a writer that is not NULL is one of ours and alive.
    unsafe { writer.as_ref() }.is_some_and(|writer| writer.slot().is_lent())
}
