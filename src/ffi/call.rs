//! The one way from C into the Rust API.
//!
//! A call checks the handle and the out parameters, runs the body within the panic guard, and converts the result.

use std::ptr;
use std::sync::atomic::AtomicBool;

use crate::Result;
use crate::ffi::argument::invalid;
use crate::ffi::guard::{check_not_logging, guard};
use crate::ffi::handle::{Handle, Slot};
use crate::ffi::out::{Out, OutParameters};
use crate::ffi::status::{IMAGE_CACHE_OK, image_cache_error_t, image_cache_status_t};

/// Calls `body` with the value behind a handle, and stores its results. `out` is `()`, one out parameter, or two.
pub(super) unsafe fn call<H: Handle, O: OutParameters>(
    handle: *const H,
    out: O,
    error: *mut image_cache_error_t,
    body: impl FnOnce(H::Borrow<'_>) -> Result<O::Values>,
) -> image_cache_status_t {
    // SAFETY: a handle that is not NULL is valid. The caller guarantees the rest.
    unsafe {
        out.blank();
        let outcome = non_null(handle.as_ref()).and_then(|handle| {
            handle.borrow(|value| guard(handle.slot().broken(), || out.check().and_then(|()| body(value))))
        });
        report(outcome.map(|values| out.store(values)), error)
    }
}

/// Calls `body` without a handle, and stores its result.
pub(super) unsafe fn call_without_handle<O: OutParameters>(
    out: O,
    error: *mut image_cache_error_t,
    body: impl FnOnce() -> Result<O::Values>,
) -> image_cache_status_t {
    // SAFETY: the caller guarantees it.
    unsafe {
        out.blank();
        let outcome = guard(&AtomicBool::new(false), || out.check().and_then(|()| body()));
        report(outcome.map(|values| out.store(values)), error)
    }
}

/// Calls `body` with the value behind a handle, and stores a new handle with its result.
pub(super) unsafe fn create<H: Handle, N: Handle>(
    handle: *const H,
    out: Out<*mut N>,
    error: *mut image_cache_error_t,
    body: impl FnOnce(H::Borrow<'_>) -> Result<N::Value>,
) -> image_cache_status_t {
    // SAFETY: the caller guarantees it.
    unsafe { call(handle, out, error, |value| body(value).map(give)) }
}

/// Creates a handle, which C owns until it ends it.
pub(super) fn give<H: Handle>(value: H::Value) -> *mut H {
    Box::into_raw(Box::new(H::new(value)))
}

/// Ends a handle, and calls `body` with its value. A handle that a panic broke is leaked.
pub(super) unsafe fn end<H: Handle>(
    handle: *mut H,
    error: *mut image_cache_error_t,
    body: impl FnOnce(H::Value) -> Result<()>,
) -> image_cache_status_t {
    // SAFETY: a handle that is not NULL is valid.
    let usable = non_null(unsafe { handle.as_ref() }).and_then(|handle| {
        check_not_logging()?;
        // A handle in use is not ended. The value of a broken one must not even be dropped.
        handle.slot().check(H::NAME)
    });
    let outcome = usable.and_then(|()| {
        guard(&AtomicBool::new(false), || {
            // SAFETY: it is one of ours and not ended yet.
            unsafe { &*handle }.slot().mark_ended();
            // SAFETY: `give` created it, and the caller does not use it again.
            body(unsafe { Box::from_raw(handle) }.into_slot().into_value())
        })
    });
    // SAFETY: the caller guarantees it.
    unsafe { report(outcome, error) }
}

/// Ends a handle by dropping its value. NULL is allowed.
pub(super) unsafe fn close<H: Handle>(handle: *mut H) {
    if !handle.is_null() {
        // SAFETY: the caller guarantees it.
        unsafe {
            end(handle, ptr::null_mut(), |value| {
                let _: () = drop(value);
                Ok(())
            })
        };
    }
}

/// Reads a value from a handle. Returns `otherwise` for NULL, and for a handle that cannot be used now.
pub(super) unsafe fn peek<H: Handle, T>(handle: *const H, otherwise: T, body: impl FnOnce(&H::Value) -> T) -> T {
    // SAFETY: a handle that is not NULL is valid.
    let answer = non_null(unsafe { handle.as_ref() }).and_then(|handle| {
        let slot: &Slot<H::Value> = handle.slot();
        slot.shared(H::NAME).and_then(|value| guard(slot.broken(), || Ok(body(value))))
    });
    answer.unwrap_or(otherwise)
}

fn non_null<H: Handle>(handle: Option<&H>) -> Result<&H> {
    handle.ok_or_else(|| invalid(format!("{} is NULL", H::NAME)))
}

/// Converts an outcome to a status, and fills the caller's error.
unsafe fn report(outcome: Result<()>, error: *mut image_cache_error_t) -> image_cache_status_t {
    match outcome {
        Ok(()) => IMAGE_CACHE_OK,
        Err(failure) => {
            let filled = image_cache_error_t::from(&failure);
            let status = filled.status;
            if !error.is_null() {
                // SAFETY: a pointer that is not NULL has room for an error.
                unsafe { error.write(filled) };
            }
            status
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::handle::handle;
    use crate::ffi::status::{IMAGE_CACHE_ERROR_INTERNAL, IMAGE_CACHE_ERROR_INVALID_ARGUMENT};

    struct Number(Slot<u64>);
    handle!(Number, u64, "number", exclusive);

    struct Shared(Slot<u64>);
    handle!(Shared, u64, "shared number", shared);

    #[test]
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn a_panic_becomes_a_status_and_the_handle_refuses_further_work() {
        let number = give::<Shared>(7);
        let mut error = image_cache_error_t::default();
        let mut out = 1_u64;
        let status =
            unsafe { call(number, Out { name: "out", pointer: &raw mut out }, &raw mut error, |_| panic!("a defect")) };
        assert_eq!((status, out), (IMAGE_CACHE_ERROR_INTERNAL, 0));
        assert!(error.text().contains("a defect"), "{}", error.text());
        let status = unsafe { call(number, (), &raw mut error, |_| Ok(())) };
        assert_eq!(status, IMAGE_CACHE_ERROR_INTERNAL);
        assert!(error.text().contains("not used again"), "{}", error.text());
        unsafe { close(number) };
    }

    #[test]
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn a_panic_breaks_an_exclusive_handle_too() {
        let number = give::<Number>(7);
        let status = unsafe { call(number, (), ptr::null_mut(), |_| panic!("a defect")) };
        assert_eq!(status, IMAGE_CACHE_ERROR_INTERNAL);
        assert_eq!(unsafe { peek(number, 0, |value| *value) }, 0);
        unsafe { close(number) };
    }

    #[test]
    #[allow(clippy::undocumented_unsafe_blocks)]
    fn an_exclusive_handle_refuses_a_second_call() {
        let number = give::<Number>(7);
        let status = unsafe {
            call(number, (), ptr::null_mut(), |value| {
                *value += 1;
                assert_eq!(call(number, (), ptr::null_mut(), |_| Ok(())), IMAGE_CACHE_ERROR_INVALID_ARGUMENT);
                close(number);
                Ok(())
            })
        };
        assert_eq!(status, IMAGE_CACHE_OK);
        assert_eq!(unsafe { peek(number, 0, |value| *value) }, 8);
        unsafe { close(number) };
    }
}
