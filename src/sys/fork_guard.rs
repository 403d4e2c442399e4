//! The fork guard: a value that belongs to the process that made it, so that a forked child cannot harm its parent.

use crate::error::{Error, Result};
use crate::sys::at_fork::generation;

/// Holds a value that only the process that made it may use or drop.
///
/// After `fork`, the child has a copy of every handle. The copy shares descriptors, so unlocking one unlocks the parent's. It
/// contains a copy of the database connection, whose close can drop the parent's locks. Its mutexes may be held by threads that
/// do not exist in the child. So the child neither uses nor drops the value: it is leaked.
#[derive(Debug)]
pub(crate) struct ForkGuard<T> {
    /// The generation of the process that owns it.
    owner: u64,
    /// Its process id, for messages.
    process: u32,
    /// `None` after the value was taken.
    value: Option<T>,
}

impl<T> ForkGuard<T> {
    pub fn new(value: T) -> Self {
        Self { owner: generation(), process: std::process::id(), value: Some(value) }
    }

    /// The value.
    ///
    /// # Errors
    /// [`Error::Forked`] in a forked child, as for the other two.
    pub fn get(&self) -> Result<&T> {
        self.check()?;
        self.value.as_ref().ok_or_else(taken)
    }

    /// The value, to be changed.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        self.check()?;
        self.value.as_mut().ok_or_else(taken)
    }

    /// Takes the value.
    pub fn into_inner(mut self) -> Result<T> {
        self.check()?;
        self.value.take().ok_or_else(taken)
    }

    fn check(&self) -> Result<()> {
        if generation() == self.owner { Ok(()) } else { Err(Error::Forked { owner: self.process }) }
    }
}

impl<T> Drop for ForkGuard<T> {
    fn drop(&mut self) {
        if self.check().is_err() {
            std::mem::forget(self.value.take());
        }
    }
}

fn taken() -> Error {
    Error::Internal("a value was used after it was taken".to_owned())
}
