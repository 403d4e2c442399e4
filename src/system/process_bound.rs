//! A value that belongs to the process that made it, so that a forked child cannot harm its parent.

use crate::error::{Error, Result};
use crate::system::generation::Generation;

/// Holds a value that only its maker's process may use or drop.
///
/// After `fork` the child has a copy of every handle: the same descriptors (so unlocking one would unlock the
/// parent's), a copy of the database connection (whose closing could drop the parent's locks), and a mutex that a thread
/// which is not there may hold. So in the child the value is neither used nor dropped: it is left as it is.
#[derive(Debug)]
pub(crate) struct ProcessBound<T> {
    owner: Generation,
    /// Its process id, for messages.
    process: u32,
    /// `None` only once the value was taken out.
    value: Option<T>,
}

impl<T> ProcessBound<T> {
    pub fn new(value: T) -> Self {
        Self { owner: Generation::current(), process: std::process::id(), value: Some(value) }
    }

    /// The value, in the process that made it.
    pub fn get(&self) -> Result<&T> {
        self.check()?;
        self.value.as_ref().ok_or_else(taken)
    }

    /// The value, in the process that made it.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        self.check()?;
        self.value.as_mut().ok_or_else(taken)
    }

    /// Takes the value out, in the process that made it; elsewhere it is left alone for ever.
    pub fn into_inner(mut self) -> Result<T> {
        self.check()?;
        self.value.take().ok_or_else(taken)
    }

    fn check(&self) -> Result<()> {
        if Generation::current() == self.owner { Ok(()) } else { Err(Error::Forked { owner: self.process }) }
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        if self.check().is_err() {
            std::mem::forget(self.value.take());
        }
    }
}

fn taken() -> Error {
    Error::Internal("a value was used after it was taken".to_owned())
}
