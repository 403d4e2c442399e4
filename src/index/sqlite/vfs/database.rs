//! A database: the "unix" layer's file object, with ours behind it. Its methods are that layer's, except for three things: there is
//! neither shared memory nor mapping, and each change flushes the journal before it.

#![allow(unsafe_code, reason = "an interface of C functions")]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

use crate::index::sqlite::vfs::journal::{self, JournalFile};

/// What is behind the "unix" layer's file object.
struct Database {
    /// The open journal, or null.
    journal: *mut JournalFile,
}

/// What the "unix" layer's databases have in common.
struct Unix {
    methods: ffi::sqlite3_io_methods,
    size: usize,
}

static UNIX: OnceLock<Unix> = OnceLock::new();
static METHODS: OnceLock<ffi::sqlite3_io_methods> = OnceLock::new();

/// The size of both objects, where the "unix" layer's has `size` bytes.
pub(super) const fn size_with(size: usize) -> usize {
    behind(size) + size_of::<Database>()
}

const fn behind(size: usize) -> usize {
    size.next_multiple_of(align_of::<Database>())
}

/// Makes a database of a file object that the "unix" layer has opened.
///
/// # Safety
///
/// `file` is such an object, of that layer's size, with space for ours behind it.
pub(super) unsafe fn create(file: *mut ffi::sqlite3_file, size: usize) {
    // SAFETY: an open file object has methods, which are static. All databases of the "unix" layer have the same ones.
    unsafe {
        let unix = UNIX.get_or_init(|| Unix { methods: *(*file).pMethods, size });
        (*file).pMethods = METHODS.get_or_init(|| ffi::sqlite3_io_methods {
            iVersion: 1,
            xWrite: Some(write),
            xTruncate: Some(truncate),
            ..unix.methods
        });
        file.byte_add(behind(size)).cast::<Database>().write(Database { journal: std::ptr::null_mut() });
    }
}

/// The place of a database's journal.
///
/// # Safety
///
/// `file` is null, or one that [`create`] made.
pub(super) unsafe fn place_of_journal(file: *mut ffi::sqlite3_file) -> *mut *mut JournalFile {
    match UNIX.get() {
        // SAFETY: our object is behind it.
        Some(unix) if !file.is_null() => unsafe {
            &raw mut (*file.byte_add(behind(unix.size)).cast::<Database>()).journal
        },
        _ => std::ptr::null_mut(),
    }
}

/// Flushes the database's journal, then calls a method of the "unix" layer.
///
/// # Safety
///
/// `file` is one that [`create`] made.
unsafe fn after_flush(
    file: *mut ffi::sqlite3_file,
    change: impl FnOnce(&ffi::sqlite3_io_methods) -> Option<c_int>,
) -> c_int {
    // SAFETY: the journal clears the pointer when it is closed.
    match unsafe { journal::flush(*place_of_journal(file)) } {
        ffi::SQLITE_OK => UNIX.get().and_then(|unix| change(&unix.methods)).unwrap_or(ffi::SQLITE_INTERNAL),
        failed => failed,
    }
}

/// `xWrite`.
unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the arguments are SQLite's own.
    unsafe { after_flush(file, |unix| Some(unix.xWrite?(file, data, length, at))) }
}

/// `xTruncate`.
unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: as above.
    unsafe { after_flush(file, |unix| Some(unix.xTruncate?(file, size))) }
}
