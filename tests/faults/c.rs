//! The functions of the C header, with Rust's types around their arguments. Nothing else of the library is called.

#![allow(clippy::wildcard_imports, reason = "the names of the header have a prefix")]

mod handles;

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

use image_cache::ffi::bounds::*;
use image_cache::ffi::cache::*;
use image_cache::ffi::copy::*;
use image_cache::ffi::list::*;
use image_cache::ffi::maintenance::*;
use image_cache::ffi::options::*;
use image_cache::ffi::pin::*;
use image_cache::ffi::query::*;
use image_cache::ffi::queue::*;
use image_cache::ffi::reader::*;
use image_cache::ffi::statistics::*;
use image_cache::ffi::status::*;
use image_cache::ffi::tee::*;
use image_cache::ffi::verify::*;
use image_cache::ffi::writer::*;

pub use self::handles::{Reader, Tee, Writer};

pub const NO_SPACE: i32 = IMAGE_CACHE_ERROR_NO_SPACE;
pub const BEING_CACHED: i32 = IMAGE_CACHE_ERROR_BEING_CACHED;
pub const FORKED: i32 = IMAGE_CACHE_ERROR_FORKED;
pub const INTERNAL: i32 = IMAGE_CACHE_ERROR_INTERNAL;
pub const LOST: i32 = IMAGE_CACHE_ERROR_LOST;
pub const NOT_FOUND: i32 = IMAGE_CACHE_ERROR_NOT_FOUND;
pub const NO_MEMORY: i32 = IMAGE_CACHE_ERROR_NO_MEMORY;
pub const TIMED_OUT: i32 = IMAGE_CACHE_ERROR_TIMED_OUT;
pub const UNSUPPORTED: i32 = IMAGE_CACHE_ERROR_UNSUPPORTED;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Sqlite,
    Xattr,
}

impl Driver {
    pub const BOTH: [Self; 2] = [Self::Sqlite, Self::Xattr];

    pub fn name(self) -> &'static str {
        if self == Self::Sqlite { "sqlite" } else { "xattr" }
    }

    pub fn of_name(name: &str) -> Self {
        Self::BOTH.into_iter().find(|driver| driver.name() == name).unwrap()
    }
}

/// What a failed call returned. It needs no memory of the heap, which may be the fault.
#[derive(Clone, Copy)]
pub struct Failure {
    pub status: i32,
    message: [c_char; 504],
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: both texts end with a NUL.
        let (name, message) =
            unsafe { (CStr::from_ptr(image_cache_status_name(self.status)), CStr::from_ptr(self.message.as_ptr())) };
        write!(formatter, "{}: {}", name.to_string_lossy(), message.to_string_lossy())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

pub type Outcome<T> = Result<T, Failure>;

/// The status of an outcome.
pub fn status_of<T>(outcome: &Outcome<T>) -> i32 {
    outcome.as_ref().map_or_else(|failure| failure.status, |_| IMAGE_CACHE_OK)
}

fn call(function: impl FnOnce(*mut image_cache_error_t) -> i32) -> Outcome<()> {
    let mut error = image_cache_error_t::default();
    let status = function(&raw mut error);
    if status == IMAGE_CACHE_OK { Ok(()) } else { Err(Failure { status, message: error.message }) }
}

/// A short text with a NUL at its end.
fn text(value: &str) -> [c_char; 300] {
    let mut text = [0; 300];
    for (place, byte) in text[..299].iter_mut().zip(value.bytes()) {
        *place = byte.cast_signed();
    }
    text
}

/// Options, in the order of the setters.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub driver: Driver,
    pub max_size: u64,
    pub stall_time: u64,
    pub durable: bool,
    pub hard: bool,
}

impl Settings {
    pub fn new(driver: Driver) -> Self {
        Self { driver, max_size: 10 << 30, stall_time: 86400, durable: false, hard: false }
    }

    pub fn max_size(self, max_size: u64) -> Self {
        Self { max_size, ..self }
    }

    pub fn stall_time(self, stall_time: u64) -> Self {
        Self { stall_time, ..self }
    }

    pub fn hard(self) -> Self {
        Self { hard: true, ..self }
    }

    pub fn durable(self) -> Self {
        Self { durable: true, ..self }
    }
}

/// What the library logged in this process.
static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The messages that were logged in this process, one a line.
pub fn logged() -> String {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
}

unsafe extern "C" fn log(_: *mut c_void, level: i32, message: *const c_char) {
    // SAFETY: the library passes a text.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).push(format!("log {level}: {message}"));
}

pub struct Cache(*mut image_cache_t);

// SAFETY: the header says so.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

/// An image of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub size: u64,
    pub hits: u64,
}

impl From<&image_cache_entry_t> for Entry {
    fn from(entry: &image_cache_entry_t) -> Self {
        // SAFETY: the library ends the id with a NUL.
        let id = unsafe { CStr::from_ptr(entry.image_id) }.to_str().unwrap().to_owned();
        Self { id, size: entry.size, hits: entry.hits }
    }
}

impl Cache {
    pub fn open(directory: &Path, settings: Settings) -> Outcome<Self> {
        Self::open_quietly(directory, settings, Some(log))
    }

    /// Without a log: a forked child cannot use its lock.
    pub fn open_without_log(directory: &Path, settings: Settings) -> Outcome<Self> {
        Self::open_quietly(directory, settings, None)
    }

    fn open_quietly(directory: &Path, settings: Settings, log: image_cache_log_fn) -> Outcome<Self> {
        let path = CString::new(directory.as_os_str().as_bytes()).unwrap();
        let driver =
            if settings.driver == Driver::Sqlite { IMAGE_CACHE_DRIVER_SQLITE } else { IMAGE_CACHE_DRIVER_XATTR };
        let durability = if settings.durable { IMAGE_CACHE_DURABILITY_FULL } else { IMAGE_CACHE_DURABILITY_NONE };
        let mut cache = null_mut();
        // SAFETY: the options live until they are freed, and the arguments until the call returns.
        unsafe {
            let options = image_cache_options_new();
            let set = call(|error| image_cache_options_set_driver(options, driver, error))
                .and_then(|()| call(|error| image_cache_options_set_max_size(options, settings.max_size, error)))
                .and_then(|()| call(|error| image_cache_options_set_max_pinned(options, 100, error)))
                .and_then(|()| {
                    let mode = IMAGE_CACHE_LIMIT_HARD;
                    let set = || call(|error| image_cache_options_set_limit_mode(options, mode, error));
                    if settings.hard { set() } else { Ok(()) }
                })
                .and_then(|()| call(|error| image_cache_options_set_stall_time(options, settings.stall_time, error)))
                .and_then(|()| call(|error| image_cache_options_set_durability(options, durability, error)))
                .and_then(|()| call(|error| image_cache_options_set_log(options, log, null_mut(), error)));
            let opened =
                set.and_then(|()| call(|error| image_cache_open(path.as_ptr(), options, &raw mut cache, error)));
            image_cache_options_free(options);
            opened.map(|()| Self(cache))
        }
    }

    /// The same handle a second time, as a forked child has it. The parent must not drop it.
    pub fn copy(&self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self(self.0))
    }

    fn question<T: Copy + Default>(
        &self,
        id: &str,
        function: unsafe extern "C" fn(*const image_cache_t, *const c_char, *mut T, *mut image_cache_error_t) -> i32,
    ) -> Outcome<T> {
        let (id, mut answer) = (text(id), T::default());
        // SAFETY: the arguments live until the call returns. This holds for all calls below.
        call(|error| unsafe { function(self.0, id.as_ptr(), &raw mut answer, error) })?;
        Ok(answer)
    }

    fn order(
        &self,
        id: &str,
        function: unsafe extern "C" fn(*const image_cache_t, *const c_char, *mut image_cache_error_t) -> i32,
    ) -> Outcome<()> {
        let id = text(id);
        // SAFETY: see `question`.
        call(|error| unsafe { function(self.0, id.as_ptr(), error) })
    }

    fn count(
        &self,
        function: unsafe extern "C" fn(*const image_cache_t, *mut u64, *mut image_cache_error_t) -> i32,
    ) -> Outcome<u64> {
        let mut count = 0;
        // SAFETY: see `question`.
        call(|error| unsafe { function(self.0, &raw mut count, error) })?;
        Ok(count)
    }

    pub fn is_cached(&self, id: &str) -> Outcome<bool> {
        self.question(id, image_cache_is_cached)
    }

    pub fn is_being_cached(&self, id: &str) -> Outcome<bool> {
        self.question(id, image_cache_is_being_cached)
    }

    pub fn is_queued(&self, id: &str) -> Outcome<bool> {
        self.question(id, image_cache_is_queued)
    }

    pub fn is_cacheable(&self, id: &str) -> Outcome<bool> {
        self.question(id, image_cache_is_cacheable)
    }

    pub fn image_size(&self, id: &str) -> Outcome<u64> {
        self.question(id, image_cache_get_image_size)
    }

    pub fn hit_count(&self, id: &str) -> Outcome<u64> {
        self.question(id, image_cache_get_hit_count)
    }

    pub fn queue(&self, id: &str) -> Outcome<bool> {
        self.question(id, image_cache_queue_image)
    }

    pub fn dequeue(&self, id: &str) -> Outcome<()> {
        self.order(id, image_cache_delete_queued_image)
    }

    pub fn delete(&self, id: &str) -> Outcome<()> {
        self.order(id, image_cache_delete_cached_image)
    }

    pub fn delete_all(&self) -> Outcome<u64> {
        self.count(image_cache_delete_all_cached_images)
    }

    pub fn dequeue_all(&self) -> Outcome<u64> {
        self.count(image_cache_delete_all_queued_images)
    }

    pub fn size(&self) -> Outcome<u64> {
        self.count(image_cache_get_cache_size)
    }

    /// Returns the number of images and of bytes.
    pub fn prune(&self) -> Outcome<(u64, u64)> {
        let (mut images, mut bytes) = (0, 0);
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_prune(self.0, &raw mut images, &raw mut bytes, error) })?;
        Ok((images, bytes))
    }

    /// Whether the image is gone.
    pub fn delete_unused(&self, id: &str) -> Outcome<bool> {
        self.question(id, image_cache_delete_unused_image)
    }

    /// The same as of a prune.
    pub fn make_room(&self, size: u64) -> Outcome<(u64, u64)> {
        let (mut images, mut bytes) = (0, 0);
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_make_room(self.0, size, &raw mut images, &raw mut bytes, error) })?;
        Ok((images, bytes))
    }

    pub fn pin(&self, id: &str, seconds: u64) -> Outcome<()> {
        let id = text(id);
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_pin(self.0, id.as_ptr(), c"holder".as_ptr(), seconds, error) })
    }

    pub fn unpin(&self, id: &str) -> Outcome<()> {
        let id = text(id);
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_unpin(self.0, id.as_ptr(), c"holder".as_ptr(), error) })
    }

    pub fn statistics(&self) -> Outcome<()> {
        let mut statistics = std::mem::MaybeUninit::uninit();
        let size = size_of::<image_cache_statistics_t>();
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_get_statistics(self.0, statistics.as_mut_ptr(), size, error) })
    }

    /// Exports an image to a file.
    pub fn export(&self, id: &str, file: &std::fs::File) -> Outcome<()> {
        use std::os::fd::AsRawFd as _;
        let (id, mut done) = (text(id), 0);
        // SAFETY: see `question`.
        call(|error| unsafe {
            image_cache_export(self.0, id.as_ptr(), file.as_raw_fd(), 0, std::ptr::null(), 0, &raw mut done, error)
        })
    }

    /// Imports a file.
    pub fn import(&self, id: &str, file: &std::fs::File) -> Outcome<()> {
        use std::os::fd::AsRawFd as _;
        let (id, mut done) = (text(id), 0);
        // SAFETY: see `question`.
        call(|error| unsafe {
            image_cache_import(self.0, id.as_ptr(), file.as_raw_fd(), 0, std::ptr::null(), 0, &raw mut done, error)
        })
    }

    /// Verifies all images. Returns how many are good, and how many are damaged.
    pub fn verify(&self) -> Outcome<(u64, u64)> {
        // SAFETY: all fields are numbers.
        let mut result: image_cache_verify_result_t = unsafe { std::mem::zeroed() };
        let size = size_of_val(&result);
        // SAFETY: see `question`.
        call(|error| unsafe {
            image_cache_verify(self.0, std::ptr::null(), std::ptr::null(), 0, &raw mut result, size, error)
        })?;
        Ok((result.verified, result.failed))
    }

    pub fn clean(&self, stall_time: i64) -> Outcome<u64> {
        let mut removed = 0;
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_clean(self.0, stall_time, &raw mut removed, error) })?;
        Ok(removed)
    }

    pub fn prefetch(&self, fetch: image_cache_fetch_fn) -> Outcome<(u64, u64)> {
        let (mut fetched, mut failed) = (0, 0);
        let counts = (&raw mut fetched, &raw mut failed);
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_prefetch(self.0, fetch, null_mut(), counts.0, counts.1, error) })?;
        Ok((fetched, failed))
    }

    pub fn list_cached(&self) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        self.list(image_cache_list_cached, |entry| entries.push(entry.into())).map(|()| entries)
    }

    pub fn list_queued(&self) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        self.list(image_cache_list_queued, |entry| entries.push(entry.into())).map(|()| entries)
    }

    pub fn get_image(&self, id: &str) -> Outcome<()> {
        let (id, mut list) = (text(id), null_mut());
        // SAFETY: see `question`.
        unsafe {
            call(|error| image_cache_get_image(self.0, id.as_ptr(), &raw mut list, error))?;
            image_cache_list_free(list);
        }
        Ok(())
    }

    pub fn list_incomplete(&self) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        self.list(image_cache_list_incomplete, |entry| entries.push(entry.into())).map(|()| entries)
    }

    pub fn list_invalid(&self) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        self.list(image_cache_list_invalid, |entry| entries.push(entry.into())).map(|()| entries)
    }

    /// The length of the list of cached images. It allocates nothing outside of the library.
    pub fn count_cached(&self) -> Outcome<usize> {
        let mut count = 0;
        self.list(image_cache_list_cached, |_| count += 1).map(|()| count)
    }

    fn list(
        &self,
        function: unsafe extern "C" fn(
            *const image_cache_t,
            *mut *mut image_cache_list_t,
            *mut image_cache_error_t,
        ) -> i32,
        mut visit: impl FnMut(&image_cache_entry_t),
    ) -> Outcome<()> {
        let mut list = null_mut();
        // SAFETY: see `question`. An entry lives until the next one.
        unsafe {
            call(|error| function(self.0, &raw mut list, error))?;
            let mut entry = std::ptr::null();
            while image_cache_list_next(list, &raw mut entry) {
                visit(&*entry);
            }
            image_cache_list_free(list);
        }
        Ok(())
    }

    pub fn begin_write(&self, id: &str) -> Outcome<Writer> {
        let (id, mut writer) = (text(id), null_mut());
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_begin_write(self.0, id.as_ptr(), &raw mut writer, error) })?;
        Ok(Writer::new(writer))
    }

    pub fn open_for_read(&self, id: &str) -> Outcome<Reader> {
        let (id, mut reader) = (text(id), null_mut());
        // SAFETY: see `question`.
        call(|error| unsafe { image_cache_open_for_read(self.0, id.as_ptr(), &raw mut reader, error) })?;
        Ok(Reader::new(reader))
    }

    /// A tee whose source delivers `rest` in pieces of at most 64 KiB.
    pub fn tee<'a>(&self, id: &str, rest: &'a mut &[u8]) -> Outcome<Tee<'a>> {
        let (id, mut tee) = (text(id), null_mut());
        let user_data = std::ptr::from_mut(rest).cast();
        // SAFETY: see `question`. The source's data outlives the tee.
        call(|error| unsafe {
            image_cache_tee_open(self.0, id.as_ptr(), Some(handles::next_piece), user_data, &raw mut tee, error)
        })?;
        Ok(Tee::new(tee))
    }

    /// Caches an image.
    pub fn write(&self, id: &str, data: &[u8]) -> Outcome<()> {
        let mut writer = self.begin_write(id)?;
        for chunk in data.chunks(1 << 20) {
            writer.write_chunk(chunk)?;
        }
        writer.commit()
    }

    /// Reads an image, as a hit.
    pub fn read(&self, id: &str) -> Outcome<Vec<u8>> {
        self.open_for_read(id)?.read_all()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: the handle is not used again.
        unsafe { image_cache_close(self.0) }
    }
}
