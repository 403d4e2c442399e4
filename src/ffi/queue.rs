//! The queue, and prefetching.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::ffi::argument::{image_id, invalid};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::handle::{Handle as _, Slot};
use crate::ffi::out::out;
use crate::ffi::status::{IMAGE_CACHE_OK, image_cache_error_t, image_cache_status_name, image_cache_status_t};
use crate::ffi::writer::{Hold, image_cache_writer_t};
use crate::{Error, ImageCache, Result, Writer};

/// Fetches an image for image_cache_prefetch().
///
/// - `user_data`: the pointer given to image_cache_prefetch()
/// - `image_id`: the image; valid until the function returns
/// - `writer`: the image's writer, lent until the function returns
///
/// Returns IMAGE_CACHE_OK to commit the image. Any other number, a positive one too, aborts the writer: the image stays
/// queued.
///
/// The function may call image_cache_writer_expect_size(), image_cache_writer_expect_digest() and
/// image_cache_write_chunk() for the writer. The prefetch commits or aborts the writer. The function is called on the
/// thread that called image_cache_prefetch(). It may call the library, but must not close that cache. It must not throw
/// or longjmp. pthread_cancel() has no effect on the thread until image_cache_prefetch() returns.
///
/// A binding's function must not return 0 by accident, which commits what was written. Python's ctypes returns 0 from a
/// function that raises. Catch everything, as for image_cache_source_fn, and return IMAGE_CACHE_ERROR_SOURCE. Expect
/// the size, too.
pub type image_cache_fetch_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        image_id: *const c_char,
        writer: *mut image_cache_writer_t,
    ) -> image_cache_status_t,
>;

/// Appends an image to the queue, where it stays until it is cached or removed.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `queued`: set to true if the image was appended; false otherwise
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk, a quota or the inodes are used up
/// - IMAGE_CACHE_ERROR_IO: the queue cannot be written, or a lookup in the directory failed
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or queued is NULL
///
/// The image is not appended if it is queued, cached or being cached by a live writer already. The same holds if
/// something else, for example a subdirectory, has its name.
///
/// Durability: the queue is not synced. A power cut may lose its last entries.
///
/// Threads: any. Blocks: for a few system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_queue_image(
    cache: *const image_cache_t,
    image_id: *const c_char,
    queued: *mut bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(queued), error, |cache| cache.queue_image(self::image_id(image_id)?)) }
}

/// Removes an image from the queue. An image that is not queued is no error.
///
/// - `cache`: the cache
/// - `image_id`: the image
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: the image cannot be removed
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or image_id is NULL
///
/// Durability: the queue is not synced. After a power cut the image may be queued again.
///
/// Threads: any. Blocks: for a few system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_queued_image(
    cache: *const image_cache_t,
    image_id: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, (), error, |cache| cache.delete_queued_image(self::image_id(image_id)?)) }
}

/// Empties the queue.
///
/// - `cache`: the cache
/// - `deleted`: set to the number of images removed
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_IO: the queue cannot be read, or an image cannot be removed
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache or deleted is NULL
///
/// Durability: as for image_cache_delete_queued_image().
///
/// Threads: any. Blocks: for queue/.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_delete_all_queued_images(
    cache: *const image_cache_t,
    deleted: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(cache, out!(deleted), error, ImageCache::delete_all_queued_images) }
}

/// Fetches and caches each image that is queued now, oldest first.
///
/// - `cache`: the cache
/// - `fetch`: called once for each image whose writer this call has become
/// - `user_data`: passed to fetch
/// - `fetched`: set to the number of images that this call fetched and cached
/// - `failed`: set to the number of images that were not cached, and stay queued, which is logged
///
/// Returns IMAGE_CACHE_OK (also when fetches failed), or
///
/// - IMAGE_CACHE_ERROR_IO: the queue cannot be read
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, fetch, fetched or failed is NULL
///
/// An image whose fetch fails stays queued, and the others are fetched all the same. Many threads and processes may
/// prefetch at once: each image is fetched by one of them.
///
/// Images that streams fetch come last. The call waits while they grow, and calls fetch only if all streams close before
/// the end. An image that does not grow stays queued, neither fetched nor failed: for 30 s in a source, or for 1 s
/// while no stream calls its source.
///
/// Durability: each image is as durable as after image_cache_commit().
///
/// Threads: any. Blocks: for the fetches and for the disk. No lock is held while fetch runs.
///
/// ```c
/// static image_cache_status_t fetch(void *user_data, const char *image_id, image_cache_writer_t *writer)
/// {
///     FILE *source = open_in_store(user_data, image_id); // the agent's function
///     image_cache_status_t status = source != NULL ? IMAGE_CACHE_OK : IMAGE_CACHE_ERROR_SOURCE;
///     char chunk[65536];
///     size_t length;
///     while (status == IMAGE_CACHE_OK && (length = fread(chunk, 1, sizeof chunk, source)) > 0)
///         status = image_cache_write_chunk(writer, chunk, length, NULL);
///     if (status == IMAGE_CACHE_OK && ferror(source)) status = IMAGE_CACHE_ERROR_SOURCE;
///     if (source != NULL) fclose(source);
///     return status;
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_prefetch(
    cache: *const image_cache_t,
    fetch: image_cache_fetch_fn,
    user_data: *mut c_void,
    fetched: *mut u64,
    failed: *mut u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, (out!(fetched), out!(failed)), error, |cache| {
            let fetch = fetch.ok_or_else(|| invalid("fetch is NULL"))?;
            let done =
                cache.prefetch(|image_id, writer| lend(writer, image_id, |id, writer| fetch(user_data, id, writer)))?;
            Ok((done.fetched, done.failed))
        })
    }
}

/// Lends a writer to a fetch function for the length of its call.
fn lend(
    writer: &mut Writer,
    image_id: &str,
    fetch: impl FnOnce(*const c_char, *mut image_cache_writer_t) -> image_cache_status_t,
) -> Result<()> {
    let text = CString::new(image_id).map_err(|_| Error::Internal("an image id has a NUL".to_owned()))?;
    let mut lent = image_cache_writer_t(Slot::lent(Hold::Lent { writer: NonNull::from(writer), aborted: None }));
    let status = fetch(text.as_ptr(), &raw mut lent);
    let lent = lent.into_slot();
    let is_broken = lent.broken().load(Ordering::Relaxed);
    let failed = |cause| Err(Error::Source { image_id: image_id.to_owned(), cause });
    match lent.into_value() {
        Hold::Lent { aborted: Some(reason), .. } => failed(reason),
        _ if is_broken => failed("a call for its writer met an internal error".to_owned()),
        _ if status == IMAGE_CACHE_OK => Ok(()),
        _ => {
            // SAFETY: the name is a constant string.
            let name = unsafe { CStr::from_ptr(image_cache_status_name(status)) };
            failed(format!("the fetch function returned {status} ({})", name.to_string_lossy()))
        }
    }
}
