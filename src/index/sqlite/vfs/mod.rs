//! Our file layer below SQLite (a VFS): its own "unix" layer, except for four things.
//!
//! - A path through a directory's descriptor (`/proc/thread-self/fd/N/cache.db`) is left as it is. The "unix" layer would resolve
//!   it to the directory's path at the open. Here each open, stat and removal goes through the descriptor, so that renaming or
//!   replacing the directory has no effect, and no path is longer than SQLite's 512 bytes.
//! - The journal is written with one call (see `journal`).
//! - Databases have neither shared memory nor mappings: their methods are those of version 1 of SQLite's interface, which has
//!   none. So no file of the cache can ever be mapped, not even a database in WAL mode. SQLite opens such a one in its exclusive
//!   mode only, where it keeps the log's index in its heap.
//! - What SQLite opens never has the number 0, 1 or 2 (see `sys::descriptors`).
//!
//! Symbolic links in place of a file: the "unix" layer opens everything with `O_NOFOLLOW`.
//!
//! The layer is registered under a name of its own, which only our connections name. SQLite is compiled into this library, so a
//! host's own SQLite has its own list of layers.

// A table of C functions.
#![allow(unsafe_code, reason = "an interface of C functions")]

mod database;
mod journal;

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::ErrorKind;
use std::ptr;
use std::sync::OnceLock;

use journal::JournalFile;
use rusqlite::{Connection, ffi};

use crate::sys::descriptors::with_standard_occupied;
use crate::sys::entry::{Access, Entry};

/// The name of the layer.
pub(super) const NAME: &CStr = c"image_cache";

/// How a path through a descriptor begins.
const THROUGH_DESCRIPTOR: &[u8] = b"/proc/";

/// The layer's table, which SQLite links into its list.
struct Table(UnsafeCell<ffi::sqlite3_vfs>);

// SAFETY: `register` writes it once, before it gives it to SQLite. Afterwards SQLite alone changes it, under a mutex of its own.
unsafe impl Sync for Table {}

// SAFETY: zeros are null pointers, numbers, and functions that are `None`.
static TABLE: Table = Table(UnsafeCell::new(unsafe { std::mem::zeroed() }));

/// The "unix" layer.
struct Unix(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite lets any thread call a layer's functions, and its table is constant.
unsafe impl Send for Unix {}
// SAFETY: as above.
unsafe impl Sync for Unix {}

/// `None` where SQLite has no such layer, or no memory for it.
static UNIX: OnceLock<Option<Unix>> = OnceLock::new();

/// Registers the layer, once per process. False when that fails, for want of memory.
pub(super) fn register() -> bool {
    UNIX.get_or_init(|| {
        // Finding a layer initialises SQLite.
        // SAFETY: the name is a C string.
        let unix = unsafe { ffi::sqlite3_vfs_find(c"unix".as_ptr()) };
        // SAFETY: it is null, or a table that is never freed.
        let mut table = unsafe { unix.as_ref() }.copied()?;
        table.iVersion = table.iVersion.min(2); // the third version replaces system calls
        let size = usize::try_from(table.szOsFile).ok()?;
        table.szOsFile = c_int::try_from(database::size_with(size).max(size_of::<JournalFile>())).ok()?;
        table.pNext = ptr::null_mut();
        table.zName = NAME.as_ptr();
        table.pAppData = ptr::null_mut();
        table.xOpen = Some(open);
        table.xDelete = Some(delete);
        table.xAccess = Some(access);
        table.xFullPathname = Some(full_path);
        table.xRandomness = Some(randomness);
        // SAFETY: only one thread runs this, and SQLite does not have the table yet.
        unsafe { *TABLE.0.get() = table };
        // SAFETY: the table is static, and complete.
        let registered = unsafe { ffi::sqlite3_vfs_register(TABLE.0.get(), 0) };
        (registered == ffi::SQLITE_OK).then_some(Unix(unix))
    })
    .is_some()
}

/// Prepares SQLite for databases in memory, which [`open`] does not see. False when that fails.
pub(super) fn prepare() -> bool {
    register() && with_standard_occupied(seed).is_ok()
}

/// Makes SQLite read /dev/urandom, which it does for its first random number in a process.
fn seed() {
    let mut number = [0_u8; 1];
    // SAFETY: one byte is written.
    unsafe { ffi::sqlite3_randomness(1, number.as_mut_ptr().cast::<c_void>()) };
}

/// The table of the "unix" layer.
fn unix() -> Option<(*mut ffi::sqlite3_vfs, &'static ffi::sqlite3_vfs)> {
    let Unix(unix) = UNIX.get()?.as_ref()?;
    // SAFETY: it is never freed. SQLite changes only its `pNext`, which is not read here.
    Some((*unix, unsafe { &**unix }))
}

/// The first bytes of a database, read without a lock. `None` when it is shorter, or cannot be read.
pub(super) fn header(connection: &Connection) -> Option<[u8; 28]> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let mut header = [0; 28];
    // SAFETY: the connection is open, and stores the address of its main database's file object, which lives as long.
    let found = unsafe {
        let place = (&raw mut file).cast::<c_void>();
        ffi::sqlite3_file_control(connection.handle(), ptr::null(), ffi::SQLITE_FCNTL_FILE_POINTER, place)
    };
    // SAFETY: as above. An open file object has methods.
    let methods = unsafe { file.as_ref()?.pMethods.as_ref()? };
    let read = methods.xRead.filter(|_| found == ffi::SQLITE_OK)?;
    // SAFETY: the buffer has that many bytes.
    let read = unsafe { read(file, header.as_mut_ptr().cast::<c_void>(), 28, 0) };
    (read == ffi::SQLITE_OK).then_some(header)
}

/// `xOpen`.
unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // Without methods, a file object is not closed.
    // SAFETY: the file object is SQLite's own.
    unsafe { (*file).pMethods = ptr::null() };
    if flags & ffi::SQLITE_OPEN_MAIN_JOURNAL != 0 {
        // SAFETY: a journal's path is a C string of SQLite's.
        if let Some(entry) = Entry::of(unsafe { CStr::from_ptr(path) }) {
            // SAFETY: as above.
            return unsafe { open_journal(&entry, path, file, flags, flags_out) };
        }
    }
    let opened = unix().and_then(|(unix, table)| {
        let open = table.xOpen?;
        with_standard_occupied(|| {
            // SAFETY: the arguments are SQLite's own, for a file object that is larger than the "unix" layer's.
            let opened = unsafe { open(unix, path, file, flags, flags_out) };
            // The open noticed a fork since the last one.
            seed();
            opened
        })
        .ok()
        .inspect(|opened| {
            if *opened == ffi::SQLITE_OK && flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
                // SAFETY: it is open, and SQLite has allocated as much as our table says.
                unsafe { database::create(file, usize::try_from(table.szOsFile).unwrap_or(0)) };
            }
        })
    });
    opened.unwrap_or(ffi::SQLITE_CANTOPEN)
}

/// Opens a journal through its directory's descriptor.
///
/// # Safety
///
/// The arguments are those of `xOpen`.
unsafe fn open_journal(
    entry: &Entry<'_>,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let (opened, place) = if flags & ffi::SQLITE_OPEN_READWRITE == 0 {
        (entry.open(Access::Read), ptr::null_mut())
    } else {
        // SAFETY: it is the path that SQLite gave, of a journal.
        let database = unsafe { ffi::sqlite3_database_file_object(path) };
        let opened = if flags & ffi::SQLITE_OPEN_CREATE == 0 {
            entry.open(Access::ReadAndWrite)
        } else {
            // SAFETY: as above; it returns a C string.
            entry.open_or_create(unsafe { CStr::from_ptr(ffi::sqlite3_filename_database(path)) })
        };
        // SAFETY: our layer opened it.
        (opened, unsafe { database::place_of_journal(database) })
    };
    let opened = match opened {
        Ok(opened) => opened,
        // The file system became read-only, for example. What can be read still is.
        Err(error)
            if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
                && flags & ffi::SQLITE_OPEN_READWRITE != 0 =>
        {
            return ffi::SQLITE_READONLY;
        }
        Err(_) => return ffi::SQLITE_CANTOPEN,
    };
    // SAFETY: the file object is as large as our table says.
    unsafe {
        journal::create(file, opened, place);
        if let Some(flags_out) = flags_out.as_mut() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

/// `xDelete`. It can open the directory, to sync it.
unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    let deleted = unix().and_then(|(unix, table)| {
        let delete = table.xDelete?;
        // SAFETY: the arguments are SQLite's own.
        with_standard_occupied(|| unsafe { delete(unix, path, sync) }).ok()
    });
    deleted.unwrap_or(ffi::SQLITE_IOERR_DELETE)
}

/// `xAccess`.
unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    is_there: *mut c_int,
) -> c_int {
    // SAFETY: it is a C string of SQLite's.
    if let Some(entry) = Entry::of(unsafe { CStr::from_ptr(path) }).filter(|_| flags == ffi::SQLITE_ACCESS_EXISTS) {
        let Ok(exists) = entry.exists() else { return ffi::SQLITE_IOERR_ACCESS };
        // SAFETY: the pointer is SQLite's own.
        unsafe { *is_there = exists.into() };
        return ffi::SQLITE_OK;
    }
    let Some((unix, access)) = unix().and_then(|(unix, table)| Some((unix, table.xAccess?))) else {
        return ffi::SQLITE_IOERR_ACCESS;
    };
    // SAFETY: the arguments are SQLite's own.
    unsafe { access(unix, path, flags, is_there) }
}

/// `xFullPathname`.
unsafe extern "C" fn full_path(_: *mut ffi::sqlite3_vfs, path: *const c_char, size: c_int, full: *mut c_char) -> c_int {
    // SAFETY: it is a C string of SQLite's.
    let text = unsafe { CStr::from_ptr(path) }.to_bytes_with_nul();
    if text.starts_with(THROUGH_DESCRIPTOR) {
        if usize::try_from(size).is_ok_and(|size| text.len() <= size) {
            // SAFETY: the text fits into the buffer, which is SQLite's own and another one.
            unsafe { ptr::copy_nonoverlapping(path, full, text.len()) };
            return ffi::SQLITE_OK;
        }
        return ffi::SQLITE_CANTOPEN;
    }
    let Some((unix, full_path)) = unix().and_then(|(unix, table)| Some((unix, table.xFullPathname?))) else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: the arguments are SQLite's own.
    unsafe { full_path(unix, path, size, full) }
}

/// `xRandomness`.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, size: c_int, bytes: *mut c_char) -> c_int {
    let random = unix().and_then(|(unix, table)| {
        let randomness = table.xRandomness?;
        // SAFETY: the arguments are SQLite's own.
        with_standard_occupied(|| unsafe { randomness(unix, size, bytes) }).ok()
    });
    random.unwrap_or(0)
}
