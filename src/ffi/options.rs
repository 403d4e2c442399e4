//! How a cache is opened.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::ffi::argument::{invalid, path};
use crate::ffi::call::{call, close, give};
use crate::ffi::guard::logging;
use crate::ffi::handle::{Slot, handle};
use crate::ffi::status::{image_cache_error_t, image_cache_status_t};
use crate::{DriverChoice, DriverKind, Durability, Log, LogLevel, Options, Result};

/// Metadata in a SQLite database in the cache's directory (the default).
pub const IMAGE_CACHE_DRIVER_SQLITE: i32 = 0;
/// Metadata in extended attributes of the image files; image_cache_open() fails where the file system has none.
pub const IMAGE_CACHE_DRIVER_XATTR: i32 = 1;
/// The driver that the directory was opened with before; else extended attributes, or SQLite where the file system has none,
/// and the log says so.
pub const IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE: i32 = 2;

/// A commit waits for nothing; the kernel writes the image back when it likes. An image that was committed this way, and whose
/// cache was not closed afterwards, is dropped at the first open after a restart of the host. Where that cannot be noted (no
/// extended attributes, a kernel before 6.8), a commit waits for the disk.
pub const IMAGE_CACHE_DURABILITY_NONE: i32 = 0;
/// A commit waits for the disk: once it returned, the image is there after a power cut (the default).
pub const IMAGE_CACHE_DURABILITY_FULL: i32 = 1;

/// A log message's level: something failed, and the call could not say so.
pub const IMAGE_CACHE_LOG_ERROR: i32 = 1;
/// A log message's level: the cache went on in spite of something.
pub const IMAGE_CACHE_LOG_WARNING: i32 = 2;
/// A log message's level: what an operator wants to know.
pub const IMAGE_CACHE_LOG_INFO: i32 = 3;
/// A log message's level: what only a developer wants to know.
pub const IMAGE_CACHE_LOG_DEBUG: i32 = 4;

/// Takes a log message.
///
/// user_data  as it was given to image_cache_options_set_log()
/// level      one of IMAGE_CACHE_LOG_*
/// message    NUL-terminated UTF-8; valid until the function returns
///
/// It is called on every thread that calls the library, on several at once, while locks of the cache are held: it should
/// not block, and what it calls of the library with a handle does nothing and returns IMAGE_CACHE_ERROR_INVALID_ARGUMENT.
/// It must not throw or longjmp. Since 0.1.
pub type image_cache_log_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char)>;

/// How a cache is opened. Made by image_cache_options_new(), ended by image_cache_options_free(). It holds nothing of the
/// process, so a forked child may go on using it, unless another thread was in a call for it at the fork.
pub struct image_cache_options_t(Slot<Mutex<Options>>);
handle!(image_cache_options_t, Mutex<Options>, "options", shared);

/// The current values, for image_cache_open().
pub(super) fn current(options: &Mutex<Options>) -> Options {
    options.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn change(options: &Mutex<Options>, change: impl FnOnce(Options) -> Result<Options>) -> Result<()> {
    let mut options = options.lock().unwrap_or_else(PoisonError::into_inner);
    *options = change(options.clone())?;
    Ok(())
}

/// New options, with the defaults: SQLite, 10 GiB, 24 hours, "cache.db", full durability, no streaming, no log.
///
/// Returns the options, which image_cache_options_free() ends; never NULL.
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn image_cache_options_new() -> *mut image_cache_options_t {
    give(Mutex::new(Options::default()))
}

/// Ends options. Caches that were opened with them keep what they said.
///
/// options  ended; NULL is fine
///
/// Threads: any, but no other call may use the options now or later. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_free(options: *mut image_cache_options_t) {
    // SAFETY: see the module.
    unsafe { close(options) }
}

/// Chooses where metadata is kept.
///
/// options  changed
/// driver   one of IMAGE_CACHE_DRIVER_*
/// error    filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL, or the driver is unknown
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_driver(
    options: *mut image_cache_options_t,
    driver: i32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(options, (), error, |options| {
            driver_choice(driver).and_then(|driver| change(options, |old| Ok(old.driver(driver))))
        })
    }
}

/// Chooses whether image_cache_open() may change the driver of a directory, or the name of its database.
///
/// A directory keeps the driver, and the name of the database, that it was opened with first. Another one would show 0 hits
/// for every image, and the former database would count as an image.
///
/// options  changed
/// change   true: the driver of these options is used, and kept; the hits of the former one are lost. false: an open with
///          another driver fails with IMAGE_CACHE_ERROR_INVALID_ARGUMENT. Default false
/// error    filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_change_driver(
    options: *mut image_cache_options_t,
    change: bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| self::change(options, |old| Ok(old.change_driver(change)))) }
}

/// Sets the size that image_cache_prune() prunes to.
///
/// options  changed
/// bytes    the limit in bytes; 0 is a valid limit; default 10 GiB
/// error    filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_max_size(
    options: *mut image_cache_options_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| Ok(old.max_size(bytes)))) }
}

/// Sets how long a writer may write nothing before its image counts as stalled.
///
/// options  changed
/// seconds  the stall time; default 86400
/// error    filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_stall_time(
    options: *mut image_cache_options_t,
    seconds: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(options, (), error, |options| change(options, |old| Ok(old.stall_time(Duration::from_secs(seconds)))))
    }
}

/// Sets the name of the SQLite index in the cache's directory.
///
/// options    changed
/// file_name  a bare file name of at most 247 bytes, copied; default "cache.db"
/// error      filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  a NULL (but for error); or file_name is no bare file name, is too long, or is the
///                                       name of one of the cache's folders
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_database(
    options: *mut image_cache_options_t,
    file_name: *const c_char,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| old.database(path("file_name", file_name)?))) }
}

/// Sets what a commit waits for.
///
/// options     changed
/// durability  one of IMAGE_CACHE_DURABILITY_*
/// error       filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL, or the durability is unknown
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_durability(
    options: *mut image_cache_options_t,
    durability: i32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe {
        call(options, (), error, |options| {
            durability_choice(durability).and_then(|durability| change(options, |old| Ok(old.durability(durability))))
        })
    }
}

/// Chooses whether what is written stays in the page cache.
///
/// options    changed
/// streaming  true: what a writer, a tee or a prefetch writes is dropped from the page cache as it gets to the disk, so that a
///            large image does not push out of memory what others use. Whoever reads it then waits for the disk, and so does
///            image_cache_write_chunk(), with either durability. Default false
/// error      filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL
///
/// Threads: any. Blocks: never. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_streaming(
    options: *mut image_cache_options_t,
    streaming: bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| Ok(old.streaming(streaming)))) }
}

/// Sets where log messages go. The library never prints anything itself.
///
/// options    changed
/// log        called with each message, until the last handle of every cache opened with these options was ended; NULL:
///            nowhere (the default)
/// user_data  passed to log; it must stay valid as long as log may be called
/// error      filled on failure; may be NULL
///
/// Returns IMAGE_CACHE_OK, or
///   IMAGE_CACHE_ERROR_INVALID_ARGUMENT  options is NULL
///
/// Threads: any. Blocks: never. Since 0.1.
///
/// ```c
/// static void log_line(void *user_data, int32_t level, const char *message)
/// {
///     if (level <= IMAGE_CACHE_LOG_WARNING) fprintf(user_data, "image cache: %s\n", message);
/// }
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_log(
    options: *mut image_cache_options_t,
    log: image_cache_log_fn,
    user_data: *mut c_void,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| Ok(old.log(log_to(log, user_data))))) }
}

fn driver_choice(number: i32) -> Result<DriverChoice> {
    match number {
        IMAGE_CACHE_DRIVER_SQLITE => Ok(DriverChoice::Sqlite),
        IMAGE_CACHE_DRIVER_XATTR => Ok(DriverChoice::Xattr),
        IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE => Ok(DriverChoice::XattrOrSqlite),
        _ => Err(invalid(format!("{number} is no driver"))),
    }
}

/// The number of the driver in use.
pub(super) fn driver_number(driver: DriverKind) -> i32 {
    match driver {
        DriverKind::Sqlite => IMAGE_CACHE_DRIVER_SQLITE,
        DriverKind::Xattr => IMAGE_CACHE_DRIVER_XATTR,
    }
}

fn durability_choice(number: i32) -> Result<Durability> {
    match number {
        IMAGE_CACHE_DURABILITY_NONE => Ok(Durability::None),
        IMAGE_CACHE_DURABILITY_FULL => Ok(Durability::Full),
        _ => Err(invalid(format!("{number} is no durability"))),
    }
}

fn level_number(level: LogLevel) -> i32 {
    match level {
        LogLevel::Error => IMAGE_CACHE_LOG_ERROR,
        LogLevel::Warning => IMAGE_CACHE_LOG_WARNING,
        LogLevel::Info => IMAGE_CACHE_LOG_INFO,
        LogLevel::Debug => IMAGE_CACHE_LOG_DEBUG,
    }
}

/// A pointer of the caller's that goes with its function.
struct UserData(*mut c_void);

// SAFETY: the caller is told that the function is called on many threads, and passes what its function can bear.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    fn get(&self) -> *mut c_void {
        self.0
    }
}

fn log_to(log: image_cache_log_fn, user_data: *mut c_void) -> Log {
    let Some(log) = log else { return Log::default() };
    let user_data = UserData(user_data);
    Log::new(move |level, message| {
        // No message has a NUL; should one, it is better cut than lost.
        let text = message.split('\0').next().unwrap_or_default();
        if let Ok(text) = CString::new(text) {
            // SAFETY: the caller's function takes these arguments, on any thread.
            logging(|| unsafe { log(user_data.get(), level_number(level), text.as_ptr()) });
        }
    })
}
