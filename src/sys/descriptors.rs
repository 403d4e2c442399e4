//! New descriptors: the only place that opens files and duplicates descriptors. None gets the number 0, 1 or 2. SQLite opens
//! the index's files itself, within [`with_standard_occupied`].
//!
//! A host may have closed its standard descriptors, and other threads of it may still print to these numbers. An open returns
//! the lowest free number. So free ones are occupied while the library opens, by a descriptor that can neither be read nor
//! written: a print fails with `EBADF`, as it does on a closed number.
//!
//! One case cannot be excluded: another thread closes a standard descriptor between the check and the open. The descriptor is
//! then moved at once.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, fcntl_getfl, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::path::Arg;

/// The first number after the standard descriptors.
const FIRST: i32 = 3;

/// What occupies a free standard descriptor.
const PLACEHOLDER: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Runs `open`, which opens one descriptor, and returns it. Its number is 3 or higher.
pub(crate) fn above_standard<E: From<Errno>>(open: impl FnOnce() -> Result<OwnedFd, E>) -> Result<OwnedFd, E> {
    let opened = if are_standard_open() {
        open()
    } else {
        let _occupied = Occupied::new()?;
        open()
    };
    opened.and_then(|descriptor| if is_above(&descriptor) { Ok(descriptor) } else { Ok(duplicate(&descriptor)?) })
}

/// Runs code that opens descriptors itself, as SQLite does, while the number of no standard descriptor is free. Fails when the
/// free ones cannot be occupied; `work` then is not run.
pub(crate) fn with_standard_occupied<T>(work: impl FnOnce() -> T) -> Result<T, Errno> {
    let _occupied = if are_standard_open() { None } else { Some(Occupied::new()?) };
    Ok(work())
}

/// Opens a name in a directory, close-on-exec.
pub(crate) fn open_at(
    directory: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    above_standard(|| retry_on_intr(|| openat(&directory, name, flags | OFlags::CLOEXEC, mode)))
}

/// Opens a path.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_at(CWD, path, flags, Mode::empty())
}

/// Duplicates a descriptor.
pub(crate) fn duplicate(descriptor: impl AsFd) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| fcntl_dupfd_cloexec(&descriptor, FIRST))
}

/// Gives an open descriptor's number to another file, for all threads at once. Calls that are under way end with the former file.
#[allow(unsafe_code, reason = "a number that many threads use goes on being valid")]
pub(crate) fn replace(descriptor: &OwnedFd, with: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: both are open, and the first one stays its owner's.
    let replaced = unsafe { libc::dup3(with.as_raw_fd(), descriptor.as_raw_fd(), libc::O_CLOEXEC) };
    if replaced < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn is_above(descriptor: &OwnedFd) -> bool {
    descriptor.as_raw_fd() >= FIRST
}

/// Whether 0, 1 and 2 are the host's. Placeholders of another thread, which end before this thread opens, do not count.
fn are_standard_open() -> bool {
    (0..FIRST).all(|number| matches!(flags_of(number), Ok(flags) if !flags.contains(OFlags::PATH)))
}

#[allow(unsafe_code, reason = "a descriptor that may be closed")]
fn flags_of(number: i32) -> Result<OFlags, Errno> {
    // SAFETY: the call only queries the number, which need not be open. It does not close it.
    fcntl_getfl(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The id of the process whose thread occupies the standard descriptors; 0 for none.
///
/// This is no mutex: a forked child would inherit one that nobody unlocks. Here, the parent's id counts as none.
static OCCUPIER: AtomicU32 = AtomicU32::new(0);

/// Occupies the free standard descriptors until it is dropped. One thread of the process at a time has it.
struct Occupied([Option<OwnedFd>; 3]);

impl Occupied {
    fn new() -> Result<Self, Errno> {
        let this = std::process::id();
        // The other thread is in an open as well, and ends it soon.
        while OCCUPIER
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |occupier| (occupier != this).then_some(this))
            .is_err()
        {
            std::thread::yield_now();
        }
        let mut occupied = Self([None, None, None]);
        for place in &mut occupied.0 {
            let placeholder = retry_on_intr(|| openat(CWD, c"/", PLACEHOLDER, Mode::empty()))?;
            if is_above(&placeholder) {
                break;
            }
            *place = Some(placeholder);
        }
        Ok(occupied)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        for placeholder in self.0.iter_mut().filter_map(Option::take) {
            close_if_ours(placeholder);
        }
        OCCUPIER.store(0, Ordering::Release);
    }
}

/// Closes a placeholder, unless the host has replaced it meanwhile (`dup2`): the number then is the host's.
#[allow(unsafe_code, reason = "a number that the host may have taken")]
fn close_if_ours(placeholder: OwnedFd) {
    let number = placeholder.into_raw_fd();
    if flags_of(number).is_ok_and(|flags| flags.contains(OFlags::PATH)) {
        // SAFETY: it was ours, and still is.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_descriptor_and_a_duplicate_are_above_the_standard_ones() {
        let root = open(Path::new("/"), OFlags::RDONLY).unwrap();
        assert!(is_above(&root) && is_above(&duplicate(&root).unwrap()));
    }
}
