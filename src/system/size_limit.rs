//! Writing beyond the process's limit on file sizes (`ulimit -f`) raises a signal that ends the host. Here it is an error.

use std::mem::MaybeUninit;
use std::ptr;

use rustix::process::{Resource, getrlimit};

/// Whether the process has a limit on file sizes at present.
pub(crate) fn has_size_limit() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}

/// Runs `write`. Where the process has a limit on file sizes, what goes beyond it fails with `EFBIG`, and no signal is left.
pub(crate) fn without_size_signal<T>(write: impl FnOnce() -> T) -> T {
    if !has_size_limit() {
        return write();
    }
    let blocked = Blocked::new();
    let result = write();
    drop(blocked);
    result
}

/// The signal is blocked on this thread, to which the kernel sends it, until this is dropped.
struct Blocked {
    signal: libc::sigset_t,
    /// The thread's mask as it was.
    before: libc::sigset_t,
    /// The signal waited already: it is somebody else's.
    was_pending: bool,
}

#[allow(unsafe_code, reason = "signal masks")]
impl Blocked {
    fn new() -> Self {
        let (mut signal, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the pointers are to sets of our own, which sigemptyset and pthread_sigmask fill; SIGXFSZ is a signal.
        let (signal, before) = unsafe {
            libc::sigemptyset(signal.as_mut_ptr());
            libc::sigaddset(signal.as_mut_ptr(), libc::SIGXFSZ);
            libc::pthread_sigmask(libc::SIG_BLOCK, signal.as_ptr(), before.as_mut_ptr());
            (signal.assume_init(), before.assume_init())
        };
        Self { signal, before, was_pending: is_pending() }
    }
}

#[allow(unsafe_code, reason = "signal masks")]
impl Drop for Blocked {
    fn drop(&mut self) {
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointers are to values of our own, or null where that is allowed.
        unsafe {
            if !self.was_pending && is_pending() {
                libc::sigtimedwait(&raw const self.signal, ptr::null_mut(), &raw const no_time);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut());
        }
    }
}

#[allow(unsafe_code, reason = "signal masks")]
fn is_pending() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: sigpending fills the set, which is our own.
    unsafe {
        libc::sigpending(pending.as_mut_ptr());
        libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1
    }
}
