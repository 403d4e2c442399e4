//! An object behind a pointer of C's, and what keeps it from being used when it must not be.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::ffi::argument::invalid;

/// A type of C's handles.
pub(super) trait Handle: Sized {
    type Value;
    /// What it is, for messages.
    const NAME: &'static str;
    fn new(value: Self::Value) -> Self;
    fn slot(&self) -> &Slot<Self::Value>;
    fn into_slot(self) -> Slot<Self::Value>;
}

/// Makes an opaque type around a [`Slot`] a [`Handle`].
macro_rules! handle {
    ($type:ident, $value:ty, $name:literal) => {
        impl $crate::ffi::handle::Handle for $type {
            type Value = $value;
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
        }
    };
}
pub(super) use handle;

/// The value of a handle.
pub(super) struct Slot<V> {
    /// Set by a panic; the value is not used again.
    broken: AtomicBool,
    /// Set during a call that changes the value: neither the functions that it calls nor another thread may use it.
    busy: AtomicBool,
    /// The handle is lent to a caller's function, and never ended by it.
    lent: bool,
    value: UnsafeCell<V>,
}

impl<V> Slot<V> {
    pub fn new(value: V) -> Self {
        Self {
            broken: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            lent: false,
            value: UnsafeCell::new(value),
        }
    }

    /// A value whose handle is lent.
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

    /// Whether the value may be used now. `name` is what it is.
    pub fn check(&self, name: &str) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(Error::Internal(format!("this {name} is not used again after an internal error")));
        }
        if self.busy.load(Ordering::Acquire) { Err(in_use(name)) } else { Ok(()) }
    }

    /// The value, for a call that leaves it as it is.
    pub fn shared(&self, name: &str) -> Result<&V> {
        self.check(name)?;
        // SAFETY: no call changes it now; callers begin none in another thread while this one lasts.
        Ok(unsafe { &*self.value.get() })
    }

    /// The value, for a call that changes it.
    pub fn exclusive(&self, name: &str) -> Result<Exclusive<'_, V>> {
        self.check(name)?;
        if self.busy.swap(true, Ordering::AcqRel) { Err(in_use(name)) } else { Ok(Exclusive(self)) }
    }
}

/// The value is nobody else's until this is dropped.
pub(super) struct Exclusive<'a, V>(&'a Slot<V>);

impl<V> Deref for Exclusive<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        // SAFETY: `busy` keeps every other call away.
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
