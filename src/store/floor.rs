//! The floor: what a cache leaves free on the file system, for others.

use crate::sys::mount::FileSystemSpace;

/// A share of a file system, or a number: the larger of both stays free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Least {
    pub number: u64,
    /// Of all that the file system has. At most 100.
    pub percent: u32,
}

impl Least {
    fn of(self, total: u64) -> u64 {
        let share = u128::from(total) * u128::from(self.percent) / 100;
        self.number.max(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// What stays free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    pub bytes: Least,
    pub inodes: Least,
}

impl Floor {
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// How many bytes must stay free on this file system.
    pub fn least_bytes(&self, space: &FileSystemSpace) -> u64 {
        self.bytes.of(space.bytes)
    }

    /// How many inodes must stay free. 0 where the file system has no fixed number of them.
    pub fn least_inodes(&self, space: &FileSystemSpace) -> u64 {
        if space.inodes == 0 { 0 } else { self.inodes.of(space.inodes) }
    }
}
