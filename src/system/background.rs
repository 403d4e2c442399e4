//! Threads of the library's own. No signal of the host's is ever delivered to one.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread::{Builder, JoinHandle};

/// Little is called there, and a host may have many.
const STACK: usize = 256 << 10;

/// Starts a thread on which all signals are blocked, so that the host's handlers do not run there: a thread begins with the mask
/// of the one that starts it. The kernel shows the first 15 bytes of its name.
pub(crate) fn start<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let blocked = Blocked::new();
    let started = Builder::new().name(name).stack_size(STACK).spawn(work);
    drop(blocked);
    started
}

/// All signals are blocked on this thread until this is dropped, but for those with which the C library itself does its work.
struct Blocked {
    /// The thread's mask as it was.
    before: libc::sigset_t,
}

#[allow(unsafe_code, reason = "signal masks")]
impl Blocked {
    fn new() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the pointers are to sets of our own, which sigfillset and pthread_sigmask fill.
        let before = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self { before }
    }
}

#[allow(unsafe_code, reason = "signal masks")]
impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the pointer is to a set that pthread_sigmask filled, or null where that is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}
