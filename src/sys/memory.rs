//! Vectors whose length other programs or the caller choose. A failed allocation is an error, not an abort. And zeros.

use crate::error::{Error, Result};

/// Zeros, for the bytes of holes. They stay in the processor's cache.
pub(crate) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Appends a value. `operation` is for the message.
pub(crate) fn push<T>(values: &mut Vec<T>, value: T, operation: &'static str) -> Result<()> {
    values.try_reserve(1).map_err(|_| Error::NoMemory { operation })?;
    values.push(value);
    Ok(())
}

/// A buffer of that many bytes.
pub(crate) fn buffer(length: usize, operation: &'static str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Error::NoMemory { operation })?;
    bytes.resize(length, 0);
    Ok(bytes)
}

/// Collects values, up to the first error.
pub(crate) fn collect<T>(values: impl IntoIterator<Item = Result<T>>, operation: &'static str) -> Result<Vec<T>> {
    let mut collected = Vec::new();
    values.into_iter().try_for_each(|value| push(&mut collected, value?, operation))?;
    Ok(collected)
}
