//! Parsing what C passes. A NULL where it is not allowed is an error that names the argument.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;

use crate::error::{Error, Result};

/// The error for an argument.
pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::InvalidArgument(what.into())
}

/// The bytes of a text.
pub(super) unsafe fn bytes<'a>(name: &str, text: *const c_char) -> Result<&'a [u8]> {
    if text.is_null() {
        return Err(invalid(format!("{name} is NULL")));
    }
    // SAFETY: a text that is not NULL is NUL-terminated, and lives as long as the call.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A path, which need not be UTF-8.
pub(super) unsafe fn path<'a>(name: &str, text: *const c_char) -> Result<&'a OsStr> {
    // SAFETY: passed on.
    unsafe { bytes(name, text) }.map(OsStr::from_bytes)
}

/// An image id: its own error when it is not UTF-8.
pub(super) unsafe fn image_id<'a>(text: *const c_char) -> Result<&'a str> {
    // SAFETY: passed on.
    let bytes = unsafe { bytes("image_id", text) }?;
    std::str::from_utf8(bytes).map_err(|_| Error::InvalidImageId {
        image_id: String::from_utf8_lossy(bytes).into_owned(),
        why: "it is not UTF-8",
    })
}

/// Other text, bytes that are not UTF-8 replaced: it then equals nothing that is expected.
pub(super) unsafe fn text(name: &str, text: *const c_char) -> Result<String> {
    // SAFETY: passed on.
    unsafe { bytes(name, text) }.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Data to be read; NULL with length 0 is empty.
pub(super) unsafe fn data<'a>(data: *const c_void, length: usize) -> Result<&'a [u8]> {
    match (data.is_null(), check_length("length", length)?) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(invalid("data is NULL, and its length is not 0")),
        // SAFETY: data that is not NULL has `length` bytes, which nobody changes during the call.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data.cast(), length) }),
    }
}

/// A buffer to be written; NULL with capacity 0 is empty.
pub(super) unsafe fn buffer<'a>(buffer: *mut c_void, capacity: usize) -> Result<&'a mut [u8]> {
    match (buffer.is_null(), check_length("capacity", capacity)?) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(invalid("buffer is NULL, and its capacity is not 0")),
        // SAFETY: a buffer that is not NULL has room for `capacity` bytes, which nobody else uses during the call. They
        // are written by the kernel or the caller's source, and read only where they were.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), capacity) }),
    }
}

/// No object is longer than half of the address space.
fn check_length(name: &str, length: usize) -> Result<usize> {
    if isize::try_from(length).is_ok() {
        Ok(length)
    } else {
        Err(invalid(format!("{name} is {length}, which no object has")))
    }
}

/// A value that an out parameter has when there is nothing to return.
pub(super) trait Blank {
    const BLANK: Self;
}

impl Blank for bool {
    const BLANK: Self = false;
}

impl Blank for u64 {
    const BLANK: Self = 0;
}

impl Blank for usize {
    const BLANK: Self = 0;
}

impl<T> Blank for *mut T {
    const BLANK: Self = std::ptr::null_mut();
}

impl<T> Blank for *const T {
    const BLANK: Self = std::ptr::null();
}

/// Where a result goes, if the caller gave a place. It is blank from the start, so that it is blank after every failure.
pub(super) struct Out<T>(Option<NonNull<T>>);

/// A place for a result.
pub(super) struct Place<T>(NonNull<T>);

impl<T: Blank> Out<T> {
    pub unsafe fn new(place: *mut T) -> Self {
        let place = NonNull::new(place);
        if let Some(place) = place {
            // SAFETY: an out parameter that is not NULL has room for a value.
            unsafe { place.write(T::BLANK) };
        }
        Self(place)
    }

    /// Fails when the caller gave no place.
    pub fn check(self) -> Result<Place<T>> {
        self.0.map(Place).ok_or_else(|| invalid("an out parameter is NULL"))
    }
}

impl<T> Place<T> {
    pub fn set(self, value: T) {
        // SAFETY: only `Out::check` makes a place, of an out parameter that has room for a value.
        unsafe { self.0.write(value) };
    }
}
