//! In and out: an image is copied to a file of the caller's, or from one.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use crate::ffi::argument::{image_id, invalid, sized, text};
use crate::ffi::cache::image_cache_t;
use crate::ffi::call::call;
use crate::ffi::out::out;
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{Algorithm, Copied, CopyMode, ExportOptions, ImportOptions, Result};

/// How an image is copied: the fastest way that works (the default).
pub const IMAGE_CACHE_COPY_ANY: i32 = 0;
/// The blocks on the disk are shared (reflink). None is copied.
pub const IMAGE_CACHE_COPY_REFLINK: i32 = 1;
/// The bytes are copied through a buffer. No blocks are shared.
pub const IMAGE_CACHE_COPY_BYTES: i32 = 2;
/// The bytes were copied in the kernel. Some network file systems share blocks, or copy on the server.
pub const IMAGE_CACHE_COPY_IN_KERNEL: i32 = 3;

/// Reports how far a copy is, and can stop it.
///
/// - `user_data`: the pointer in the options
/// - `done`: how many bytes are done, with those of holes
/// - `total`: how many bytes there are; of a pipe the expected size, or 0
///
/// Returns 0 to go on. Any other number stops the call, which returns IMAGE_CACHE_ERROR_SOURCE.
///
/// It is called before the first byte, after each piece of up to 16 MiB, and at the end, on the thread of the call: the end
/// of an export is after the sync, that of an import before the image is inspected, synced and published. A piece of a
/// hole is longer: up to 256 MiB, and all of it if no digest but a crc64nvme is computed. The function may call the
/// library, but must not close that cache. It must not throw or longjmp.
pub type image_cache_copy_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64) -> i32>;

/// Options of image_cache_export().
///
/// The caller allocates it, and sets all of it to 0 first: 0 is the default of each field. Later versions may append
/// fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct image_cache_export_options_t {
    /// 1: the copy is on the disk when the call returns; 0: the kernel writes it back later.
    pub sync: u64,
    /// Called while bytes are copied, and can stop it; NULL: none.
    pub progress: image_cache_copy_progress_fn,
    /// Passed to progress.
    pub user_data: *mut c_void,
}

/// Options of image_cache_import().
///
/// The caller allocates it, and sets all of it to 0 first: 0 is the default of each field. Later versions may append
/// fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct image_cache_import_options_t {
    /// 1: the image must have size bytes; 0: any length is good, and size is 0.
    pub expects_size: u64,
    /// The expected length in bytes, with expects_size.
    pub size: u64,
    /// The expected MD5 in hexadecimal digits; NULL: none.
    pub md5: *const c_char,
    /// The expected SHA-256 in hexadecimal digits; NULL: none.
    pub sha256: *const c_char,
    /// The expected SHA-512 in hexadecimal digits; NULL: none.
    pub sha512: *const c_char,
    /// Called while bytes are copied or hashed, and can stop it; NULL: none.
    pub progress: image_cache_copy_progress_fn,
    /// Passed to progress.
    pub user_data: *mut c_void,
}

// C programs have these layouts compiled in. tests/abi/layout.c checks the same of the header.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<image_cache_import_options_t>() == 56 && align_of::<image_cache_import_options_t>() == 8);
    assert!(offset_of!(image_cache_import_options_t, expects_size) == 0);
    assert!(offset_of!(image_cache_import_options_t, size) == 8);
    assert!(offset_of!(image_cache_import_options_t, md5) == 16);
    assert!(offset_of!(image_cache_import_options_t, sha256) == 24);
    assert!(offset_of!(image_cache_import_options_t, sha512) == 32);
    assert!(offset_of!(image_cache_import_options_t, progress) == 40);
    assert!(offset_of!(image_cache_import_options_t, user_data) == 48);
    assert!(size_of::<image_cache_export_options_t>() == 24 && align_of::<image_cache_export_options_t>() == 8);
    assert!(offset_of!(image_cache_export_options_t, sync) == 0);
    assert!(offset_of!(image_cache_export_options_t, progress) == 8);
    assert!(offset_of!(image_cache_export_options_t, user_data) == 16);
};

impl Default for image_cache_export_options_t {
    fn default() -> Self {
        Self { sync: 0, progress: None, user_data: std::ptr::null_mut() }
    }
}

impl Default for image_cache_import_options_t {
    fn default() -> Self {
        let none = std::ptr::null();
        let user_data = std::ptr::null_mut();
        Self { expects_size: 0, size: 0, md5: none, sha256: none, sha512: none, progress: None, user_data }
    }
}

/// Copies a cached image to an open file: at once where the file systems share blocks (reflink), else in the kernel.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `fd`: a regular file that is open for writing; it stays the caller's. Its former bytes are lost
/// - `how`: IMAGE_CACHE_COPY_ANY; IMAGE_CACHE_COPY_REFLINK: share blocks, or fail; IMAGE_CACHE_COPY_BYTES: share none, so
///   that later writes to the copy need no new blocks
/// - `options`: whether it is synced, and a function that can stop it; NULL: the defaults
/// - `size_of_options`: sizeof *options, 1 to 4096; not used if options is NULL
/// - `done`: set to how it was copied: IMAGE_CACHE_COPY_REFLINK, IMAGE_CACHE_COPY_IN_KERNEL or IMAGE_CACHE_COPY_BYTES
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_NOT_FOUND: the image is not cached
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk or the quota of the target is used up
/// - IMAGE_CACHE_ERROR_IO: the image cannot be read, the target cannot be written or synced; with os_error 0, another
///   program has made the image shorter
/// - IMAGE_CACHE_ERROR_SOURCE: progress stopped it
/// - IMAGE_CACHE_ERROR_UNSUPPORTED: blocks must be shared, and cannot be; or options sets a field that this version of the
///   library lacks
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or done is NULL; how is unknown; size_of_options is 0 or above 4096
///   bytes; or fd is not open for writing, is no regular file, is a file of the cache, or is open with O_DIRECT
///
/// The copy is a file of its own: writing to it never changes the cache. It has exactly the bytes of the image, and the same
/// holes where the file systems can tell. The offset of fd stays. With O_APPEND, some file systems share no blocks. This counts as an access and a hit.
///
/// After IMAGE_CACHE_ERROR_INVALID_ARGUMENT, NOT_FOUND and INVALID_IMAGE_ID, the target is as it was. Any other failure
/// truncates it to 0, unless that is refused (chattr +a). A process that is killed meanwhile leaves a part: give the file its final name after the call.
///
/// Blocks are shared within one file system of XFS, btrfs, bcachefs or OCFS2, and take milliseconds for any size. Elsewhere, and across
/// file systems, the data is copied; holes cost nothing.
///
/// Durability: with sync, bytes and length are on the disk when this returns. The name of the file is the caller's to sync.
///
/// Threads: any. Blocks: for the disk.
///
/// ```c
/// int fd = open("/var/lib/guests/17.raw.part", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
/// status = image_cache_export(cache, id, fd, IMAGE_CACHE_COPY_ANY, NULL, 0, &done, &error);
/// if (close(fd) == 0 && status == IMAGE_CACHE_OK) rename("/var/lib/guests/17.raw.part", "/var/lib/guests/17.raw");
/// else unlink("/var/lib/guests/17.raw.part");
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_export(
    cache: *const image_cache_t,
    image_id: *const c_char,
    fd: c_int,
    how: i32,
    options: *const image_cache_export_options_t,
    size_of_options: usize,
    done: *mut i32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, out!(done), error, |cache| {
            let options = sized("options", options, size_of_options)?;
            let id = self::image_id(image_id)?;
            let progress = progress(options.progress, options.user_data);
            cache.export(id, descriptor(fd)?, options.parsed(how)?, progress).map(number_of)
        })
    }
}

/// Caches an open file: by sharing its blocks where the file systems can (reflink), else by a copy.
///
/// - `cache`: the cache
/// - `image_id`: the image
/// - `fd`: a regular file or a block device, which is read from its beginning, or a pipe or a socket, which is read to its end; open for
///   reading. It stays the caller's. Its offset moves meanwhile, and is restored: no two calls for one open file at once
/// - `how`: IMAGE_CACHE_COPY_ANY; IMAGE_CACHE_COPY_REFLINK: share blocks, or fail; IMAGE_CACHE_COPY_BYTES: share none
/// - `options`: what is expected of the image, and a function that can stop it; NULL: nothing is expected
/// - `size_of_options`: sizeof *options, 1 to 4096; not used if options is NULL
/// - `done`: set to how it was copied: IMAGE_CACHE_COPY_REFLINK or IMAGE_CACHE_COPY_BYTES
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_ALREADY_CACHED: the image is cached already
/// - IMAGE_CACHE_ERROR_BEING_CACHED: another live writer, in any process, has the image
/// - IMAGE_CACHE_ERROR_SIZE_MISMATCH: the source has another length than expected, or its length changed meanwhile
/// - IMAGE_CACHE_ERROR_DIGEST_MISMATCH: the image has another digest than expected
/// - IMAGE_CACHE_ERROR_REFUSED: image_cache_options_set_formats() does not accept the image, or the function of
///   image_cache_options_set_inspector() refused it
/// - IMAGE_CACHE_ERROR_NO_SPACE: the disk, a quota or the inodes are used up; or a hard limit or a floor leaves no room
/// - IMAGE_CACHE_ERROR_IO: the source cannot be read, the image cannot be written, synced or moved
/// - IMAGE_CACHE_ERROR_LOST: the file was cleaned away, lost to another writer after a stall, or changed
/// - IMAGE_CACHE_ERROR_SOURCE: progress stopped it
/// - IMAGE_CACHE_ERROR_UNSUPPORTED: blocks must be shared, and cannot be; or options sets a field that this version of the
///   library lacks
/// - IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_id is not a valid image id
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: cache, image_id or done is NULL; how is unknown; a digest has the wrong length or letters;
///   there is a size without expects_size; size_of_options is 0 or above 4096 bytes; or fd is not open for reading, is a directory or a character device, or is
///   open with O_DIRECT
///
/// Size and digests are those of the bytes in the cache's file: a program that writes to the source meanwhile does not
/// matter after the blocks are shared, and else gives an image with the bytes that were read. Without an expected digest, the image gets
/// a crc64nvme. Each byte is read once for its digest; holes are not read, and stay holes.
///
/// The end of a pipe is the end of the image, also if its writer has failed or died: expect a size or a digest of it.
///
/// A failure after the image was begun leaves its file in invalid/, with the reason, as an aborted writer does.
///
/// With a hard limit or a floor, room is reserved before anything is written: for all bytes; for a source with holes room is made for
/// its data, and reserved range by range. A shared block counts for the limit as any other.
///
/// Durability: as image_cache_commit(). The source need not be synced.
///
/// Threads: any. Blocks: for the disk and for a pipe; for the cache lock, up to 10 s; with a hard limit or a floor, as
/// image_cache_write_chunk(). While a pipe has no bytes, progress is called ten times a second.
///
/// ```c
/// image_cache_import_options_t options = {.expects_size = 1, .size = bytes, .sha256 = hex};
/// int fd = open("/var/lib/incoming/ubuntu.raw", O_RDONLY | O_CLOEXEC);
/// status = image_cache_import(cache, id, fd, IMAGE_CACHE_COPY_ANY, &options, sizeof options, &done, &error);
/// close(fd);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_import(
    cache: *const image_cache_t,
    image_id: *const c_char,
    fd: c_int,
    how: i32,
    options: *const image_cache_import_options_t,
    size_of_options: usize,
    done: *mut i32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(cache, out!(done), error, |cache| {
            let options = sized("options", options, size_of_options)?;
            let id = self::image_id(image_id)?;
            let progress = progress(options.progress, options.user_data);
            cache.import(id, descriptor(fd)?, &options.parsed(how)?, progress).map(number_of)
        })
    }
}

impl image_cache_import_options_t {
    unsafe fn parsed(&self, how: i32) -> Result<ImportOptions> {
        let given = [(Algorithm::Md5, self.md5), (Algorithm::Sha256, self.sha256), (Algorithm::Sha512, self.sha512)];
        let mut digests = Vec::new();
        for (algorithm, hex) in given.into_iter().filter(|(_, hex)| !hex.is_null()) {
            // SAFETY: a text that is not NULL is NUL-terminated.
            digests.push((algorithm, unsafe { text(algorithm.name(), hex) }?));
        }
        let size = match (self.expects_size, self.size) {
            (0, 0) => None,
            (1, size) => Some(size),
            _ => return Err(invalid("expects_size is 1 with a size, else both are 0")),
        };
        Ok(ImportOptions { mode: mode(how)?, size, digests })
    }
}

impl image_cache_export_options_t {
    fn parsed(&self, how: i32) -> Result<ExportOptions> {
        Ok(ExportOptions { mode: mode(how)?, sync: self.sync != 0 })
    }
}

fn mode(how: i32) -> Result<CopyMode> {
    match how {
        IMAGE_CACHE_COPY_ANY => Ok(CopyMode::Any),
        IMAGE_CACHE_COPY_REFLINK => Ok(CopyMode::Reflink),
        IMAGE_CACHE_COPY_BYTES => Ok(CopyMode::Copy),
        _ => Err(invalid(format!("{how} is no way to copy"))),
    }
}

/// The number of the way in which it was copied.
fn number_of(copied: Copied) -> i32 {
    match copied {
        Copied::Reflink => IMAGE_CACHE_COPY_REFLINK,
        Copied::InKernel => IMAGE_CACHE_COPY_IN_KERNEL,
        Copied::Bytes => IMAGE_CACHE_COPY_BYTES,
    }
}

/// A descriptor of the caller's. A number that is not open gives `EBADF` at its first use.
unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(invalid(format!("fd is {fd}")));
    }
    // SAFETY: it is not -1, and the caller keeps it open during the call.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// The caller's function.
fn progress(function: image_cache_copy_progress_fn, user_data: *mut c_void) -> impl FnMut(u64, u64) -> ControlFlow<()> {
    move |done, total| {
        let Some(function) = function else { return ControlFlow::Continue(()) };
        // SAFETY: the caller's function takes these arguments. It is called on the thread of the call.
        let answer = unsafe { function(user_data, done, total) };
        if answer == 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}
