//! The rollback journal. It is written with one call, before the first page of the database is.
//!
//! SQLite writes a journal in small pieces: a header, and number, page and checksum of each page that changes. Here they are
//! collected, and written to the file when the database is to be changed ([`flush`]). The file's format stays SQLite's. A kill before
//! that leaves the file as it was, and the database unchanged. From then on each piece is written at once, among them the one that
//! ends the transaction.

#![allow(unsafe_code, reason = "an interface of C functions")]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::slice;

use rusqlite::ffi;

/// The first byte of a journal. SQLite clears it at the end of a transaction.
const MAGIC: u8 = 0xd9;

/// A transaction with a longer journal is written piece by piece, in bytes.
const LONGEST: usize = 1 << 20;

/// SQLite's file object.
#[repr(C)]
pub(super) struct JournalFile {
    base: ffi::sqlite3_file,
    journal: Journal,
}

struct Journal {
    file: File,
    /// The file's future beginning, until it is written. Empty before SQLite has written a header. `None` afterwards.
    unwritten: Option<Vec<u8>>,
    /// The place in the database's object that has this journal's address while it is open. Null for a journal that is only read.
    place: *mut *mut JournalFile,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes `object` the file object of a journal, and sets `place` to it while it is open.
///
/// # Safety
///
/// `object` is SQLite's, and large enough. `place` is null, or lives longer.
pub(super) unsafe fn create(object: *mut ffi::sqlite3_file, file: File, place: *mut *mut JournalFile) {
    let unwritten = (!place.is_null()).then(Vec::new);
    let base = ffi::sqlite3_file { pMethods: &raw const METHODS };
    let object = object.cast::<JournalFile>();
    // SAFETY: as the caller says. SQLite does not move the object until it has closed it.
    unsafe {
        object.write(JournalFile { base, journal: Journal { file, unwritten, place } });
        if let Some(place) = place.as_mut() {
            *place = object;
        }
    }
}

/// Writes what was collected, if anything was.
///
/// # Safety
///
/// `journal` is null, or an open journal.
pub(super) unsafe fn flush(journal: *mut JournalFile) -> c_int {
    // SAFETY: as the caller says.
    unsafe { journal.as_mut() }.map_or(ffi::SQLITE_OK, |file| file.journal.flush())
}

impl Journal {
    fn flush(&mut self) -> c_int {
        if let Some(unwritten) = self.unwritten.take_if(|unwritten| !unwritten.is_empty())
            && let Err(error) = self.file.write_all_at(&unwritten, 0)
        {
            // What is in the file now restores pages that did not change.
            self.unwritten = Some(unwritten);
            return write_failure(&error);
        }
        ffi::SQLITE_OK
    }

    fn write(&mut self, data: &[u8], at: u64) -> c_int {
        if let Some(unwritten) = &mut self.unwritten {
            let begins = !unwritten.is_empty() || data.first() == Some(&MAGIC);
            let at = usize::try_from(at).ok().filter(|at| begins && *at <= unwritten.len());
            let end = at.and_then(|at| at.checked_add(data.len())).filter(|end| *end <= LONGEST);
            if let (Some(at), Some(end)) = (at, end) {
                if unwritten.try_reserve(end.saturating_sub(unwritten.len())).is_err() {
                    return ffi::SQLITE_NOMEM;
                }
                let (over, beyond) = data.split_at(data.len().min(unwritten.len() - at));
                unwritten[at..at + over.len()].copy_from_slice(over);
                unwritten.extend_from_slice(beyond);
                return ffi::SQLITE_OK;
            }
        }
        let flushed = self.flush();
        if flushed != ffi::SQLITE_OK {
            return flushed;
        }
        self.unwritten = None;
        self.file.write_all_at(data, at).map_or_else(|error| write_failure(&error), |()| ffi::SQLITE_OK)
    }

    /// Reads into `buffer`; the bytes beyond the end become 0.
    fn read(&self, buffer: &mut [u8], at: u64) -> c_int {
        let mut length = 0;
        while length < buffer.len() {
            let position = at + length as u64;
            let unwritten = self.unwritten.as_deref().unwrap_or_default();
            let unwritten =
                usize::try_from(position).ok().and_then(|position| unwritten.get(position..)).unwrap_or_default();
            let rest = &mut buffer[length..];
            let read = if unwritten.is_empty() {
                self.file.read_at(rest, position)
            } else {
                let common = rest.len().min(unwritten.len());
                rest[..common].copy_from_slice(&unwritten[..common]);
                Ok(common)
            };
            match read {
                Ok(0) => {
                    rest.fill(0);
                    return ffi::SQLITE_IOERR_SHORT_READ;
                }
                Ok(more) => length += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return ffi::SQLITE_IOERR_READ,
            }
        }
        ffi::SQLITE_OK
    }

    fn truncate(&mut self, size: u64) -> c_int {
        if let Some(unwritten) = &mut self.unwritten {
            unwritten.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        }
        self.file.set_len(size).map_or(ffi::SQLITE_IOERR_TRUNCATE, |()| ffi::SQLITE_OK)
    }

    fn size(&self) -> Option<i64> {
        let unwritten = self.unwritten.as_ref().map_or(0, Vec::len) as u64;
        i64::try_from(self.file.metadata().ok()?.len().max(unwritten)).ok()
    }
}

fn write_failure(error: &std::io::Error) -> c_int {
    // As the "unix" layer does. A quota is a failure to write, since SQLite has no code for it.
    use std::io::ErrorKind::{StorageFull, WriteZero};
    if matches!(error.kind(), StorageFull | WriteZero) { ffi::SQLITE_FULL } else { ffi::SQLITE_IOERR_WRITE }
}

/// The journal that SQLite means.
///
/// # Safety
///
/// `file` is one that [`create`] made, and that is not closed.
unsafe fn journal<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Journal {
    // SAFETY: as the caller says. SQLite uses a connection's files from one thread at a time.
    unsafe { &mut (*file.cast::<JournalFile>()).journal }
}

/// `xClose`. What is still unwritten belongs to a transaction that changed nothing.
unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open journal, once, and before its database.
    unsafe {
        if let Some(place) = journal(file).place.as_mut() {
            *place = std::ptr::null_mut();
        }
        (*file).pMethods = std::ptr::null();
        std::ptr::drop_in_place(&raw mut (*file.cast::<JournalFile>()).journal);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the arguments are SQLite's own.
    unsafe {
        let buffer = slice::from_raw_parts_mut(buffer.cast::<u8>(), usize::try_from(length).unwrap_or(0));
        journal(file).read(buffer, at.cast_unsigned())
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the arguments are SQLite's own.
    unsafe {
        let data = slice::from_raw_parts(data.cast::<u8>(), usize::try_from(length).unwrap_or(0));
        journal(file).write(data, at.cast_unsigned())
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: it is an open journal.
    unsafe { journal(file) }.truncate(size.cast_unsigned())
}

/// `xSync`, which connections with `synchronous = OFF` do not use.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: it is an open journal.
    let journal = unsafe { journal(file) };
    match journal.flush() {
        ffi::SQLITE_OK => journal.file.sync_data().map_or(ffi::SQLITE_IOERR_FSYNC, |()| ffi::SQLITE_OK),
        failed => failed,
    }
}

unsafe extern "C" fn size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: it is an open journal, and the other pointer is SQLite's own.
    unsafe {
        let Some(known) = journal(file).size() else { return ffi::SQLITE_IOERR_FSTAT };
        *size = known;
    }
    ffi::SQLITE_OK
}

/// `xLock` and `xUnlock`: SQLite locks databases only.
unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_lock(_: *mut ffi::sqlite3_file, is_locked: *mut c_int) -> c_int {
    // SAFETY: the pointer is SQLite's own.
    unsafe { *is_locked = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    0
}
