//! Options for opening a cache.

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
/// Metadata in extended attributes of the image files.
///
/// image_cache_open() fails on a file system without extended attributes.
pub const IMAGE_CACHE_DRIVER_XATTR: i32 = 1;
/// The driver that the directory has, or a choice for a directory that has none.
///
/// A directory keeps the driver that it was first opened with. A new one, or one that only Glance used, gets extended
/// attributes. On a file system without them it gets SQLite, which is logged.
pub const IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE: i32 = 2;

/// A commit does not wait: the kernel writes the image back later.
///
/// image_cache_close() and image_cache_clean() sync the images that were committed this way. The first open after a
/// restart of the host drops those that were not synced. Where an image cannot be marked as not synced (no extended
/// attributes, no /proc, or a kernel before 6.8), a commit waits for the disk.
pub const IMAGE_CACHE_DURABILITY_NONE: i32 = 0;
/// A commit waits for the disk: after it returned, the image survives a power cut (the default).
pub const IMAGE_CACHE_DURABILITY_FULL: i32 = 1;

/// Log level: a failure that the call could not return.
pub const IMAGE_CACHE_LOG_ERROR: i32 = 1;
/// Log level: a problem, despite which the cache continued.
pub const IMAGE_CACHE_LOG_WARNING: i32 = 2;
/// Log level: information for operators.
pub const IMAGE_CACHE_LOG_INFO: i32 = 3;
/// Log level: information for developers only.
pub const IMAGE_CACHE_LOG_DEBUG: i32 = 4;

/// Receives a log message.
///
/// - `user_data`: the pointer given to image_cache_options_set_log()
/// - `level`: one of IMAGE_CACHE_LOG_*
/// - `message`: NUL-terminated UTF-8; valid until the function returns
///
/// The function is called on the thread whose call logs: on several threads at once, and while locks of the cache are
/// held. It should not block. It must not call the library: a call with a handle does nothing and returns
/// IMAGE_CACHE_ERROR_INVALID_ARGUMENT. It must not throw or longjmp.
pub type image_cache_log_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, level: i32, message: *const c_char)>;

/// Options for opening a cache.
///
/// Created by image_cache_options_new(), ended by image_cache_options_free(). They hold memory only, so a forked child
/// may use them. Exception: another thread was in a call with them at the fork.
pub struct image_cache_options_t(Slot<Mutex<Options>>);
handle!(image_cache_options_t, Mutex<Options>, "options", shared);

/// The current values, for image_cache_open().
pub(super) fn current(options: &Mutex<Options>) -> Options {
    options.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

pub(super) fn change(options: &Mutex<Options>, change: impl FnOnce(Options) -> Result<Options>) -> Result<()> {
    let mut options = options.lock().unwrap_or_else(PoisonError::into_inner);
    *options = change(options.clone())?;
    Ok(())
}

/// Creates options with the defaults.
///
/// Returns the options, which image_cache_options_free() ends; never NULL.
///
/// The defaults are SQLite, 10 GiB with a soft limit, 24 hours, "cache.db", full durability, no streaming, no holes, no
/// inspection, no log.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn image_cache_options_new() -> *mut image_cache_options_t {
    give(Mutex::new(Options::default()))
}

/// Ends options. Caches that were opened with them keep their values.
///
/// - `options`: the options; may be NULL
///
/// Threads: any. No other call may use the options now or later. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_free(options: *mut image_cache_options_t) {
    // SAFETY: see the module.
    unsafe { close(options) }
}

/// Sets where metadata is stored.
///
/// - `options`: the options
/// - `driver`: one of IMAGE_CACHE_DRIVER_*
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL, or the driver is unknown
///
/// Threads: any. Blocks: never.
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
/// A directory keeps the driver, and the name of the database, that it was first opened with. With another one, every
/// image would have 0 hits, and the old database would count as an image.
///
/// - `options`: the options
/// - `change`: true: the driver of these options is used and kept, and the hits of the old one are lost. false: an open
///   with another driver fails with IMAGE_CACHE_ERROR_INVALID_ARGUMENT. Default false
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_change_driver(
    options: *mut image_cache_options_t,
    change: bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| self::change(options, |old| Ok(old.change_driver(change)))) }
}

/// Sets the maximum size: what image_cache_prune() prunes to.
///
/// - `options`: the options
/// - `bytes`: the limit in bytes; 0 is a valid limit; default 10 GiB
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// With image_cache_options_set_limit_mode(), it is never exceeded. Else the directory does not store it: each handle
/// prunes to its own.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_max_size(
    options: *mut image_cache_options_t,
    bytes: u64,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| Ok(old.max_size(bytes)))) }
}

/// Sets how much of the maximum size image_cache_pin() can pin.
///
/// - `options`: the options
/// - `percent`: of the maximum size: that of the directory if it is hard, else of the handle; 0 to 100; default 50
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL, or percent is above 100
///
/// The directory does not store it: each handle pins within its own. Pins that were made before are not affected.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_max_pinned(
    options: *mut image_cache_options_t,
    percent: u32,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| old.max_pinned(percent))) }
}

/// Sets how long a writer may write nothing before its image counts as stalled.
///
/// - `options`: the options
/// - `seconds`: the stall time; default 86400
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// A step of the host's clock does not change the measured time. A stall time below 2 s counts as 2 s for every call
/// except image_cache_clean(), which uses it as it is.
///
/// Threads: any. Blocks: never.
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
/// - `options`: the options
/// - `file_name`: a bare file name of at most 247 bytes, copied; default "cache.db"
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options or file_name is NULL; or file_name is not a bare file name, is too
///   long, or is the name of one of the cache's subdirectories
///
/// Threads: any. Blocks: never.
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
/// - `options`: the options
/// - `durability`: one of IMAGE_CACHE_DURABILITY_*
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL, or the durability is unknown
///
/// Threads: any. Blocks: never.
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

/// Sets whether written bytes are dropped from the page cache.
///
/// - `options`: the options
/// - `streaming`: true: bytes that a writer, a tee or a prefetch writes are dropped from the page cache as they reach
///   the disk; default false
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// With streaming, a large image does not displace other data from memory. In return, its readers wait for the disk. So
/// does image_cache_write_chunk(), with either durability.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_streaming(
    options: *mut image_cache_options_t,
    streaming: bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| Ok(old.streaming(streaming)))) }
}

/// Sets whether runs of zeros become holes, which take up no room on the disk.
///
/// - `options`: the options
/// - `sparse`: true: each 64 KiB of a chunk that are zeros, at an offset of the image that is a multiple of 64 KiB, become a
///   hole. false (the default): only image_cache_write_hole() and image_cache_import() make holes
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// It holds for writers, imports, prefetches and tees, not for streams. Bytes and digests of the image are the same. Chunks of
/// 64 KiB or more, at multiples of 64 KiB, find all units.
///
/// Threads: any. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_options_set_sparse(
    options: *mut image_cache_options_t,
    sparse: bool,
    error: *mut image_cache_error_t,
) -> image_cache_status_t {
    // SAFETY: see the module.
    unsafe { call(options, (), error, |options| change(options, |old| Ok(old.sparse(sparse)))) }
}

/// Sets the log function. The library itself never prints anything.
///
/// - `options`: the options
/// - `log`: called with each message, until the last handle of every cache opened with these options has ended; NULL:
///   no log (the default)
/// - `user_data`: passed to log; it must stay valid as long as log may be called
///
/// Returns IMAGE_CACHE_OK, or
///
/// - IMAGE_CACHE_ERROR_INVALID_ARGUMENT: options is NULL
///
/// Threads: any. Blocks: never.
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

/// The caller's pointer, which its function gets.
pub(super) struct UserData(pub *mut c_void);

// SAFETY: the header says that the function is called on many threads. The caller passes a pointer that is
// valid on all of them.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl UserData {
    pub fn get(&self) -> *mut c_void {
        self.0
    }
}

fn log_to(log: image_cache_log_fn, user_data: *mut c_void) -> Log {
    let Some(log) = log else { return Log::default() };
    let user_data = UserData(user_data);
    Log::new(move |level, message| {
        // Messages have no NUL. One that has is cut there, instead of lost.
        let text = message.split('\0').next().unwrap_or_default();
        if let Ok(text) = CString::new(text) {
            // SAFETY: the caller's function takes these arguments, on any thread.
            logging(|| unsafe { log(user_data.get(), level_number(level), text.as_ptr()) });
        }
    })
}
