//! An object behind a pointer that C holds, and the checks before each use of it.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::ffi::argument::invalid;
use crate::{Error, Result};

/// A handle type of the C API.
pub(super) trait Handle: Sized {
    type Value;
    /// How a call borrows the value: `&Value` of a shared handle, `&mut Value` of an exclusive one.
    type Borrow<'a>;
    /// The handle's name, for messages.
    const NAME: &'static str;
    fn new(value: Self::Value) -> Self;
    fn slot(&self) -> &Slot<Self::Value>;
    fn into_slot(self) -> Slot<Self::Value>;
    /// Calls `body` with the value, unless the handle is in use or broken.
    fn borrow<T>(&self, body: impl FnOnce(Self::Borrow<'_>) -> Result<T>) -> Result<T>;
}

/// Implements [`Handle`] for an opaque type around a [`Slot`].
///
/// Many threads may use a `shared` handle at once. An `exclusive` one is used by one thread at a time, and its calls
/// may change it.
macro_rules! handle {
    ($type:ident, $value:ty, $name:literal, shared) => {
        handle!($type, $value, $name, &'a $value, |slot, body| body(slot.shared($name)?));
    };
    ($type:ident, $value:ty, $name:literal, exclusive) => {
        handle!($type, $value, $name, &'a mut $value, |slot, body| body(&mut *slot.exclusive($name)?));
    };
    ($type:ident, $value:ty, $name:literal, $borrow:ty, |$slot:ident, $body:ident| $call:expr) => {
        impl $crate::ffi::handle::Handle for $type {
            type Value = $value;
            type Borrow<'a> = $borrow;
            const NAME: &'static str = $name;
            fn new(value: $value) -> Self {
                Self($crate::ffi::handle::Slot::new(value))
            }
            fn slot(&self) -> &$crate::ffi::handle::Slot<$value> {
                &self.0
            }
            fn into_slot(self) -> $crate::ffi::handle::Slot<$value> {
                self.0
            }
            fn borrow<T>(&self, $body: impl FnOnce(Self::Borrow<'_>) -> $crate::Result<T>) -> $crate::Result<T> {
                let $slot = &self.0;
                $call
            }
        }
    };
}
pub(super) use handle;

/// Marks a handle that C may use.
const LIVE: u32 = 0x1a6e_ca5e;

/// The value of a handle.
#[repr(C)]
pub(super) struct Slot<V> {
    /// Set by a panic: the value is not used again.
    broken: AtomicBool,
    /// Set during an exclusive call. Neither its callbacks nor another thread may use the value then.
    busy: AtomicBool,
    /// Lent to a callback, which does not end it.
    lent: bool,
    value: UnsafeCell<V>,
    /// [`LIVE`] until the handle is ended. A caller that uses it again gets an error, as long as the memory is not
    /// reused. It is last: the allocator writes to the beginning of freed memory.
    life: AtomicU32,
}

impl<V> Slot<V> {
    pub fn new(value: V) -> Self {
        Self {
            broken: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            lent: false,
            value: UnsafeCell::new(value),
            life: AtomicU32::new(LIVE),
        }
    }

    /// The value of a lent handle.
    pub fn lent(value: V) -> Self {
        Self { lent: true, ..Self::new(value) }
    }

    pub fn is_lent(&self) -> bool {
        self.lent
    }

    pub fn broken(&self) -> &AtomicBool {
        &self.broken
    }

    pub fn into_value(self) -> V {
        self.value.into_inner()
    }

    /// The handle is about to be freed.
    pub fn mark_ended(&self) {
        self.life.store(0, Ordering::Release);
    }

    /// Fails when the value cannot be used now. `name` is for the message.
    pub fn check(&self, name: &str) -> Result<()> {
        if self.life.load(Ordering::Acquire) != LIVE {
            return Err(invalid(format!("this {name} was ended already, or is none")));
        }
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::Internal(format!("this {name} is not used again after an internal error")));
        }
        if self.busy.load(Ordering::Acquire) { Err(in_use(name)) } else { Ok(()) }
    }

    /// The value, for a call that does not change it.
    pub fn shared(&self, name: &str) -> Result<&V> {
        self.check(name)?;
        // SAFETY: no exclusive call runs now, and callers start none in another thread during this one.
        Ok(unsafe { &*self.value.get() })
    }

    /// The value, for a call that may change it.
    pub fn exclusive(&self, name: &str) -> Result<Exclusive<'_, V>> {
        self.check(name)?;
        if self.busy.swap(true, Ordering::AcqRel) { Err(in_use(name)) } else { Ok(Exclusive(self)) }
    }
}

/// Exclusive access to the value, until this is dropped.
pub(super) struct Exclusive<'a, V>(&'a Slot<V>);

impl<V> Deref for Exclusive<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        // SAFETY: `busy` rejects every other call.
        unsafe { &*self.0.value.get() }
    }
}

impl<V> DerefMut for Exclusive<'_, V> {
    fn deref_mut(&mut self) -> &mut V {
        // SAFETY: as above.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<V> Drop for Exclusive<'_, V> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

fn in_use(name: &str) -> Error {
    invalid(format!(
        "this {name} is in use by another call: one thread at a time may use it, and no function that it calls"
    ))
}
