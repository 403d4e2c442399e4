//! The C functions, called as a C program calls them. Each handle ends with its Rust value.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each pointer is one that the library returned, or a local variable's"
)]
#![allow(dead_code, reason = "each kind uses a part")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Mutex};

use image_cache::ffi::cache::*;
use image_cache::ffi::list::*;
use image_cache::ffi::maintenance::*;
use image_cache::ffi::options::*;
pub use image_cache::ffi::options::{
    IMAGE_CACHE_DRIVER_SQLITE as SQLITE, IMAGE_CACHE_DRIVER_XATTR as XATTR,
    IMAGE_CACHE_DRIVER_XATTR_OR_SQLITE as XATTR_OR_SQLITE, IMAGE_CACHE_DURABILITY_FULL as FULL,
    IMAGE_CACHE_DURABILITY_NONE as NONE,
};
use image_cache::ffi::query::*;
use image_cache::ffi::queue::*;
use image_cache::ffi::reader::*;
pub use image_cache::ffi::status::*;
use image_cache::ffi::tee::*;
use image_cache::ffi::writer::*;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: i32,
    pub os_error: i32,
    pub message: String,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (errno {}): {}", self.status, self.os_error, self.message)
    }
}

/// Calls a function with an error to fill.
pub fn call(function: impl FnOnce(*mut image_cache_error_t) -> image_cache_status_t) -> Outcome {
    let mut error = image_cache_error_t::default();
    let status = function(&raw mut error);
    if status == IMAGE_CACHE_OK {
        return Ok(());
    }
    assert_eq!(status, error.status, "the status of the error is the one returned");
    let message = unsafe { CStr::from_ptr(error.message.as_ptr()) };
    let message = message.to_str().expect("a message is UTF-8").to_owned();
    Err(Failure { status, os_error: error.os_error, message })
}

/// The status of an outcome.
pub fn status<T>(outcome: &Outcome<T>) -> i32 {
    outcome.as_ref().map_or_else(|failure| failure.status, |_| IMAGE_CACHE_OK)
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// The messages that a log received.
pub type Messages = Arc<Mutex<Vec<String>>>;

unsafe extern "C" fn record(user_data: *mut c_void, _level: i32, message: *const c_char) {
    let (messages, message) = unsafe { (&*user_data.cast::<Mutex<Vec<String>>>(), CStr::from_ptr(message)) };
    messages.lock().unwrap().push(message.to_string_lossy().into_owned());
}

/// The options of an open.
#[derive(Debug, Clone)]
pub struct Settings {
    pub driver: i32,
    pub max_size: Option<u64>,
    pub stall_time: Option<u64>,
    pub durability: i32,
    pub database: Option<&'static str>,
    pub change_driver: bool,
    pub messages: Messages,
}

impl Settings {
    pub fn new(driver: i32) -> Self {
        let messages = Messages::default();
        // A reader may outlive its test, so the log's data lives as long as the process.
        std::mem::forget(Arc::clone(&messages));
        let (max_size, stall_time, database) = (None, None, None);
        Self { driver, max_size, stall_time, durability: FULL, database, change_driver: false, messages }
    }

    pub fn max_size(self, bytes: u64) -> Self {
        Self { max_size: Some(bytes), ..self }
    }

    pub fn durability(self, durability: i32) -> Self {
        Self { durability, ..self }
    }

    pub fn stall_time(self, seconds: u64) -> Self {
        Self { stall_time: Some(seconds), ..self }
    }

    pub fn logged(&self, part: &str) -> bool {
        self.messages.lock().unwrap().iter().any(|message| message.contains(part))
    }

    pub fn open(&self, directory: &Path) -> Outcome<Cache> {
        let directory = CString::new(directory.as_os_str().as_bytes()).unwrap();
        let options = image_cache_options_new();
        let mut cache = ptr::null_mut();
        let outcome = unsafe {
            let data = Arc::as_ptr(&self.messages).cast_mut().cast();
            call(|error| image_cache_options_set_driver(options, self.driver, error))
                .and_then(|()| call(|error| image_cache_options_set_durability(options, self.durability, error)))
                .and_then(|()| call(|error| image_cache_options_set_change_driver(options, self.change_driver, error)))
                .and_then(|()| call(|error| image_cache_options_set_log(options, Some(record), data, error)))
                .and_then(|()| {
                    self.max_size
                        .map_or(Ok(()), |bytes| call(|error| image_cache_options_set_max_size(options, bytes, error)))
                })
                .and_then(|()| {
                    let set = |seconds| call(|error| image_cache_options_set_stall_time(options, seconds, error));
                    self.stall_time.map_or(Ok(()), set)
                })
                .and_then(|()| {
                    let name = self.database.map(text);
                    let set =
                        |name: &CString| call(|error| image_cache_options_set_database(options, name.as_ptr(), error));
                    name.as_ref().map_or(Ok(()), set)
                })
                .and_then(|()| call(|error| image_cache_open(directory.as_ptr(), options, &raw mut cache, error)))
        };
        unsafe { image_cache_options_free(options) };
        assert_eq!(outcome.is_err(), cache.is_null());
        outcome.map(|()| Cache(cache))
    }
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub size: u64,
    pub hits: u64,
    pub last_accessed: i64,
}

/// An open cache.
#[derive(Debug)]
pub struct Cache(pub *mut image_cache_t);

// SAFETY: the header says that a cache is used by many threads.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

impl Drop for Cache {
    fn drop(&mut self) {
        unsafe { image_cache_close(self.0) };
    }
}

impl Cache {
    pub fn list(&self) -> Outcome<Vec<Entry>> {
        let mut list = ptr::null_mut();
        call(|error| unsafe { image_cache_list_cached(self.0, &raw mut list, error) })?;
        Ok(unsafe { entries(list) })
    }

    pub fn list_queued(&self) -> Outcome<Vec<Entry>> {
        let mut list = ptr::null_mut();
        call(|error| unsafe { image_cache_list_queued(self.0, &raw mut list, error) })?;
        Ok(unsafe { entries(list) })
    }

    pub fn ids(&self) -> Outcome<Vec<String>> {
        Ok(self.list()?.into_iter().map(|entry| entry.id).collect())
    }

    pub fn sizes(&self) -> Outcome<BTreeMap<String, u64>> {
        let list = self.list()?;
        let sizes: BTreeMap<_, _> = list.iter().map(|entry| (entry.id.clone(), entry.size)).collect();
        assert_eq!(sizes.len(), list.len(), "each image is listed once: {list:?}");
        Ok(sizes)
    }

    pub fn cache_size(&self) -> Outcome<u64> {
        let mut bytes = 0;
        call(|error| unsafe { image_cache_get_cache_size(self.0, &raw mut bytes, error) }).map(|()| bytes)
    }

    pub fn image_size(&self, id: &str) -> Outcome<u64> {
        let (id, mut bytes) = (text(id), 0);
        call(|error| unsafe { image_cache_get_image_size(self.0, id.as_ptr(), &raw mut bytes, error) }).map(|()| bytes)
    }

    pub fn hits(&self, id: &str) -> Outcome<u64> {
        let (id, mut hits) = (text(id), 0);
        call(|error| unsafe { image_cache_get_hit_count(self.0, id.as_ptr(), &raw mut hits, error) }).map(|()| hits)
    }

    pub fn is_cached(&self, id: &str) -> Outcome<bool> {
        let (id, mut answer) = (text(id), false);
        call(|error| unsafe { image_cache_is_cached(self.0, id.as_ptr(), &raw mut answer, error) }).map(|()| answer)
    }

    pub fn is_queued(&self, id: &str) -> Outcome<bool> {
        let (id, mut answer) = (text(id), false);
        call(|error| unsafe { image_cache_is_queued(self.0, id.as_ptr(), &raw mut answer, error) }).map(|()| answer)
    }

    pub fn is_cacheable(&self, id: &str) -> Outcome<bool> {
        let (id, mut answer) = (text(id), false);
        call(|error| unsafe { image_cache_is_cacheable(self.0, id.as_ptr(), &raw mut answer, error) }).map(|()| answer)
    }

    pub fn delete(&self, id: &str) -> Outcome {
        let id = text(id);
        call(|error| unsafe { image_cache_delete_cached_image(self.0, id.as_ptr(), error) })
    }

    pub fn delete_all(&self) -> Outcome<u64> {
        let mut deleted = 0;
        call(|error| unsafe { image_cache_delete_all_cached_images(self.0, &raw mut deleted, error) }).map(|()| deleted)
    }

    pub fn queue(&self, id: &str) -> Outcome<bool> {
        let (id, mut queued) = (text(id), false);
        call(|error| unsafe { image_cache_queue_image(self.0, id.as_ptr(), &raw mut queued, error) }).map(|()| queued)
    }

    pub fn delete_all_queued(&self) -> Outcome<u64> {
        let mut deleted = 0;
        call(|error| unsafe { image_cache_delete_all_queued_images(self.0, &raw mut deleted, error) }).map(|()| deleted)
    }

    /// The number of images evicted, and their bytes.
    pub fn prune(&self) -> Outcome<(u64, u64)> {
        let (mut images, mut bytes) = (0, 0);
        call(|error| unsafe { image_cache_prune(self.0, &raw mut images, &raw mut bytes, error) })?;
        Ok((images, bytes))
    }

    /// Returns the number of images and of bytes.
    pub fn make_room(&self, size: u64) -> Outcome<(u64, u64)> {
        let (mut images, mut bytes) = (0, 0);
        call(|error| unsafe { image_cache_make_room(self.0, size, &raw mut images, &raw mut bytes, error) })?;
        Ok((images, bytes))
    }

    /// With the configured stall time.
    pub fn clean(&self) -> Outcome<u64> {
        let mut removed = 0;
        call(|error| unsafe { image_cache_clean(self.0, -1, &raw mut removed, error) }).map(|()| removed)
    }

    pub fn begin(&self, id: &str) -> Outcome<Writer> {
        let (id, mut writer) = (text(id), ptr::null_mut());
        call(|error| unsafe { image_cache_begin_write(self.0, id.as_ptr(), &raw mut writer, error) })?;
        Ok(Writer(writer))
    }

    /// Caches an image.
    pub fn put(&self, id: &str, data: &[u8]) -> Outcome {
        let writer = self.begin(id)?;
        writer.write(data)?;
        writer.commit()
    }

    pub fn open_for_read(&self, id: &str) -> Outcome<Reader> {
        let (id, mut reader) = (text(id), ptr::null_mut());
        call(|error| unsafe { image_cache_open_for_read(self.0, id.as_ptr(), &raw mut reader, error) })?;
        Ok(Reader(reader))
    }

    /// Reads a whole image, which counts one hit.
    pub fn read(&self, id: &str) -> Outcome<Vec<u8>> {
        self.open_for_read(id)?.read_all()
    }

    /// `data` must stay valid until the tee ends.
    pub fn tee(&self, id: &str, source: image_cache_source_fn, data: *mut c_void) -> Outcome<Tee> {
        let (id, mut tee) = (text(id), ptr::null_mut());
        call(|error| unsafe { image_cache_tee_open(self.0, id.as_ptr(), source, data, &raw mut tee, error) })?;
        Ok(Tee(tee))
    }

    /// The number of images fetched, and of those that failed.
    pub fn prefetch(&self, fetch: image_cache_fetch_fn, data: *mut c_void) -> Outcome<(u64, u64)> {
        let (mut fetched, mut failed) = (0, 0);
        call(|error| unsafe { image_cache_prefetch(self.0, fetch, data, &raw mut fetched, &raw mut failed, error) })?;
        Ok((fetched, failed))
    }
}

/// Takes a list's entries, and ends it.
unsafe fn entries(list: *mut image_cache_list_t) -> Vec<Entry> {
    let (mut entries, mut entry) = (Vec::new(), ptr::null());
    unsafe {
        while image_cache_list_next(list, &raw mut entry) {
            let id = CStr::from_ptr((*entry).image_id).to_str().unwrap().to_owned();
            let (size, hits, last_accessed) = ((*entry).size, (*entry).hits, (*entry).last_accessed);
            entries.push(Entry { id, size, hits, last_accessed });
        }
        image_cache_list_free(list);
    }
    entries
}

/// An image's writer, which is aborted if it is not committed.
#[derive(Debug)]
pub struct Writer(*mut image_cache_writer_t);

// SAFETY: the header says that one thread after the other may use it.
unsafe impl Send for Writer {}

impl Writer {
    pub fn write(&self, data: &[u8]) -> Outcome {
        call(|error| unsafe { image_cache_write_chunk(self.0, data.as_ptr().cast(), data.len(), error) })
    }

    pub fn commit(mut self) -> Outcome {
        let writer = std::mem::replace(&mut self.0, ptr::null_mut());
        call(|error| unsafe { image_cache_commit(writer, error) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        unsafe { image_cache_abort(self.0, c"the test gave it up".as_ptr()) };
    }
}

/// An open image.
#[derive(Debug)]
pub struct Reader(pub *mut image_cache_reader_t);

impl Reader {
    pub fn size(&self) -> u64 {
        unsafe { image_cache_reader_size(self.0) }
    }

    pub fn read_all(&self) -> Outcome<Vec<u8>> {
        let (mut all, mut buffer, mut length) = (Vec::new(), [0_u8; 4096], 0);
        loop {
            let to = buffer.as_mut_ptr().cast();
            call(|error| unsafe { image_cache_read(self.0, to, buffer.len(), &raw mut length, error) })?;
            if length == 0 {
                return Ok(all);
            }
            all.extend_from_slice(&buffer[..length]);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        unsafe { image_cache_reader_close(self.0) };
    }
}

/// A stream that is cached on the way.
#[derive(Debug)]
pub struct Tee(pub *mut image_cache_tee_t);

impl Tee {
    pub fn refuse_empty(&self) -> Outcome {
        call(|error| unsafe { image_cache_tee_refuse_empty(self.0, error) })
    }

    /// Reads once. Returns the number of bytes.
    pub fn read(&self, buffer: &mut [u8]) -> Outcome<usize> {
        let mut length = 0;
        let to = buffer.as_mut_ptr().cast();
        call(|error| unsafe { image_cache_tee_read(self.0, to, buffer.len(), &raw mut length, error) })?;
        Ok(length)
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        unsafe { image_cache_tee_close(self.0) };
    }
}
