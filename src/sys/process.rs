//! Identifies the present boot of the host, and a process in such a way that a forked child differs from its parent.
//!
//! Process ids are not enough: an init process of a container that forks into a new PID namespace has a child with the same id.
//! So each process has a number in a page that the kernel clears in a forked child (`MADV_WIPEONFORK`). The child then takes
//! the next number. The counter lives in ordinary memory, which the child inherits, so no process gets a number that it could
//! find in a handle of an ancestor. A child that shares its parent's memory (`vfork`, `posix_spawn`) shares the page, too.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rustix::fs::OFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::sys::descriptors;

/// One process, distinct from its ancestors and descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessInstance(u64);

/// The id of the host's present boot; `None` where `/proc` does not have it.
pub(crate) fn boot_id() -> Option<String> {
    let mut id = String::new();
    let file = descriptors::open(Path::new("/proc/sys/kernel/random/boot_id"), OFlags::RDONLY).ok()?;
    File::from(file).read_to_string(&mut id).ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// The page with this process's number: null before the first use, [`none`] where the kernel cannot clear it.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// The last number that this process or an ancestor took.
static LAST: AtomicU64 = AtomicU64::new(0);

/// The size of the mapping, in bytes: at most one page.
const LENGTH: usize = 4096;

/// No process has this number: the kernel leaves it in a child's page.
const CLEARED: u64 = 0;

impl ProcessInstance {
    /// This process.
    pub fn current() -> Self {
        match number() {
            // Linux before 4.14, or an emulation of Linux.
            None => Self(u64::from(std::process::id())),
            Some(number) => Self(number_in(number)),
        }
    }

    /// A number, neither 0 nor the largest one.
    pub fn as_number(self) -> u64 {
        self.0
    }
}

/// The number in the page; takes a new one when the page is cleared.
fn number_in(number: &AtomicU64) -> u64 {
    match number.load(Ordering::Relaxed) {
        CLEARED => {
            let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            // Two threads that race here both return the number that was stored first.
            number
                .compare_exchange(CLEARED, next, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|other| other, |_| next)
        }
        number => number,
    }
}

#[allow(unsafe_code, reason = "a page that the kernel clears")]
fn number() -> Option<&'static AtomicU64> {
    let mut page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        page = make_page();
    }
    // SAFETY: it is not null. Unless it is `none`, it points to a page of ours that is never unmapped, and that is only
    // accessed as an atomic.
    (page != none()).then(|| unsafe { &*page })
}

#[cold]
#[allow(unsafe_code, reason = "a page that the kernel clears")]
fn make_page() -> *mut AtomicU64 {
    let made = map();
    let page = made.map_or(none(), NonNull::as_ptr);
    match PAGE.compare_exchange(ptr::null_mut(), page, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => page,
        Err(other) => {
            if let Some(made) = made {
                // SAFETY: nobody else has its address. If this fails, a page is wasted.
                let _ = unsafe { munmap(made.as_ptr().cast(), LENGTH) };
            }
            other
        }
    }
}

/// A page of zeros that the kernel clears again in a child.
#[allow(unsafe_code, reason = "a page that the kernel clears")]
fn map() -> Option<NonNull<AtomicU64>> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new private mapping at an address that the kernel chooses.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), LENGTH, access, MapFlags::PRIVATE) }.ok()?;
    // SAFETY: it is that mapping, which holds no data yet.
    if unsafe { madvise(page, LENGTH, Advice::LinuxWipeOnFork) }.is_err() {
        // SAFETY: nobody else has its address. If this fails, a page is wasted.
        let _ = unsafe { munmap(page, LENGTH) };
        return None;
    }
    NonNull::new(page.cast())
}

/// Marks that no page is available.
fn none() -> *mut AtomicU64 {
    NonNull::dangling().as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_the_same_for_all_of_its_threads() {
        let threads = [(); 4].map(|()| std::thread::spawn(ProcessInstance::current));
        let here = ProcessInstance::current();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == here));
    }

    #[test]
    fn a_page_that_the_kernel_cleared_gets_a_number_that_no_ancestor_had() {
        let page = AtomicU64::new(CLEARED);
        let parent = number_in(&page);
        assert_eq!(number_in(&page), parent);
        page.store(CLEARED, Ordering::Relaxed);
        assert!(number_in(&page) > parent);
    }
}
