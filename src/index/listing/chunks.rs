//! A queue of serialised values in chunks of memory. It grows without copying, and frees memory as it is read.

use std::collections::VecDeque;

use serde::Serialize;

use crate::error::{Error, Result};

/// The size of a chunk, in bytes. The allocator maps such a chunk, and unmaps it when it is freed. Unwritten pages use no memory.
const CHUNK: usize = 256 << 10;

/// The queue, first in, first out. The caller knows the type of each value.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks {
    /// No chunk is empty.
    bytes: VecDeque<Vec<u8>>,
    /// How many bytes of the first chunk were popped.
    popped: usize,
    length: usize,
    /// A buffer for the value being packed: its size decides whether it fits into the last chunk.
    packed: Vec<u8>,
}

impl Chunks {
    pub fn len(&self) -> usize {
        self.length
    }

    /// Appends a value. On failure the queue is as it was.
    pub fn push(&mut self, value: &impl Serialize) -> Result<()> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        // Numbers, bytes and texts can be written to a Vec: this cannot fail.
        let packed = postcard::to_extend(value, packed).map_err(|error| Error::Internal(error.to_string()))?;
        if let Some(chunk) = self.bytes.back_mut()
            && chunk.capacity() - chunk.len() >= packed.len()
        {
            chunk.extend_from_slice(&packed);
        } else {
            let mut chunk = Vec::new();
            let reserved = chunk.try_reserve_exact(CHUNK.max(packed.len()));
            reserved.and_then(|()| self.bytes.try_reserve(1)).map_err(|_| no_memory())?;
            chunk.extend_from_slice(&packed);
            self.bytes.push_back(chunk);
        }
        self.length += 1;
        self.packed = packed;
        Ok(())
    }

    /// Removes the first value. `unpack` gets its bytes and those of later values, and returns the rest.
    pub fn pop<T>(&mut self, unpack: impl FnOnce(&[u8]) -> postcard::Result<(T, &[u8])>) -> Option<T> {
        let chunk = self.bytes.front()?;
        // Every value was packed by `push`: this cannot fail.
        let Ok((value, rest)) = unpack(&chunk[self.popped..]) else {
            debug_assert!(false, "unpacking failed");
            return None;
        };
        self.popped = chunk.len() - rest.len();
        self.length -= 1;
        if rest.is_empty() {
            self.bytes.pop_front();
            self.popped = 0;
        }
        Some(value)
    }
}

pub(super) fn no_memory() -> Error {
    Error::NoMemory { operation: "list the images" }
}
