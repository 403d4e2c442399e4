//! Out parameters: where a call stores its results.

use crate::Result;
use crate::ffi::argument::invalid;

/// An out parameter with its name, for messages. Its type is a number, a truth value or a pointer.
pub(super) struct Out<T> {
    pub name: &'static str,
    pub pointer: *mut T,
}

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

/// The out parameter of that name.
macro_rules! out {
    ($name:ident) => {
        $crate::ffi::out::Out { name: stringify!($name), pointer: $name }
    };
}
pub(super) use out;

/// The out parameters of a function: none, one, or two.
pub(super) trait OutParameters: Copy {
    type Values;

    /// Stores 0, false or NULL, except where a parameter is NULL.
    unsafe fn blank(self);

    /// Fails when a parameter is NULL.
    fn check(self) -> Result<()>;

    /// Stores the results, after [`Self::check`] succeeded.
    unsafe fn store(self, values: Self::Values);
}

impl OutParameters for () {
    type Values = ();

    unsafe fn blank(self) {}

    fn check(self) -> Result<()> {
        Ok(())
    }

    unsafe fn store(self, (): ()) {}
}

impl<T> OutParameters for Out<T> {
    type Values = T;

    unsafe fn blank(self) {
        if !self.pointer.is_null() {
            // SAFETY: an out parameter that is not NULL has room for a value. Zeros are 0, false or NULL.
            unsafe { self.pointer.write_bytes(0, 1) };
        }
    }

    fn check(self) -> Result<()> {
        if self.pointer.is_null() { Err(invalid(format!("{} is NULL", self.name))) } else { Ok(()) }
    }

    unsafe fn store(self, value: T) {
        // SAFETY: `check` found that it is not NULL, so it has room for a value.
        unsafe { self.pointer.write(value) };
    }
}

impl<T, U> OutParameters for (Out<T>, Out<U>) {
    type Values = (T, U);

    unsafe fn blank(self) {
        // SAFETY: the caller guarantees it.
        unsafe {
            self.0.blank();
            self.1.blank();
        }
    }

    fn check(self) -> Result<()> {
        self.0.check().and_then(|()| self.1.check())
    }

    unsafe fn store(self, values: (T, U)) {
        // SAFETY: the caller guarantees it.
        unsafe {
            self.0.store(values.0);
            self.1.store(values.1);
        }
    }
}
