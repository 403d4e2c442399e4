//! A list of images, read one entry after the other.

use std::ffi::{CString, c_char};
use std::mem::offset_of;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use crate::ffi::call::{close, peek};
use crate::ffi::handle::{Slot, handle};
use crate::ffi::out::{OutParameters as _, out};
use crate::{CachedImage, IncompleteImage, InvalidImage, QueuedImage};

/// One image of a list.
///
/// The library allocates it. Later versions may append fields.
#[repr(C)]
pub struct image_cache_entry_t {
    /// The image's id.
    pub image_id: *const c_char,
    /// Its length in bytes; of an incomplete or invalid image, how many bytes are there.
    pub size: u64,
    /// How often it was read.
    pub hits: u64,
    /// When it was last opened, or committed if it never was: nanoseconds since the Unix epoch.
    pub last_accessed: i64,
    /// When it was committed: nanoseconds since the Unix epoch.
    pub last_modified: i64,
    /// The digest at commit as "algorithm:hex", or NULL. An md5, sha256 or sha512 was expected by the caller; of several
    /// it is the strongest. Where none was expected, it is a crc64nvme, which was computed from the bytes received. It
    /// detects accidents, but no manipulation.
    pub digest: *const c_char,
    /// Why an image is invalid, or who has an incomplete one, as a text; else NULL.
    pub reason: *const c_char,
    /// The process of an incomplete image's writer, or of the stream that fetched last; else, or if unknown, 0.
    pub process: u64,
    /// When its writing or fetch began: nanoseconds since the Unix epoch; else, or if unknown, 0.
    pub since: i64,
    /// Until when a cached image is pinned: nanoseconds since the Unix epoch, by the present clock. 0: it is not pinned, or
    /// this process may not read the pins. INT64_MAX: as long as a process lives, after 2262, or unknown.
    pub pinned_until: i64,
    /// What it takes up on the disk, in bytes: less than its length if it has holes, or is compressed; of an incomplete
    /// image with what is reserved for it. 0 for a queued image, and for one that vanished meanwhile.
    pub allocated: u64,
}

// C programs have this layout compiled in, except the size, because later versions may append fields.
// tests/abi/layout.c checks the same of the header.
#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<image_cache_entry_t>() == 88 && align_of::<image_cache_entry_t>() == 8);
    assert!(offset_of!(image_cache_entry_t, image_id) == 0);
    assert!(offset_of!(image_cache_entry_t, size) == 8);
    assert!(offset_of!(image_cache_entry_t, hits) == 16);
    assert!(offset_of!(image_cache_entry_t, last_accessed) == 24);
    assert!(offset_of!(image_cache_entry_t, last_modified) == 32);
    assert!(offset_of!(image_cache_entry_t, digest) == 40);
    assert!(offset_of!(image_cache_entry_t, reason) == 48);
    assert!(offset_of!(image_cache_entry_t, process) == 56);
    assert!(offset_of!(image_cache_entry_t, since) == 64);
    assert!(offset_of!(image_cache_entry_t, pinned_until) == 72);
    assert!(offset_of!(image_cache_entry_t, allocated) == 80);
};

/// A list of images, which is a snapshot.
///
/// Created by image_cache_get_image() or an image_cache_list_ function, ended by image_cache_list_free(). It does not
/// need the cache any more.
pub struct image_cache_list_t(Slot<List>);
handle!(image_cache_list_t, List, "list", shared);

/// The remaining entries, and the current one, which C reads.
pub(super) struct List(Mutex<State>);

struct State {
    rest: Box<dyn Iterator<Item = Entry> + Send>,
    current: Option<Box<CurrentEntry>>,
}

/// What an entry shows.
pub(super) struct Entry {
    image: CachedImage,
    reason: Option<String>,
    process: Option<u32>,
    since: Option<i64>,
}

impl From<CachedImage> for Entry {
    fn from(image: CachedImage) -> Self {
        Self { image, reason: None, process: None, since: None }
    }
}

/// An image that is not cached: its length, what it takes up on the disk, and the time of its last change.
fn uncached(image_id: String, (size, allocated): (u64, u64), time: i64) -> Entry {
    CachedImage {
        image_id,
        size,
        hits: 0,
        last_accessed: time,
        last_modified: time,
        digest: None,
        pinned_until: 0,
        allocated,
    }
    .into()
}

impl From<QueuedImage> for Entry {
    fn from(image: QueuedImage) -> Self {
        uncached(image.image_id, (0, 0), image.queued)
    }
}

impl From<IncompleteImage> for Entry {
    fn from(image: IncompleteImage) -> Self {
        let IncompleteImage { image_id, size, allocated, holder, process, since, last_modified } = image;
        let uncached = uncached(image_id, (size, allocated), last_modified);
        Self { reason: Some(holder.to_string()), process, since, ..uncached }
    }
}

impl From<InvalidImage> for Entry {
    fn from(image: InvalidImage) -> Self {
        let InvalidImage { image_id, size, allocated, reason, last_modified } = image;
        Self { reason, ..uncached(image_id, (size, allocated), last_modified) }
    }
}

/// An entry with the strings that it points to.
struct CurrentEntry {
    shown: image_cache_entry_t,
    _image_id: CString,
    _digest: Option<CString>,
    _reason: Option<CString>,
}

// SAFETY: the pointers in an entry point to the strings beside it, which never change.
unsafe impl Send for CurrentEntry {}

impl List {
    pub fn of<I>(images: I) -> Self
    where
        I: IntoIterator<Item: 'static, IntoIter: Send + 'static>,
        Entry: From<I::Item>,
    {
        Self(Mutex::new(State { rest: Box::new(images.into_iter().map(Entry::from)), current: None }))
    }

    /// The next entry, or NULL at the end. It is valid until the next call or the end of the list.
    fn next(&self) -> *const image_cache_entry_t {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.current = state.rest.next().map(CurrentEntry::new).map(Box::new);
        state.current.as_ref().map_or(ptr::null(), |current| &raw const current.shown)
    }
}

impl CurrentEntry {
    fn new(entry: Entry) -> Self {
        let Entry { image, reason, process, since } = entry;
        // Neither an id nor a digest can have a NUL.
        let image_id = CString::new(image.image_id).unwrap_or_default();
        let digest = image.digest.and_then(|digest| CString::new(digest).ok());
        // Another program may have written any text.
        let reason = reason.map(|text| CString::new(text.replace('\0', " ")).unwrap_or_default());
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        Self {
            shown: image_cache_entry_t {
                image_id: image_id.as_ptr(),
                size: image.size,
                hits: image.hits,
                last_accessed: image.last_accessed,
                last_modified: image.last_modified,
                digest: pointer(&digest),
                reason: pointer(&reason),
                process: process.map_or(0, u64::from),
                since: since.unwrap_or(0),
                pinned_until: image.pinned_until,
                allocated: image.allocated,
            },
            _image_id: image_id,
            _digest: digest,
            _reason: reason,
        }
    }
}

/// Moves to the next entry of a list.
///
/// - `list`: the list
/// - `entry`: set to the entry, which is valid until the next call for this list or its end; NULL at the end
///
/// Returns true, or false at the end of the list and for NULL.
///
/// Threads: any. A thread's entry is invalid once another thread moves to the next. Blocks: never.
///
/// ```c
/// const image_cache_entry_t *entry;
/// if (image_cache_list_cached(cache, &list, &error) == IMAGE_CACHE_OK)
///     while (image_cache_list_next(list, &entry))
///         printf("%s: %llu bytes\n", entry->image_id, (unsigned long long)entry->size);
/// image_cache_list_free(list);
/// ```
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_next(
    list: *mut image_cache_list_t,
    entry: *mut *const image_cache_entry_t,
) -> bool {
    // SAFETY: see the module.
    unsafe {
        let out = out!(entry);
        out.blank();
        out.check().is_ok_and(|()| {
            let next = peek(list, ptr::null(), List::next);
            out.store(next);
            !next.is_null()
        })
    }
}

/// Ends a list.
///
/// - `list`: the list; may be NULL
///
/// Threads: any. No other call may use this handle now or later. Blocks: never.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn image_cache_list_free(list: *mut image_cache_list_t) {
    // SAFETY: see the module.
    unsafe { close(list) }
}
