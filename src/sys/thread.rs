//! Threads of the library's own. No signal of the host is delivered to them.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::sys::signals::AllBlocked;

/// Their stack, in bytes. They call little, and a host may have many of them.
const STACK: usize = 256 << 10;

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
