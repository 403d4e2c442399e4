//! Threads of the library's own, to which no signal of the host is delivered; and the cancellation of the host's threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::sys::signals::AllBlocked;

/// Their stack, in bytes. They call little, and a host may have many of them.
const STACK: usize = 256 << 10;

/// Keeps `pthread_cancel` from ending the calling thread until it is dropped. A cancelled thread unwinds as by a C++ exception,
/// which no Rust function survives: the process aborts. The thread is cancelled at a later cancellation point of the host's own.
pub(crate) struct CancellationDisabled {
    /// The state that is restored.
    before: libc::c_int,
}

impl CancellationDisabled {
    pub fn new() -> Self {
        const DISABLE: libc::c_int = 1; // PTHREAD_CANCEL_DISABLE, with glibc and with musl
        Self { before: set_cancel_state(DISABLE) }
    }
}

impl Drop for CancellationDisabled {
    fn drop(&mut self) {
        set_cancel_state(self.before);
    }
}

/// Sets this thread's cancel state, and returns the one before.
#[allow(unsafe_code, reason = "the libc crate lacks this function")]
fn set_cancel_state(state: libc::c_int) -> libc::c_int {
    unsafe extern "C" {
        fn pthread_setcancelstate(state: libc::c_int, before: *mut libc::c_int) -> libc::c_int;
    }
    let mut before = 0;
    // SAFETY: the pointer is valid for the call. It fails for an unknown state only.
    unsafe { pthread_setcancelstate(state, &raw mut before) };
    before
}

/// Starts a thread with all signals blocked: a thread inherits the mask of its creator. The kernel shows the first 15 bytes of
/// the name.
pub(crate) fn start<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let blocked = AllBlocked::new();
    let started = Builder::new().name(name).stack_size(STACK).spawn(work);
    drop(blocked);
    started
}
