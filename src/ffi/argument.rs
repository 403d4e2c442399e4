//! Parses arguments from C. A NULL where it is not allowed is an error that names the argument.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;

use crate::{Error, Result};

/// What is copied of a text, in bytes. No valid text is longer, and no message shows as much.
const MAX_COPIED: usize = 4096;

/// The error for an invalid argument.
pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::InvalidArgument(what.into())
}

/// The bytes of a text.
pub(super) unsafe fn bytes<'a>(name: &str, text: *const c_char) -> Result<&'a [u8]> {
    if text.is_null() {
        return Err(invalid(format!("{name} is NULL")));
    }
    // SAFETY: a text that is not NULL is NUL-terminated, and valid as long as the call.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A path, which need not be UTF-8.
pub(super) unsafe fn path<'a>(name: &str, text: *const c_char) -> Result<&'a OsStr> {
    // SAFETY: the caller guarantees it.
    unsafe { bytes(name, text) }.map(OsStr::from_bytes)
}

/// An image id. An id that is not UTF-8 has its own error.
pub(super) unsafe fn image_id<'a>(text: *const c_char) -> Result<&'a str> {
    // SAFETY: the caller guarantees it.
    let bytes = unsafe { bytes("image_id", text) }?;
    std::str::from_utf8(bytes).map_err(|_| Error::InvalidImageId { image_id: copied(bytes), why: "it is not UTF-8" })
}

/// Other text, cut at 4 KiB. Bytes that are not UTF-8 are replaced, so the text then equals no expected one.
pub(super) unsafe fn text(name: &str, text: *const c_char) -> Result<String> {
    // SAFETY: the caller guarantees it.
    unsafe { bytes(name, text) }.map(copied)
}

fn copied(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_COPIED)]).into_owned()
}

/// Data to be read; NULL with length 0 is empty.
pub(super) unsafe fn data<'a>(data: *const c_void, length: usize) -> Result<&'a [u8]> {
    match (data.is_null(), check_length("length", length)?) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid("data is NULL, and its length is not 0")),
        // SAFETY: data that is not NULL has `length` bytes, which do not change during the call.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data.cast(), length) }),
    }
}

/// A buffer to be written; NULL with capacity 0 is empty.
pub(super) unsafe fn buffer<'a>(buffer: *mut c_void, capacity: usize) -> Result<&'a mut [u8]> {
    match (buffer.is_null(), check_length("capacity", capacity)?) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(invalid("buffer is NULL, and its capacity is not 0")),
        // SAFETY: a buffer that is not NULL has room for `capacity` bytes, which only this call uses. The call
        // reads only bytes that the kernel or the caller's source wrote.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), capacity) }),
    }
}

/// A struct that the caller allocated, of the size that his header has; NULL is the default. Fields that an older header lacks have their
/// default. Fails when a newer one sets fields that this version lacks.
pub(super) unsafe fn sized<T: Copy + Default>(name: &str, given: *const T, size: usize) -> Result<T> {
    let mut value = T::default();
    if given.is_null() {
        return Ok(value);
    }
    check_size(name, size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: a struct that is not NULL has so many bytes, which do not change during the call. Bytes that the caller did not set are 0,
    // which each field allows.
    let unknown = unsafe {
        std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut value).cast(), known);
        std::slice::from_raw_parts(given.cast::<u8>().add(known), size - known)
    };
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Error::Unsupported(format!("{name} has a field that this version of the library lacks")));
    }
    Ok(value)
}

/// No struct of this library becomes larger, in bytes.
const MAX_SIZE: usize = 4096;

/// Fails for a size that no struct of this library has.
pub(super) fn check_size(name: &str, size: usize) -> Result<()> {
    if has_size(size) {
        return Ok(());
    }
    Err(invalid(format!("size_of_{name} is {size}, and must be 1 to {MAX_SIZE}")))
}

/// Whether a struct of this library can have that size.
pub(super) fn has_size(size: usize) -> bool {
    (1..=MAX_SIZE).contains(&size)
}

/// No object is longer than half of the address space.
fn check_length(name: &str, length: usize) -> Result<usize> {
    if isize::try_from(length).is_ok() {
        Ok(length)
    } else {
        Err(invalid(format!("{name} is {length}, which no object has")))
    }
}
