//! VHD, fixed and dynamic: Microsoft's "Virtual Hard Disk Image Format Specification" 1.0. Numbers are big-endian.
//!
//! A differencing disk names its parent, and is refused. A dynamic disk has its footer twice. Programs differ in which one they use, so
//! both must be the same.

use crate::format::reading::{Checked, Image, be32, be64, disjoint, is_zero, product, refuse, require};

const SECTOR: u64 = 512;
const HEADER: u64 = 1024;
const VERSION: u32 = 0x0001_0000;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// An entry of the table, for a block that is not there.
const UNUSED: u32 = u32::MAX;
/// So many bytes of the table are checked.
const CHECKED: u64 = 256 << 10;

pub(super) fn check(image: &Image<'_>) -> Checked<()> {
    let footer = image.bytes("footer", image.length.saturating_sub(SECTOR), SECTOR)?;
    require(footer.starts_with(b"conectix"), "it has no footer in its last 512 bytes")?;
    require(be32(&footer, 12) == VERSION, "its version of vhd is unknown")?;
    require(be32(&footer, 64) == checksum(&footer, 64), "the checksum of its footer is wrong")?;
    require(footer[84] == 0, "it is a part of a saved state")?;
    let size = be64(&footer, 48);
    // qemu decides by the first bytes.
    let first = image.bytes("first bytes", 0, SECTOR)?;
    let has_copy = first.starts_with(b"conectix");
    match be32(&footer, 60) {
        FIXED => {
            require(!has_copy, "it is fixed, and begins like a dynamic image")?;
            require(size <= image.length - SECTOR, "its disk is longer than its file")
        }
        DYNAMIC => {
            require(first == footer, "the two copies of its footer differ")?;
            check_dynamic(image, be64(&footer, 16), size)
        }
        DIFFERENCING => refuse("it has a parent"),
        _ => refuse("its type is unknown"),
    }
}

/// The ones' complement of the sum of all bytes, except those of the checksum itself.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes.iter().enumerate().filter(|(place, _)| !(at..at + 4).contains(place));
    !others.fold(0, |sum: u32, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

fn check_dynamic(image: &Image<'_>, offset: u64, size: u64) -> Checked<()> {
    let header = image.bytes("dynamic header", offset, HEADER)?;
    require(header.starts_with(b"cxsparse"), "it has no dynamic header")?;
    require(be32(&header, 24) == VERSION, "its version of vhd is unknown")?;
    require(be32(&header, 36) == checksum(&header, 36), "the checksum of its dynamic header is wrong")?;
    // The parent's identity, time and name, and where to find it.
    require(is_zero(&header[40..60]) && is_zero(&header[64..768]), "it has a parent")?;
    let (entries, block) = (u64::from(be32(&header, 28)), u64::from(be32(&header, 32)));
    require(block.is_power_of_two() && block >= SECTOR, "its block size is not one that vhd has")?;
    require(entries >= size.div_ceil(block), "its block allocation table is too small for its size")?;
    product("block allocation table", entries, block)?;
    let regions = [
        image.region("footer copy", 0, SECTOR)?,
        image.region("dynamic header", offset, HEADER)?,
        image.region("block allocation table", be64(&header, 16), entries * 4)?,
        image.region("footer", image.length - SECTOR, SECTOR)?,
    ];
    disjoint(&regions)?;
    // Each block has a bitmap of its sectors before it.
    let bitmap = block.div_ceil(SECTOR * 8).next_multiple_of(SECTOR);
    let table = image.bytes("block allocation table", regions[2].start, (entries * 4).min(CHECKED))?;
    for sector in table.chunks_exact(4).map(|entry| be32(entry, 0)).filter(|sector| *sector != UNUSED) {
        image.target("block", u64::from(sector) * SECTOR, bitmap + block, &regions)?;
    }
    Ok(())
}
