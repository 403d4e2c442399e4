//! Statuses, and the error that a failing call fills.

use std::ffi::{CStr, c_char};
use std::mem::offset_of;

use crate::Error;

/// The outcome of a call: IMAGE_CACHE_OK, which is 0, or an error, which is a negative number.
///
/// Positive numbers are reserved for outcomes that are no error; this version returns none. A number never changes its
/// meaning. New numbers can be added: treat a negative one that is unknown as an error.
pub type image_cache_status_t = i32;

/// Success.
pub const IMAGE_CACHE_OK: image_cache_status_t = 0;
/// A NULL that is not allowed, an unknown enumerator, a value out of range, or a call in the wrong state.
pub const IMAGE_CACHE_ERROR_INVALID_ARGUMENT: image_cache_status_t = -1;
/// The text is not a valid image id.
pub const IMAGE_CACHE_ERROR_INVALID_IMAGE_ID: image_cache_status_t = -2;
/// The image is not cached.
pub const IMAGE_CACHE_ERROR_NOT_FOUND: image_cache_status_t = -3;
/// The image is cached already.
pub const IMAGE_CACHE_ERROR_ALREADY_CACHED: image_cache_status_t = -4;
/// A live writer has the image, in this process or another.
pub const IMAGE_CACHE_ERROR_BEING_CACHED: image_cache_status_t = -5;
/// The bytes do not have the expected digest.
pub const IMAGE_CACHE_ERROR_DIGEST_MISMATCH: image_cache_status_t = -6;
/// There are more or fewer bytes than expected.
pub const IMAGE_CACHE_ERROR_SIZE_MISMATCH: image_cache_status_t = -7;
/// The disk is full, or the quota or the inodes are used up; or a hard limit or a floor leaves no room, or
/// image_cache_make_room() cannot make it; or image_cache_pin() would pin more than can be pinned (the message has PINNED_FULL).
pub const IMAGE_CACHE_ERROR_NO_SPACE: image_cache_status_t = -8;
/// Any other system error; os_error says which.
pub const IMAGE_CACHE_ERROR_IO: image_cache_status_t = -9;
/// The driver's metadata could not be read or written.
pub const IMAGE_CACHE_ERROR_INDEX: image_cache_status_t = -10;
/// The file system or this version of the library does not support the request.
///
/// The cause is a file system without extended attributes, an unknown digest algorithm, or an index that a newer
/// version made.
pub const IMAGE_CACHE_ERROR_UNSUPPORTED: image_cache_status_t = -11;
/// The incomplete file was cleaned away, or changed under its writer.
pub const IMAGE_CACHE_ERROR_LOST: image_cache_status_t = -12;
/// The caller's own source or fetch function failed, or his progress function stopped the call.
pub const IMAGE_CACHE_ERROR_SOURCE: image_cache_status_t = -13;
/// In a forked child: the handle is another process's, or the cache to be opened was open at the fork.
pub const IMAGE_CACHE_ERROR_FORKED: image_cache_status_t = -14;
/// A defect of this library; the message says where. The handle refuses further work.
pub const IMAGE_CACHE_ERROR_INTERNAL: image_cache_status_t = -15;
/// An allocation failed. Nothing is lost: the same call can be made again, or the handle ended. Every call may return
/// it.
pub const IMAGE_CACHE_ERROR_NO_MEMORY: image_cache_status_t = -16;
/// Another process held the cache lock for 10 s, for example because it is stopped. Nothing is changed: retry.
///
/// Exceptions: a failed image_cache_write_chunk() is final for its writer. image_cache_commit() ends the writer. Its file stays in incomplete/ until the next
/// image_cache_begin_write() or image_cache_clean(). Begin again.
///
/// These wait for no other process, and never return it: opening, reading and closing a reader,
/// image_cache_write_chunk() without a hard limit or a floor, the image_cache_is_ calls, image_cache_get_image_size(),
/// image_cache_list_queued() and image_cache_list_invalid().
/// image_cache_get_cache_size(), image_cache_tee_open(), image_cache_tee_read() and image_cache_prefetch() wait, and
/// return something else.
pub const IMAGE_CACHE_ERROR_TIMED_OUT: image_cache_status_t = -17;
/// The inspection refused the image, which may harm the host that opens it; the message says why. See image_cache_options_set_formats() and
/// image_cache_options_set_inspector().
pub const IMAGE_CACHE_ERROR_REFUSED: image_cache_status_t = -18;
/// The image is pinned, and is not deleted; the message names the holders, and for how long.
pub const IMAGE_CACHE_ERROR_PINNED: image_cache_status_t = -19;

/// Every status with its name.
const NAMES: [(image_cache_status_t, &CStr); 20] = [
    (IMAGE_CACHE_OK, c"IMAGE_CACHE_OK"),
    (IMAGE_CACHE_ERROR_INVALID_ARGUMENT, c"IMAGE_CACHE_ERROR_INVALID_ARGUMENT"),
    (IMAGE_CACHE_ERROR_INVALID_IMAGE_ID, c"IMAGE_CACHE_ERROR_INVALID_IMAGE_ID"),
    (IMAGE_CACHE_ERROR_NOT_FOUND, c"IMAGE_CACHE_ERROR_NOT_FOUND"),
    (IMAGE_CACHE_ERROR_ALREADY_CACHED, c"IMAGE_CACHE_ERROR_ALREADY_CACHED"),
    (IMAGE_CACHE_ERROR_BEING_CACHED, c"IMAGE_CACHE_ERROR_BEING_CACHED"),
    (IMAGE_CACHE_ERROR_DIGEST_MISMATCH, c"IMAGE_CACHE_ERROR_DIGEST_MISMATCH"),
    (IMAGE_CACHE_ERROR_SIZE_MISMATCH, c"IMAGE_CACHE_ERROR_SIZE_MISMATCH"),
    (IMAGE_CACHE_ERROR_NO_SPACE, c"IMAGE_CACHE_ERROR_NO_SPACE"),
    (IMAGE_CACHE_ERROR_IO, c"IMAGE_CACHE_ERROR_IO"),
    (IMAGE_CACHE_ERROR_INDEX, c"IMAGE_CACHE_ERROR_INDEX"),
    (IMAGE_CACHE_ERROR_UNSUPPORTED, c"IMAGE_CACHE_ERROR_UNSUPPORTED"),
    (IMAGE_CACHE_ERROR_LOST, c"IMAGE_CACHE_ERROR_LOST"),
    (IMAGE_CACHE_ERROR_SOURCE, c"IMAGE_CACHE_ERROR_SOURCE"),
    (IMAGE_CACHE_ERROR_FORKED, c"IMAGE_CACHE_ERROR_FORKED"),
    (IMAGE_CACHE_ERROR_INTERNAL, c"IMAGE_CACHE_ERROR_INTERNAL"),
    (IMAGE_CACHE_ERROR_NO_MEMORY, c"IMAGE_CACHE_ERROR_NO_MEMORY"),
    (IMAGE_CACHE_ERROR_TIMED_OUT, c"IMAGE_CACHE_ERROR_TIMED_OUT"),
    (IMAGE_CACHE_ERROR_REFUSED, c"IMAGE_CACHE_ERROR_REFUSED"),
    (IMAGE_CACHE_ERROR_PINNED, c"IMAGE_CACHE_ERROR_PINNED"),
];

/// Describes why a call failed. The caller allocates it.
///
/// The caller passes it as the last argument. The call fills it on failure, and leaves it unchanged on success. Its
/// size and fields never change.
#[repr(C)]
pub struct image_cache_error_t {
    /// The status that the call returned.
    pub status: image_cache_status_t,
    /// The errno of the system call that failed, or 0.
    pub os_error: i32,
    /// The operation, the path and the cause: UTF-8, NUL-terminated, cut at a character boundary.
    pub message: [c_char; 504],
}

// C programs have this layout compiled in. tests/abi/layout.c checks the same of the header.
const _: () = {
    assert!(size_of::<image_cache_error_t>() == 512 && align_of::<image_cache_error_t>() == 4);
    assert!(offset_of!(image_cache_error_t, status) == 0);
    assert!(offset_of!(image_cache_error_t, os_error) == 4);
    assert!(offset_of!(image_cache_error_t, message) == 8);
    // Statuses are numbered consecutively, and keep their numbers.
    let (mut rest, mut number) = (NAMES.as_slice(), 0);
    while let [(status, _), others @ ..] = rest {
        assert!(*status == number);
        (rest, number) = (others, number - 1);
    }
};

impl Default for image_cache_error_t {
    fn default() -> Self {
        Self { status: IMAGE_CACHE_OK, os_error: 0, message: [0; 504] }
    }
}

impl image_cache_error_t {
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> =
            self.message.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned()).collect();
        String::from_utf8(bytes).unwrap()
    }
}

impl From<&Error> for image_cache_error_t {
    fn from(error: &Error) -> Self {
        // A NUL would end the message early.
        let text = error.to_string().replace('\0', "\u{fffd}");
        let mut filled = Self { status: status_of(error), os_error: error.os_error().unwrap_or(0), ..Self::default() };
        let start = &text.as_bytes()[..text.len().min(filled.message.len() - 1)];
        let whole = start.utf8_chunks().next().map_or("", |chunk| chunk.valid()); // no half of a character
        for (place, byte) in filled.message.iter_mut().zip(whole.bytes()) {
            *place = c_char::from_ne_bytes([byte]);
        }
        filled
    }
}

fn status_of(error: &Error) -> image_cache_status_t {
    match error {
        Error::InvalidArgument(_) => IMAGE_CACHE_ERROR_INVALID_ARGUMENT,
        Error::InvalidImageId { .. } => IMAGE_CACHE_ERROR_INVALID_IMAGE_ID,
        Error::NotFound { .. } => IMAGE_CACHE_ERROR_NOT_FOUND,
        Error::AlreadyCached(_) => IMAGE_CACHE_ERROR_ALREADY_CACHED,
        Error::BeingCached(_) => IMAGE_CACHE_ERROR_BEING_CACHED,
        Error::DigestMismatch { .. } => IMAGE_CACHE_ERROR_DIGEST_MISMATCH,
        Error::SizeMismatch { .. } | Error::Empty(_) => IMAGE_CACHE_ERROR_SIZE_MISMATCH,
        Error::NoRoom { .. } | Error::PinnedFull { .. } => IMAGE_CACHE_ERROR_NO_SPACE,
        Error::Refused { .. } => IMAGE_CACHE_ERROR_REFUSED,
        Error::Pinned { .. } => IMAGE_CACHE_ERROR_PINNED,
        Error::System { .. } if error.is_no_space() => IMAGE_CACHE_ERROR_NO_SPACE,
        Error::System { .. } | Error::MissingParent { .. } | Error::Damaged { .. } => IMAGE_CACHE_ERROR_IO,
        Error::Index { .. } => IMAGE_CACHE_ERROR_INDEX,
        Error::Unsupported(_) => IMAGE_CACHE_ERROR_UNSUPPORTED,
        Error::Lost { .. } => IMAGE_CACHE_ERROR_LOST,
        Error::Source { .. } | Error::Stopped { .. } => IMAGE_CACHE_ERROR_SOURCE,
        Error::Forked { .. } | Error::OpenAcrossFork { .. } => IMAGE_CACHE_ERROR_FORKED,
        Error::Internal(_) => IMAGE_CACHE_ERROR_INTERNAL,
        Error::NoMemory { .. } => IMAGE_CACHE_ERROR_NO_MEMORY,
        Error::TimedOut { .. } => IMAGE_CACHE_ERROR_TIMED_OUT,
    }
}

/// The name of a status, for example "IMAGE_CACHE_ERROR_NOT_FOUND".
///
/// - `status`: any number
///
/// Returns a constant that lives as long as the library. It is "IMAGE_CACHE_ERROR_UNKNOWN" if the number is no status.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn image_cache_status_name(status: image_cache_status_t) -> *const c_char {
    NAMES.iter().find(|(number, _)| *number == status).map_or(c"IMAGE_CACHE_ERROR_UNKNOWN", |(_, name)| name).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let error = Error::InvalidArgument("ä".repeat(400));
        let filled = image_cache_error_t::from(&error);
        assert_eq!(filled.text(), "ä".repeat(251));
    }
}
