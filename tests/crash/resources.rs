//! A process's resources: descriptors and memory, Rust's and SQLite's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, which counts the allocated bytes.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: the system allocator does all the work; the count has no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise holds for the system allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise holds for the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How much the process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    pub descriptors: usize,
    pub bytes: usize,
    pub bytes_of_sqlite: i64,
}

impl Resources {
    pub fn now() -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("this process has descriptors").count();
        // SAFETY: it only reads a counter of SQLite's.
        let bytes_of_sqlite = unsafe { rusqlite::ffi::sqlite3_memory_used() };
        Self { descriptors, bytes: ALLOCATED.load(Ordering::Relaxed), bytes_of_sqlite }
    }

    /// How many descriptors and bytes more are in use than before.
    pub fn since(self, then: Self) -> (i64, i64) {
        let more = |now: usize, then: usize| now.cast_signed() as i64 - then.cast_signed() as i64;
        let bytes = more(self.bytes, then.bytes) + self.bytes_of_sqlite - then.bytes_of_sqlite;
        (more(self.descriptors, then.descriptors), bytes)
    }
}
