//! Out parameters: where a call stores its results.

use crate::Result;
use crate::ffi::argument::{check_size, has_size, invalid};

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

/// A struct of the caller's, which may be that of an older or a newer header: its first fields are filled.
pub(super) struct SizedOut<T> {
    pub name: &'static str,
    pub pointer: *mut T,
    /// The size of the caller's struct, in bytes.
    pub size: usize,
}

impl<T> Clone for SizedOut<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SizedOut<T> {}

impl<T> OutParameters for SizedOut<T> {
    type Values = T;

    unsafe fn blank(self) {
        if !self.pointer.is_null() && has_size(self.size) {
            // SAFETY: a struct that is not NULL has the size that the caller gives.
            unsafe { self.pointer.cast::<u8>().write_bytes(0, self.size) };
        }
    }

    fn check(self) -> Result<()> {
        if self.pointer.is_null() {
            return Err(invalid(format!("{} is NULL", self.name)));
        }
        check_size(self.name, self.size)
    }

    unsafe fn store(self, value: T) {
        let length = self.size.min(size_of::<T>());
        // SAFETY: `check` found that it is not NULL, so it has at least that many bytes. `value` has as many.
        unsafe { self.pointer.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), length) };
    }
}

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
