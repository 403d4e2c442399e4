//! The guard around every call: it catches panics, keeps the thread from being cancelled, and refuses calls from within
//! a log function.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::ffi::argument::invalid;
use crate::{CancellationDisabled, Error, Result};

thread_local! {
    /// Whether this thread runs a log function of the caller.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread runs within a guard.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// The message of the last panic on this thread.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`. A panic becomes an error, and sets `broken`.
pub(super) fn guard<T>(broken: &AtomicBool, body: impl FnOnce() -> Result<T>) -> Result<T> {
    check_not_logging()?;
    silence_our_panics();
    let _disabled = CancellationDisabled::new();
    // `body` may call a function of the caller, which may call the library again.
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    outcome.unwrap_or_else(|_| {
        broken.store(true, Ordering::Relaxed);
        Err(Error::Internal(PANIC.take()))
    })
}

/// Runs a log function of the caller.
pub(super) fn logging(function: impl FnOnce()) {
    let outer = LOGGING.replace(true);
    function();
    LOGGING.set(outer);
}

/// Rejects a call from a log function. It would deadlock: messages are logged while the cache's locks are held.
pub(super) fn check_not_logging() -> Result<()> {
    if LOGGING.get() { Err(invalid("a log function must not call the library")) } else { Ok(()) }
}

/// Installs a panic hook once, because Rust's default hook prints to the host's stderr.
///
/// Panics of the host's threads outside of a guard go to the previous hook.
fn silence_our_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.get() {
                PANIC.set(panic.to_string());
            } else {
                previous(panic);
            }
        }));
    });
}
