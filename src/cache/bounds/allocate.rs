//! Allocating the blocks of a reservation, of which the file system takes some for itself.
//!
//! A file has an extent for each run of blocks that lie together, and blocks for the tree of its extents. How many depends on how
//! fragmented the free space is, and is known only after the allocation. So close to the bounds, blocks are allocated in pieces:
//! each one fits with the largest tree that it can need. As a rule, the tree is much smaller, and the next piece takes what is left. A file
//! on free space in large runs gets all of it after three or four pieces.

use std::fs::File;
use std::path::PathBuf;

use crate::error::Result;
use crate::sys::file;
use crate::sys::stat::FileStat;

/// So many bytes take up at most one block for their extents, if the free space is not fragmented.
const EXTENTS: u64 = 64 << 20;

/// What an extent takes up in the tree, in bytes: 12 on ext4, 16 on XFS, whose blocks may be half full.
const RECORD: u64 = 32;

/// What each block of the tree has beside them, in bytes.
const HEADER: u64 = 72;

/// The blocks that a file may get later: one for its attributes, and two for extents that are split while they are written.
const LATER: u64 = 3;

/// What a file of so many bytes takes up beyond its blocks, if the free space is not fragmented: its extents.
pub(super) fn extents(bytes: u64, block: u64) -> u64 {
    bytes / EXTENTS * block
}

/// What a file that has so many bytes allocated may take up beyond them, later.
pub(super) fn later(allocated: u64, block: u64) -> u64 {
    (LATER * block).saturating_add(extents(allocated, block))
}

/// The same as [`extents`], if no two blocks lie together. The one that a single block may need is in [`later`].
pub(super) fn most_extents(bytes: u64, block: u64) -> u64 {
    let fan_out = block.saturating_sub(HEADER).checked_div(RECORD).unwrap_or(0).max(2);
    (bytes / block).saturating_sub(1).div_ceil(fan_out).saturating_mul(block)
}

/// Allocates the blocks of a file's first bytes, within `room` bytes. Those before `start` have theirs, or are holes. `before` is the
/// file's present status. Returns how many bytes have blocks then: less than `bytes` if these do not fit.
pub(super) fn allocate(
    file: &File,
    path: impl Fn() -> PathBuf,
    before: &FileStat,
    (start, bytes): (u64, u64),
    has_holes: bool,
    block: u64,
    room: u64,
) -> Result<u64> {
    let (mut end, mut taken) = (start.max(before.size), 0);
    while end < bytes {
        let left = room.saturating_sub(taken);
        let rest = (bytes - end).checked_next_multiple_of(block).unwrap_or(u64::MAX);
        let is_last = rest.saturating_add(most_extents(rest, block)) <= left;
        let piece = left.saturating_sub(most_extents(left, block)) / block * block;
        if !is_last && piece == 0 {
            break;
        }
        // Others may have freed what was reserved. Without holes, all of it is allocated that is not.
        let from = if has_holes { end } else { 0 };
        end = if is_last { bytes } else { end.saturating_add(piece).min(bytes) };
        file::reserve(file, &path, from..end)?;
        if end < bytes {
            taken = FileStat::of(file, &path)?.allocated.saturating_sub(before.allocated);
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4096;

    #[test]
    fn the_last_block_needs_no_more_than_itself() {
        assert_eq!(most_extents(0, BLOCK), 0);
        assert_eq!(most_extents(BLOCK, BLOCK), 0);
        assert_eq!(most_extents(2 * BLOCK, BLOCK), BLOCK);
        assert_eq!(most_extents(126 * BLOCK, BLOCK), BLOCK);
        assert_eq!(most_extents(127 * BLOCK, BLOCK), 2 * BLOCK);
        assert!(most_extents(u64::MAX, 512) > 0);
    }

    #[test]
    fn a_file_gets_exactly_the_room_that_there_is() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        for blocks in [1, 2, 7, 8, 200, 1000] {
            let bytes = blocks * BLOCK;
            for (room, fits) in [(bytes, true), (bytes - BLOCK, false)] {
                let file = File::create(&path).unwrap();
                let before = FileStat::of(&file, || path.clone()).unwrap();
                let end = allocate(&file, || path.clone(), &before, (0, bytes), false, BLOCK, room).unwrap();
                let allocated = end >= bytes;
                let taken = FileStat::of(&file, || path.clone()).unwrap().allocated;
                assert!(taken <= room.max(BLOCK * 2) || taken <= room, "{taken} of {room}");
                assert!(!fits || allocated || taken + 2 * BLOCK > room, "{blocks} blocks in {room}: {taken}");
                assert!(fits || !allocated, "{blocks} blocks in {room}");
            }
        }
    }
}
