//! Signal masks of the calling thread: none of the host's signals reaches a thread of ours, and no write raises SIGXFSZ.

use std::mem::MaybeUninit;
use std::ptr;

use rustix::process::{Resource, getrlimit};

/// Blocks all signals on this thread until it is dropped.
pub(crate) struct AllBlocked {
    /// The mask that is restored.
    before: libc::sigset_t,
}

impl AllBlocked {
    pub fn new() -> Self {
        Self { before: set_mask(libc::SIG_SETMASK, &all()) }
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        set_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Runs `write` without SIGXFSZ, which a write beyond the process's limit on file sizes raises, and which ends the host. Such a
/// write fails with `EFBIG`, and no signal stays pending.
pub(crate) fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    // `ulimit -f`
    if getrlimit(Resource::Fsize).current.is_none() {
        return write();
    }
    let blocked = SizeSignalBlocked::new();
    let result = write();
    drop(blocked);
    result
}

/// Blocks SIGXFSZ on this thread, to which the kernel sends it, until it is dropped.
struct SizeSignalBlocked {
    /// The mask that is restored.
    before: libc::sigset_t,
    /// The signal was pending before: it is not ours to consume.
    was_pending: bool,
}

impl SizeSignalBlocked {
    fn new() -> Self {
        let before = set_mask(libc::SIG_BLOCK, &size_signal());
        Self { before, was_pending: is_size_signal_pending() }
    }
}

impl Drop for SizeSignalBlocked {
    fn drop(&mut self) {
        if !self.was_pending && is_size_signal_pending() {
            consume_size_signal();
        }
        set_mask(libc::SIG_SETMASK, &self.before);
    }
}

/// Every signal except those that the C library uses internally.
#[allow(unsafe_code, reason = "signal masks")]
fn all() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset initialises the set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

#[allow(unsafe_code, reason = "signal masks")]
fn size_signal() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, and SIGXFSZ is a signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        set.assume_init()
    }
}

/// Changes this thread's mask, and returns the one before.
#[allow(unsafe_code, reason = "signal masks")]
fn set_mask(how: libc::c_int, set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = MaybeUninit::uninit();
    // SAFETY: both pointers are valid, and pthread_sigmask fills the second set. It fails for an unknown `how` only.
    unsafe {
        libc::pthread_sigmask(how, ptr::from_ref(set), before.as_mut_ptr());
        before.assume_init()
    }
}

#[allow(unsafe_code, reason = "signal masks")]
fn is_size_signal_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: sigpending initialises the set.
    unsafe {
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1
    }
}

#[allow(unsafe_code, reason = "signal masks")]
fn consume_size_signal() {
    let signal = size_signal();
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the time are valid, and a null pointer requests no details.
    unsafe { libc::sigtimedwait(&raw const signal, ptr::null_mut(), &raw const no_time) };
}
