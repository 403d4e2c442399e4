//! Writers, readers and tees.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use image_cache::ffi::reader::*;
use image_cache::ffi::tee::*;
use image_cache::ffi::writer::*;

use super::{Outcome, call, text};

/// A source: the next bytes of the slice that `user_data` points to.
pub(super) unsafe extern "C" fn next_piece(user_data: *mut c_void, buffer: *mut c_void, capacity: usize) -> i64 {
    // SAFETY: it is the tee's rest, and the buffer has the capacity.
    unsafe {
        let rest = &mut *user_data.cast::<&[u8]>();
        let length = rest.len().min(capacity).min(65536);
        std::ptr::copy_nonoverlapping(rest.as_ptr(), buffer.cast(), length);
        *rest = &rest[length..];
        i64::try_from(length).unwrap_or(-1)
    }
}

/// A writer. Its drop aborts it.
pub struct Writer(*mut image_cache_writer_t);

// SAFETY: any one thread at a time may use it.
unsafe impl Send for Writer {}

impl Writer {
    pub(super) fn new(writer: *mut image_cache_writer_t) -> Self {
        Self(writer)
    }

    /// The same handle a second time, as a forked child has it. The parent must not drop it.
    pub fn copy(&self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self(self.0))
    }

    pub fn expect_digest(&mut self, algorithm: &str, hex: &str) -> Outcome<()> {
        let (algorithm, hex) = (text(algorithm), text(hex));
        // SAFETY: the arguments live until the call returns. This holds for all calls below.
        call(|error| unsafe { image_cache_writer_expect_digest(self.0, algorithm.as_ptr(), hex.as_ptr(), error) })
    }

    pub fn expect_size(&mut self, bytes: u64) -> Outcome<()> {
        // SAFETY: see above.
        call(|error| unsafe { image_cache_writer_expect_size(self.0, bytes, error) })
    }

    pub fn write_chunk(&mut self, data: &[u8]) -> Outcome<()> {
        // SAFETY: see above.
        call(|error| unsafe { image_cache_write_chunk(self.0, data.as_ptr().cast(), data.len(), error) })
    }

    pub fn commit(self) -> Outcome<()> {
        let writer = ManuallyDrop::new(self);
        // SAFETY: see above. The writer is not used again.
        call(|error| unsafe { image_cache_commit(writer.0, error) })
    }

    pub fn abort(self, reason: &str) {
        let (writer, reason) = (ManuallyDrop::new(self), text(reason));
        // SAFETY: see above. The writer is not used again.
        unsafe { image_cache_abort(writer.0, reason.as_ptr()) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: the handle is not used again.
        unsafe { image_cache_abort(self.0, std::ptr::null()) }
    }
}

pub struct Reader(*mut image_cache_reader_t);

// SAFETY: any one thread at a time may use it.
unsafe impl Send for Reader {}

impl Reader {
    pub(super) fn new(reader: *mut image_cache_reader_t) -> Self {
        Self(reader)
    }

    /// The same handle a second time, as a forked child has it. The parent must not drop it.
    pub fn copy(&self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self(self.0))
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let (length, mut read) = (buffer.len(), 0);
        // SAFETY: the arguments live until the call returns.
        call(|error| unsafe { image_cache_read(self.0, buffer.as_mut_ptr().cast(), length, &raw mut read, error) })?;
        Ok(read)
    }

    pub fn read_all(&mut self) -> Outcome<Vec<u8>> {
        let mut data = Vec::new();
        self.each_piece(|piece| data.extend_from_slice(piece)).map(|()| data)
    }

    /// Reads to the end. It allocates nothing outside of the library.
    pub fn each_piece(&mut self, mut visit: impl FnMut(&[u8])) -> Outcome<()> {
        let mut buffer = [0; 1 << 14];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                length => visit(&buffer[..length]),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: the handle is not used again.
        unsafe { image_cache_reader_close(self.0) }
    }
}

pub struct Tee<'a>(*mut image_cache_tee_t, PhantomData<&'a mut &'a [u8]>);

impl Tee<'_> {
    pub(super) fn new(tee: *mut image_cache_tee_t) -> Self {
        Self(tee, PhantomData)
    }

    pub fn is_caching(&self) -> bool {
        // SAFETY: the handle is open.
        unsafe { image_cache_tee_is_caching(self.0) }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let (length, mut read) = (buffer.len(), 0);
        // SAFETY: the arguments live until the call returns.
        call(|error| unsafe {
            image_cache_tee_read(self.0, buffer.as_mut_ptr().cast(), length, &raw mut read, error)
        })?;
        Ok(read)
    }

    pub fn read_all(&mut self) -> Outcome<Vec<u8>> {
        let mut data = Vec::new();
        self.each_piece(|piece| data.extend_from_slice(piece)).map(|()| data)
    }

    /// Reads to the end. It allocates nothing outside of the library.
    pub fn each_piece(&mut self, mut visit: impl FnMut(&[u8])) -> Outcome<()> {
        let mut buffer = [0; 1 << 14];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                length => visit(&buffer[..length]),
            }
        }
    }
}

impl Drop for Tee<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is not used again.
        unsafe { image_cache_tee_close(self.0) }
    }
}
