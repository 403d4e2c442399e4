//! The one way from C into the safe API: handles, out parameters, results and panics.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::ffi::argument::{Blank, Out, invalid};
use crate::ffi::handle::{Handle, Slot};
use crate::ffi::status::{IMAGE_CACHE_OK, image_cache_error_t, image_cache_status_t};

/// Calls `body` with the value behind a handle.
pub(super) unsafe fn act<H: Handle>(
    handle: *const H,
    error: *mut image_cache_error_t,
    body: impl FnOnce(&H::Value) -> Result<()>,
) -> image_cache_status_t {
    // SAFETY: a handle that is not NULL is one of ours and alive.
    let handle = unsafe { handle.as_ref() };
    let outcome =
        slot(handle).and_then(|slot| slot.shared(H::NAME).and_then(|value| guard(slot.broken(), || body(value))));
    // SAFETY: passed on.
    unsafe { report(outcome, error) }
}

/// Calls `body` with the value behind a handle that one thread at a time may use.
pub(super) unsafe fn act_mut<H: Handle>(
    handle: *mut H,
    error: *mut image_cache_error_t,
    body: impl FnOnce(&mut H::Value) -> Result<()>,
) -> image_cache_status_t {
    // SAFETY: a handle that is not NULL is one of ours and alive.
    let handle = unsafe { handle.as_ref() };
    let outcome = slot(handle).and_then(|slot| {
        let mut value = slot.exclusive(H::NAME)?;
        guard(slot.broken(), || body(&mut value))
    });
    // SAFETY: passed on.
    unsafe { report(outcome, error) }
}

/// Calls `body` with the value behind a handle and hands out what it returns.
pub(super) unsafe fn query<H: Handle, T: Blank>(
    handle: *const H,
    out: *mut T,
    error: *mut image_cache_error_t,
    body: impl FnOnce(&H::Value) -> Result<T>,
) -> image_cache_status_t {
    // SAFETY: passed on.
    unsafe {
        let out = Out::new(out);
        act(handle, error, |value| {
            out.check().and_then(|out| {
                let _: () = out.set(body(value)?);
                Ok(())
            })
        })
    }
}

/// The same, of a handle that one thread at a time may use.
pub(super) unsafe fn query_mut<H: Handle, T: Blank>(
    handle: *mut H,
    out: *mut T,
    error: *mut image_cache_error_t,
    body: impl FnOnce(&mut H::Value) -> Result<T>,
) -> image_cache_status_t {
    // SAFETY: passed on.
    unsafe {
        let out = Out::new(out);
        act_mut(handle, error, |value| {
            out.check().and_then(|out| {
                let _: () = out.set(body(value)?);
                Ok(())
            })
        })
    }
}

/// Calls `body` with the value behind a handle and hands out the two values that it returns.
pub(super) unsafe fn query_pair<H: Handle, T: Blank, U: Blank>(
    handle: *const H,
    (first, second): (*mut T, *mut U),
    error: *mut image_cache_error_t,
    body: impl FnOnce(&H::Value) -> Result<(T, U)>,
) -> image_cache_status_t {
    // SAFETY: passed on.
    unsafe {
        let (first, second) = (Out::new(first), Out::new(second));
        act(handle, error, |value| {
            let (first, second) = (first.check()?, second.check()?);
            let (one, two) = body(value)?;
            first.set(one);
            second.set(two);
            Ok(())
        })
    }
}

/// Calls `body` with the value behind a handle and hands out a new handle of what it returns.
pub(super) unsafe fn create<H: Handle, N: Handle>(
    handle: *const H,
    out: *mut *mut N,
    error: *mut image_cache_error_t,
    body: impl FnOnce(&H::Value) -> Result<N::Value>,
) -> image_cache_status_t {
    // SAFETY: passed on.
    unsafe { query(handle, out, error, |value| body(value).map(give)) }
}

/// Calls `body`, without a handle, and hands out a new handle of what it returns.
pub(super) unsafe fn create_first<N: Handle>(
    out: *mut *mut N,
    error: *mut image_cache_error_t,
    body: impl FnOnce() -> Result<N::Value>,
) -> image_cache_status_t {
    // SAFETY: passed on.
    unsafe {
        let out = Out::new(out);
        let outcome = guard(&AtomicBool::new(false), || {
            out.check().and_then(|out| {
                let _: () = out.set(give(body()?));
                Ok(())
            })
        });
        report(outcome, error)
    }
}

/// A new handle, C's until it is ended.
pub(super) fn give<H: Handle>(value: H::Value) -> *mut H {
    Box::into_raw(Box::new(H::new(value)))
}

/// Ends a handle and calls `body` with its value. NULL and what a panic broke are not.
pub(super) unsafe fn end<H: Handle>(
    handle: *mut H,
    error: *mut image_cache_error_t,
    body: impl FnOnce(H::Value) -> Result<()>,
) -> image_cache_status_t {
    let outcome = if handle.is_null() {
        Err(is_null::<H>())
    } else if let Err(refused) = check_not_logging() {
        Err(refused)
    } else {
        // SAFETY: a handle that is not NULL is one of ours and alive. One that is in use lives on; what a panic left in
        // one must not be touched again, not even to drop it.
        match unsafe { (*handle).slot().check(H::NAME) } {
            Ok(()) => guard(&AtomicBool::new(false), || {
                // SAFETY: it was made by `give`, and the caller does not use it again.
                body(unsafe { Box::from_raw(handle) }.into_slot().into_value())
            }),
            refused => refused,
        }
    };
    // SAFETY: passed on.
    unsafe { report(outcome, error) }
}

/// Ends a handle by dropping its value; NULL is fine.
pub(super) unsafe fn close<H: Handle>(handle: *mut H) {
    if !handle.is_null() {
        // SAFETY: passed on.
        unsafe {
            end(handle, std::ptr::null_mut(), |value| {
                let _: () = drop(value);
                Ok(())
            })
        };
    }
}

/// Reads something from a handle that cannot fail; `otherwise` for NULL.
pub(super) unsafe fn peek<H: Handle, T>(handle: *const H, otherwise: T, body: impl FnOnce(&H::Value) -> T) -> T {
    // SAFETY: a handle that is not NULL is one of ours and alive.
    let handle = unsafe { handle.as_ref() };
    let answer =
        slot(handle).and_then(|slot| slot.shared(H::NAME).and_then(|value| guard(slot.broken(), || Ok(body(value)))));
    answer.unwrap_or(otherwise)
}

fn slot<H: Handle>(handle: Option<&H>) -> Result<&Slot<H::Value>> {
    handle.map(Handle::slot).ok_or_else(|| is_null::<H>())
}

fn is_null<H: Handle>() -> Error {
    invalid(format!("{} is NULL", H::NAME))
}

unsafe fn report(outcome: Result<()>, error: *mut image_cache_error_t) -> image_cache_status_t {
    match outcome {
        Ok(()) => IMAGE_CACHE_OK,
        Err(failure) => {
            let filled = image_cache_error_t::from(&failure);
            let status = filled.status;
            if !error.is_null() {
                // SAFETY: an error that is not NULL has room for one.
                unsafe { error.write(filled) };
            }
            status
        }
    }
}

thread_local! {
    /// Whether this thread is in a log function of the caller's.
    static LOGGING: Cell<bool> = const { Cell::new(false) };
    /// Whether a guard of ours is around what this thread does.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// What the last panic on this thread said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a log function of the caller's.
pub(super) fn logging(function: impl FnOnce()) {
    let outer = LOGGING.replace(true);
    function();
    LOGGING.set(outer);
}

/// Locks of the cache are held while a message is logged: another call would wait for them for ever.
fn check_not_logging() -> Result<()> {
    if LOGGING.get() { Err(invalid("a log function must not call the library")) } else { Ok(()) }
}

/// Rust's own hook would print to the host's stderr. Panics of anybody else go on to whoever was there before.
fn silence_our_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if GUARDED.get() {
                PANIC.set(panic.to_string());
            } else {
                others(panic);
            }
        }));
    });
}

/// Runs `body`. A panic becomes an error and breaks the handle.
fn guard<T>(broken: &AtomicBool, body: impl FnOnce() -> Result<T>) -> Result<T> {
    check_not_logging()?;
    silence_our_panics();
    // A caller's function, called from `body`, may call the library again.
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    outcome.unwrap_or_else(|_| {
        broken.store(true, Ordering::Relaxed);
        Err(Error::Internal(PANIC.take()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::handle::handle;
    use crate::ffi::status::{IMAGE_CACHE_ERROR_INTERNAL, IMAGE_CACHE_ERROR_INVALID_ARGUMENT};

    struct Number(Slot<u64>);
    handle!(Number, u64, "number");

    #[test]
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn a_panic_becomes_a_status_and_the_handle_refuses_further_work() {
        let number = give::<Number>(7);
        let mut error = image_cache_error_t::default();
        let mut out = 1_u64;
        let status = unsafe { query(number, &raw mut out, &raw mut error, |_| panic!("a defect")) };
        assert_eq!((status, out), (IMAGE_CACHE_ERROR_INTERNAL, 0));
        assert!(error.text().contains("a defect"), "{}", error.text());
        let status = unsafe { act(number, &raw mut error, |_| Ok(())) };
        assert_eq!(status, IMAGE_CACHE_ERROR_INTERNAL);
        assert!(error.text().contains("not used again"), "{}", error.text());
        unsafe { close(number) };
    }

    #[test]
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn a_panic_breaks_a_handle_of_one_thread_too() {
        let number = give::<Number>(7);
        let status = unsafe { act_mut(number, std::ptr::null_mut(), |_| panic!("a defect")) };
        assert_eq!(status, IMAGE_CACHE_ERROR_INTERNAL);
        assert_eq!(unsafe { peek(number, 0, |value| *value) }, 0);
        unsafe { close(number) };
    }
    #[test]
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn a_handle_that_a_call_changes_is_nobody_elses_meanwhile() {
        let number = give::<Number>(7);
        let status = unsafe {
            act_mut(number, std::ptr::null_mut(), |value| {
                *value += 1;
                assert_eq!(act_mut(number, std::ptr::null_mut(), |_| Ok(())), IMAGE_CACHE_ERROR_INVALID_ARGUMENT);
                assert_eq!(act(number, std::ptr::null_mut(), |_| Ok(())), IMAGE_CACHE_ERROR_INVALID_ARGUMENT);
                close(number);
                Ok(())
            })
        };
        assert_eq!(status, IMAGE_CACHE_OK);
        assert_eq!(unsafe { peek(number, 0, |value| *value) }, 8);
        unsafe { close(number) };
    }
}
