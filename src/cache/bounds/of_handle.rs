//! The bounds of one handle: what its options said, and what it has seen of the directory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cache::bounds::known_empty::KnownEmpty;
use crate::error::Result;
use crate::log::LogOnce;
use crate::store::floor::Floor;
use crate::store::kept_limit::KeptLimit;
use crate::store::layout::Layout;

/// The bounds of one handle.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// In bytes: the limit of this handle while the directory has no hard one.
    own: AtomicU64,
    /// Whether the directory's limit was hard when this handle looked last.
    is_hard: AtomicBool,
    pub floor: Floor,
    pub kept: KeptLimit,
    pub invalid: KnownEmpty,
    pub deleted: KnownEmpty,
    pub unkept_ledger: LogOnce,
    /// See [`Self::block`].
    block: OnceLock<u64>,
}

impl Bounds {
    pub fn new(own: u64, floor: Floor) -> Self {
        Self {
            own: AtomicU64::new(own),
            is_hard: AtomicBool::new(false),
            floor,
            kept: KeptLimit::default(),
            invalid: KnownEmpty::default(),
            deleted: KnownEmpty::default(),
            unkept_ledger: LogOnce::default(),
            block: OnceLock::new(),
        }
    }

    /// Whether a writer has to reserve what it writes, as of the last look.
    pub fn are_set(&self) -> bool {
        self.is_hard.load(Ordering::Relaxed) || self.floor.is_set()
    }

    /// The smallest number of bytes that the file system allocates. It stays the same.
    pub fn block(&self, layout: &Layout) -> Result<u64> {
        match self.block.get() {
            Some(block) => Ok(*block),
            None => layout.space().map(|space| *self.block.get_or_init(|| space.block)),
        }
    }

    /// See `own`.
    pub fn own(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    pub fn set_own(&self, bytes: u64) {
        self.own.store(bytes, Ordering::Relaxed);
    }

    pub fn note_hard(&self, is_hard: bool) {
        self.is_hard.store(is_hard, Ordering::Relaxed);
    }
}
