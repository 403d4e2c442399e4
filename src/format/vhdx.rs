//! VHDX without a parent: Microsoft's `[MS-VHDX]`. Numbers are little-endian.
//!
//! Header and region table are there twice. Programs differ in which one they use, so both are checked, and the region tables must be
//! the same. A log that is not empty is refused: the program that opens the image first replays it, which can write anything into what
//! was checked. Unknown regions and items are refused if they are required.

use crate::format::reading::{Checked, Image, Region, disjoint, is_zero, le16, le32, le64, refuse, require};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
/// What precedes the first region, in bytes.
const FIRST: u64 = MIB;
/// More are refused; the specification has 2.
const MAX_REGIONS: u32 = 16;
/// More are refused; the specification has 6.
const MAX_ITEMS: u16 = 64;
/// So many bytes of the block allocation table are checked.
const CHECKED: u64 = 128 << 10;
const MAX_SIZE: u64 = 64 << 40;

type Guid = [u8; 16];
const BAT: Guid = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA: Guid = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const FILE_PARAMETERS: Guid = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const DISK_SIZE: Guid = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
const PAGE_83: Guid = *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";
const LOGICAL_SECTOR: Guid = *b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
const PHYSICAL_SECTOR: Guid = *b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56";
const PARENT_LOCATOR: Guid = *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";

/// The disk's measures, in bytes.
#[derive(Default)]
struct Disk {
    block: u64,
    size: u64,
    sector: u64,
}

pub(super) fn check(image: &Image<'_>) -> Checked<()> {
    let mut regions = vec![image.region("header section", 0, FIRST)?];
    for offset in HEADERS {
        regions.extend(log_of(image, offset)?);
    }
    // Both headers have the same log.
    if let [_, one, other] = regions[..] {
        require((one.start, one.end) == (other.start, other.end), "the logs of its two headers differ")?;
        regions.pop();
    }
    let [bat, metadata] = check_regions(image, &mut regions)?;
    disjoint(&regions)?;
    let disk = check_metadata(image, &metadata)?;
    check_bat(image, &bat, &regions, &disk)
}

/// Checks a header. Returns the region of its log.
fn log_of(image: &Image<'_>, offset: u64) -> Checked<Option<Region>> {
    let header = image.bytes("header", offset, 80)?;
    require(header.starts_with(b"head") && le16(&header, 66) == 1, "a header is damaged, or of an unknown version")?;
    require(is_zero(&header[48..64]), "its log has to be replayed")?;
    let (length, offset) = (u64::from(le32(&header, 68)), le64(&header, 72));
    if length == 0 {
        return Ok(None);
    }
    require(offset.is_multiple_of(MIB) && length.is_multiple_of(MIB), "its log does not begin at a MiB")?;
    image.region("log", offset, length).map(Some)
}

/// Adds the regions. Returns those of the block allocation table and of the metadata.
fn check_regions(image: &Image<'_>, regions: &mut Vec<Region>) -> Checked<[Region; 2]> {
    let [offset, other] = REGION_TABLES;
    let count = le32(&image.bytes("region table", offset, 16)?, 8);
    require((1..=MAX_REGIONS).contains(&count), "the number of its regions is not one that vhdx has")?;
    let length = 16 + u64::from(count) * 32;
    let table = image.bytes("region table", offset, length)?;
    require(table.starts_with(b"regi"), "it has no region table")?;
    require(table == image.bytes("region table", other, length)?, "its two region tables differ")?;
    let (mut bat, mut metadata) = (None, None);
    for entry in table[16..].chunks_exact(32) {
        let (what, place) = match entry.first_chunk() {
            Some(&BAT) => ("block allocation table", Some(&mut bat)),
            Some(&METADATA) => ("metadata", Some(&mut metadata)),
            _ => ("unknown region", None),
        };
        let (offset, length) = (le64(entry, 16), u64::from(le32(entry, 24)));
        require(offset.is_multiple_of(MIB) && length.is_multiple_of(MIB), "a region does not begin at a MiB")?;
        let region = image.region(what, offset, length)?;
        regions.push(region);
        match place {
            Some(place) => require(place.replace(region).is_none(), "it has a region twice")?,
            None => require(le32(entry, 28) & 1 == 0, "it has an unknown region that is required")?,
        }
    }
    let (Some(bat), Some(metadata)) = (bat, metadata) else { return refuse("it lacks a region") };
    Ok([bat, metadata])
}

fn check_metadata(image: &Image<'_>, region: &Region) -> Checked<Disk> {
    let header = image.bytes("metadata", region.start, 32)?;
    let count = le16(&header, 10);
    require(header.starts_with(b"metadata") && count <= MAX_ITEMS, "it has no metadata, or too much of it")?;
    let table = image.bytes("metadata", region.start, 32 + u64::from(count) * 32)?;
    let (mut disk, mut seen) = (Disk::default(), Vec::new());
    for entry in table[32..].chunks_exact(32) {
        let id = entry.first_chunk().copied().unwrap_or_default();
        require(!seen.contains(&id), "it has a metadata item twice")?;
        seen.push(id);
        let (offset, length, flags) = (u64::from(le32(entry, 16)), u64::from(le32(entry, 20)), le32(entry, 24));
        require(region.start + offset + length <= region.end, "a metadata item is outside of the metadata")?;
        let number = |length| image.bytes("metadata item", region.start + offset, length);
        match id {
            FILE_PARAMETERS => {
                let parameters = number(8)?;
                disk.block = le32(&parameters, 0).into();
                require(le32(&parameters, 4) & 2 == 0, "it has a parent")?;
                require(le32(&parameters, 4) & !1 == 0, "its file parameters are unknown")?;
            }
            DISK_SIZE => disk.size = le64(&number(8)?, 0),
            LOGICAL_SECTOR => disk.sector = le32(&number(4)?, 0).into(),
            PAGE_83 | PHYSICAL_SECTOR => {}
            PARENT_LOCATOR => return refuse("it has a parent"),
            _ => require(flags & 4 == 0, "it has an unknown metadata item that is required")?,
        }
    }
    require([512, 4096].contains(&disk.sector), "its sector size is not one that vhdx has")?;
    let is_block = disk.block.is_power_of_two() && (MIB..=256 * MIB).contains(&disk.block);
    require(is_block, "its block size is not one that vhdx has")?;
    require(disk.size <= MAX_SIZE && disk.size.is_multiple_of(disk.sector), "its size is not one that vhdx has")?;
    Ok(disk)
}

/// Each block is absent, or a part of the file that nothing else has.
fn check_bat(image: &Image<'_>, bat: &Region, regions: &[Region], disk: &Disk) -> Checked<()> {
    // After so many entries of blocks comes one of a bitmap, which only an image with a parent uses.
    let ratio = (disk.sector << 23) / disk.block;
    let blocks = disk.size.div_ceil(disk.block);
    let entries = blocks + blocks.saturating_sub(1) / ratio;
    require(entries * 8 <= bat.end - bat.start, "its block allocation table is too small for its size")?;
    let table = image.bytes("block allocation table", bat.start, (entries * 8).min(CHECKED))?;
    for (place, entry) in (0_u64..).zip(table.chunks_exact(8).map(|entry| le64(entry, 0))) {
        let is_bitmap = (place + 1).is_multiple_of(ratio + 1);
        let (state, offset) = (entry & 7, entry >> 20 << 20);
        match state {
            0..=3 => {}
            6 if is_bitmap => return refuse("it has the bitmap of an image with a parent"),
            6 => image.target("block", offset, disk.block, regions)?,
            _ => return refuse("a block has the state of an image with a parent, or an unknown one"),
        }
    }
    Ok(())
}
