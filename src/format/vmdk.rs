//! VMDK in one file, `monolithicSparse` and `streamOptimized`: `VMware`'s "Virtual Disk Format 5.0". Numbers are little-endian, and
//! offsets are in sectors of 512 bytes.
//!
//! The descriptor, a text in the file, could name other files (`vmdk_descriptor`). qemu reads it from where the header says, but looks for
//! a parent in the 20 sectors behind the header. With a capacity of 0, it opens the files that the descriptor names instead of this one. With a directory "at the end", the footer replaces
//! the header. So a footer must say the same.

use crate::format::reading::{Checked, Image, Region, disjoint, is_zero, le16, le32, le64, product, refuse, require};
use crate::format::vmdk_descriptor::{Kind, check_descriptor, check_no_parent};

const SECTOR: u64 = 512;
/// The directory is where the footer says.
const AT_END: u64 = u64::MAX;

const HAS_REDUNDANT_DIRECTORY: u32 = 1 << 1;
const IS_COMPRESSED: u32 = 1 << 16;
const HAS_MARKERS: u32 = 1 << 17;
const KNOWN_FLAGS: u32 = 0b111 | IS_COMPRESSED | HAS_MARKERS;

/// In sectors. 20 are usual.
const MAX_DESCRIPTOR: u64 = 128;
/// Where qemu looks for a parent, behind the header, in bytes.
const HINTS: u64 = 20 * SECTOR;
/// In sectors.
const MAX_GRAIN: u64 = 1 << 17;
const MAX_TABLE_ENTRIES: u32 = 512;
/// What qemu accepts at most, in entries.
const MAX_DIRECTORY: u64 = 32 << 20;
/// So many bytes of a directory are checked.
const CHECKED: u64 = 32 << 10;

/// The place of the directory's offset in the header.
const DIRECTORY_AT: std::ops::Range<usize> = 56..64;
/// The footer, with a marker before and one after it.
const FOOTER: u64 = 3 * SECTOR;

pub(super) fn check(image: &Image<'_>) -> Checked<()> {
    let header = image.bytes("header", 0, SECTOR)?;
    let flags = le32(&header, 8);
    require((1..=3).contains(&le32(&header, 4)), "its version of vmdk is unknown")?;
    require(flags & !KNOWN_FLAGS == 0, "it has an unknown flag")?;
    require(header[73..77] == *b"\n \r\n", "its header was damaged by a conversion of line ends")?;
    let compression = le16(&header, 77);
    let is_compressed = flags & IS_COMPRESSED != 0;
    require(compression == u16::from(is_compressed), "its compression is unknown")?;
    require(is_zero(&header[79..]), "it has an unknown field in its header")?;

    let descriptor = descriptor_of(image, &header)?;
    let text = image.bytes("descriptor", descriptor.start, descriptor.end - descriptor.start)?;
    let kind = check_descriptor(&text)?;
    require(descriptor.start == SECTOR, "its descriptor does not follow its header")?;
    let end = descriptor.end.max(SECTOR + HINTS).min(image.length);
    check_no_parent(&image.bytes("descriptor", SECTOR, end - SECTOR)?)?;
    require(is_compressed == (kind == Kind::StreamOptimized), "its descriptor contradicts its header")?;

    let directory = match le64(&header, 56) {
        AT_END if kind == Kind::StreamOptimized => directory_of_footer(image, &header)?,
        AT_END => return refuse("its directory is at its end, where only a streamOptimized image has one"),
        directory => directory,
    };
    let header_region = image.region("header", 0, SECTOR)?;
    check_directories(image, &header, directory, &[header_region, descriptor])
}

fn descriptor_of(image: &Image<'_>, header: &[u8]) -> Checked<Region> {
    let (offset, sectors) = (le64(header, 28), le64(header, 36));
    require(offset > 0 && sectors > 0, "it has no descriptor, so it is a part of an image")?;
    require(sectors <= MAX_DESCRIPTOR, "its descriptor is too long")?;
    image.region("descriptor", product("descriptor", offset, SECTOR)?, sectors * SECTOR)
}

/// The footer says the same as the header, and where the directory is.
fn directory_of_footer(image: &Image<'_>, header: &[u8]) -> Checked<u64> {
    let end = image.bytes("footer", image.length.saturating_sub(FOOTER), FOOTER)?;
    let (marker, rest) = end.split_at(512);
    let (footer, last) = rest.split_at(512);
    let is_marked = (le64(marker, 0), le32(marker, 8), le32(marker, 12)) == (1, 0, 3);
    require(is_marked && is_zero(last), "it has no footer")?;
    let is_same = footer[..DIRECTORY_AT.start] == header[..DIRECTORY_AT.start]
        && footer[DIRECTORY_AT.end..] == header[DIRECTORY_AT.end..];
    require(is_same, "its footer contradicts its header")?;
    let directory = le64(footer, DIRECTORY_AT.start);
    require(directory != AT_END, "it has no directory")?;
    Ok(directory)
}

/// The grain directories have the size that the capacity needs, and their tables are within the file.
fn check_directories(image: &Image<'_>, header: &[u8], directory: u64, others: &[Region]) -> Checked<()> {
    let (capacity, grain, entries) = (le64(header, 12), le64(header, 20), le32(header, 44));
    require(capacity > 0, "its capacity is 0, so that its descriptor counts")?;
    product("capacity", capacity, SECTOR)?;
    require(grain.is_power_of_two() && grain <= MAX_GRAIN, "its grain size is not one that vmdk has")?;
    require((1..=MAX_TABLE_ENTRIES).contains(&entries), "the size of its grain tables is not one that vmdk has")?;
    // At most 2^17 * 2^9.
    let tables = capacity.div_ceil(grain * u64::from(entries));
    require(tables <= MAX_DIRECTORY, "its grain directory is too large")?;
    let mut regions = others.to_vec();
    regions.push(image.region("grain directory", product("grain directory", directory, SECTOR)?, tables * 4)?);
    if le32(header, 8) & HAS_REDUNDANT_DIRECTORY != 0 {
        let offset = product("redundant grain directory", le64(header, 48), SECTOR)?;
        regions.push(image.region("redundant grain directory", offset, tables * 4)?);
    }
    disjoint(&regions)?;
    for region in &regions[others.len()..] {
        let length = (region.end - region.start).min(CHECKED);
        for sector in image.bytes("grain directory", region.start, length)?.chunks_exact(4).map(|entry| le32(entry, 0))
        {
            if sector != 0 {
                image.target("grain table", u64::from(sector) * SECTOR, u64::from(entries) * 4, &regions)?;
            }
        }
    }
    Ok(())
}
