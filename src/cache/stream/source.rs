//! What a stream reads from when the cache lacks bytes.

use std::io;

/// A source that can be read at any offset.
pub trait RangeSource {
    /// Reads bytes at an offset into the buffer. Returns how many, up to its length; 0 at the end.
    ///
    /// # Errors
    /// Whatever the source reports. Only this stream fails then.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl<F: FnMut(u64, &mut [u8]) -> io::Result<usize>> RangeSource for F {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self(offset, buffer)
    }
}
