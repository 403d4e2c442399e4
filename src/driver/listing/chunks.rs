//! A queue of packed values: bytes in chunks, so that it grows without being copied, and shrinks as it is read.

use std::collections::VecDeque;

use serde::Serialize;

/// The allocator takes a piece of this size from the system, and gives it back when it is freed. What is not written yet is
/// not in memory.
const CHUNK: usize = 256 << 10;

/// The queue. What was pushed first is popped first; whoever pops must know of what type it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks {
    /// None is empty.
    bytes: VecDeque<Vec<u8>>,
    /// How much of the first chunk was popped.
    popped: usize,
    length: usize,
    /// Where a value is packed, before it is known to fit into the last chunk.
    packed: Vec<u8>,
}

impl Chunks {
    pub fn len(&self) -> usize {
        self.length
    }

    /// Appends a value.
    pub fn push(&mut self, value: &impl Serialize) {
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        // Numbers, bytes and texts can be written to a Vec: this cannot fail.
        let Ok(packed) = postcard::to_extend(value, packed) else { return debug_assert!(false, "packing failed") };
        if let Some(chunk) = self.bytes.back_mut()
            && chunk.capacity() - chunk.len() >= packed.len()
        {
            chunk.extend_from_slice(&packed);
        } else {
            let mut chunk = Vec::with_capacity(CHUNK.max(packed.len()));
            chunk.extend_from_slice(&packed);
            self.bytes.push_back(chunk);
        }
        self.length += 1;
        self.packed = packed;
    }

    /// Takes the first value away. `unpack` is given its bytes, and those of values after it, and returns what is left of them.
    pub fn pop<T>(&mut self, unpack: impl FnOnce(&[u8]) -> postcard::Result<(T, &[u8])>) -> Option<T> {
        let chunk = self.bytes.front()?;
        // What was packed here can be unpacked: this cannot fail.
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
