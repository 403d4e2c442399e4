//! Reads parts of an image: within its length, and at most 1 MiB in all. What lies outside makes the image unsafe.

use std::cell::Cell;

use crate::error::{Error, Result};
use crate::sys::memory;

/// So many bytes of an image are read at most.
pub(crate) const MAX_READ: u64 = 1 << 20;

/// The bytes of an image.
pub(crate) trait Source {
    /// In bytes.
    fn length(&self) -> u64;

    /// Reads bytes at an offset. Returns how many; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
}

/// Why an image is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The reason, as the end of a sentence about the image.
    Unsafe(String),
    /// It could not be read.
    Unread(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Unread(error)
    }
}

pub(crate) type Checked<T> = std::result::Result<T, Failure>;

/// The image is not safe.
pub(super) fn refuse<T>(why: impl Into<String>) -> Checked<T> {
    Err(Failure::Unsafe(why.into()))
}

/// Refuses the image unless a condition holds.
pub(super) fn require(holds: bool, otherwise: &str) -> Checked<()> {
    if holds { Ok(()) } else { refuse(otherwise) }
}

/// An image that is being inspected.
pub(super) struct Image<'a> {
    source: &'a dyn Source,
    pub length: u64,
    left: Cell<u64>,
}

impl<'a> Image<'a> {
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, length: source.length(), left: Cell::new(MAX_READ) }
    }

    /// The bytes at an offset, all of which the file must have.
    pub fn bytes(&self, what: &'static str, offset: u64, length: u64) -> Checked<Vec<u8>> {
        let region = self.region(what, offset, length)?;
        self.read(what, region.start, length)
    }

    /// The bytes at an offset, as far as the file has them.
    pub fn part(&self, what: &'static str, offset: u64, length: u64) -> Checked<Vec<u8>> {
        self.read(what, offset, self.length.saturating_sub(offset).min(length))
    }

    fn read(&self, what: &'static str, offset: u64, length: u64) -> Checked<Vec<u8>> {
        let Some(left) = self.left.get().checked_sub(length) else {
            return refuse(format!("more than {MAX_READ} bytes must be read to check its {what}"));
        };
        self.left.set(left);
        let length = usize::try_from(length).map_err(|_| Failure::Unsafe(format!("its {what} is too long")))?;
        let mut bytes = memory::buffer(length, "inspect the image")?;
        let mut filled = 0;
        while filled < length {
            match self.source.read_at(offset + filled as u64, &mut bytes[filled..])? {
                0 => return refuse(format!("it ends within its {what}")),
                more => filled += more,
            }
        }
        Ok(bytes)
    }

    /// The target of a table's entry is within the file, and apart from other regions. Quick, since tables are long.
    pub fn target(&self, what: &'static str, start: u64, length: u64, others: &[Region]) -> Checked<()> {
        let is_apart = |end| others.iter().all(|other| end <= other.start || other.end <= start);
        if start.checked_add(length).is_some_and(|end| end <= self.length && is_apart(end)) {
            return Ok(());
        }
        apart(&self.region(what, start, length)?, others)
    }

    /// A part of the file that has a purpose, and must be within it.
    pub fn region(&self, what: &'static str, start: u64, length: u64) -> Checked<Region> {
        match start.checked_add(length) {
            Some(end) if end <= self.length => Ok(Region { what, start, end }),
            _ => refuse(format!("its {what} is not within the file")),
        }
    }
}

/// A part of the file that has a purpose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    what: &'static str,
    pub start: u64,
    pub end: u64,
}

impl Region {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Refuses regions that overlap.
pub(super) fn disjoint(regions: &[Region]) -> Checked<()> {
    for (place, region) in regions.iter().enumerate() {
        if let Some(other) = regions[..place].iter().find(|other| other.overlaps(region)) {
            return refuse(format!("its {} overlaps its {}", region.what, other.what));
        }
    }
    Ok(())
}

/// Refuses a region that overlaps one of the others.
pub(super) fn apart(region: &Region, others: &[Region]) -> Checked<()> {
    match others.iter().find(|other| other.overlaps(region)) {
        Some(other) => refuse(format!("its {} overlaps its {}", region.what, other.what)),
        None => Ok(()),
    }
}

/// The product of sizes that the image states.
pub(super) fn product(what: &'static str, one: u64, other: u64) -> Checked<u64> {
    one.checked_mul(other).ok_or_else(|| Failure::Unsafe(format!("its {what} is larger than a file can be")))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Numbers at an offset of bytes that were read in full; 0 behind their end.
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
