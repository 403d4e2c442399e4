//! Which process this is, in the sense that `fork` makes another one.
//!
//! Process ids do not tell: a process that is the first of its namespace and forks into a new one (a container's init) has a
//! child with the same id. So each process has a number in a page of memory that the kernel empties in a forked child
//! (`MADV_WIPEONFORK`), where the next number takes its place. The numbers are counted in ordinary memory, which the
//! child inherits: no process has a number that it could find on a handle of an ancestor's. A child that shares its parent's memory
//! (`vfork`, `posix_spawn`) has the same page, and leaves it as it is.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// One process, and no other that it forked or was forked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// The page with this process's number; null before it is first asked for, and [`none`] where the kernel cannot empty it.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// The numbers that were given, here and in the processes that this one comes from.
static GIVEN: AtomicU64 = AtomicU64::new(0);

/// A page is at least that long.
const LENGTH: usize = 4096;

/// Nobody's number: what the kernel leaves in a child's page.
const EMPTIED: u64 = 0;

impl Generation {
    /// This process.
    pub fn current() -> Self {
        match number() {
            // Before Linux 4.14, or in an emulation of it.
            None => Self(u64::from(std::process::id())),
            Some(number) => Self(given(number)),
        }
    }

    /// As a number that is not 0 and not the largest one.
    pub fn as_number(self) -> u64 {
        self.0
    }
}

/// The number in the page; a new one where there is none.
fn given(number: &AtomicU64) -> u64 {
    match number.load(Ordering::Relaxed) {
        EMPTIED => {
            let next = GIVEN.fetch_add(1, Ordering::Relaxed) + 1;
            // Of two threads that come here at once both take what the first one put there.
            number
                .compare_exchange(EMPTIED, next, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|other| other, |_| next)
        }
        number => number,
    }
}

#[allow(unsafe_code, reason = "a page that the kernel empties")]
fn number() -> Option<&'static AtomicU64> {
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        page = make_page();
    }
    // SAFETY: it is not null. Unless it is `none`, it is the start of a page of ours that is never unmapped, and is
    // accessed as an atomic alone.
    (page != none()).then(|| unsafe { &*page })
}

#[cold]
#[allow(unsafe_code, reason = "a page that the kernel empties")]
fn make_page() -> *mut AtomicU64 {
    let made = map();
    let page = made.map_or(none(), NonNull::as_ptr);
    match PAGE.compare_exchange(ptr::null_mut(), page, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => page,
        Err(other) => {
            if let Some(made) = made {
                // SAFETY: nobody else knows of it. Should it fail, a page is wasted.
                let _ = unsafe { munmap(made.as_ptr().cast(), LENGTH) };
            }
            other
        }
    }
}

/// A page of zeros that is one again in a child.
#[allow(unsafe_code, reason = "a page that the kernel empties")]
fn map() -> Option<NonNull<AtomicU64>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, wherever the kernel has room; it is ours alone.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), LENGTH, access, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: it is that mapping, in which nothing is yet.
    if unsafe { madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: as above, and nobody knows of it. Should it fail, a page is wasted.
        let _ = unsafe { munmap(page, LENGTH) };
        return None;
    }
    NonNull::new(page.cast())
}

/// What stands for a page that cannot be had.
fn none() -> *mut AtomicU64 {
    NonNull::dangling().as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_the_same_for_all_of_its_threads() {
        let threads = [(); 4].map(|()| std::thread::spawn(Generation::current));
        let here = Generation::current();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == here));
    }

    #[test]
    fn a_page_that_the_kernel_emptied_gets_a_number_that_no_ancestor_had() {
        let page = AtomicU64::new(EMPTIED);
        let parent = given(&page);
        assert_eq!(given(&page), parent);
        page.store(EMPTIED, Ordering::Relaxed);
        assert!(given(&page) > parent);
    }
}
