//! The tables of a qcow2 image: they are within the file, do not overlap, and have the size that the virtual size needs.
//!
//! An entry that points into the header would let a guest that writes its disk write the header, and name a backing file there.

use crate::format::reading::{Checked, Image, Region, apart, be16, be32, be64, disjoint, refuse, require};

/// What qemu accepts at most, in bytes.
const MAX_L1: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
/// So many bytes of a table are checked.
const CHECKED_L1: u64 = 256 << 10;
const CHECKED_REFCOUNTS: u64 = 128 << 10;

/// More snapshots are refused, so that an inspection is short. qemu accepts 65536.
const MAX_SNAPSHOTS: u64 = 256;
/// The fields of a snapshot that have a fixed length, and the longest extra data that qemu accepts, in bytes.
const SNAPSHOT: u64 = 40;
const MAX_EXTRA: u64 = 1024;

/// Bits 9 to 55 of an entry are an offset; bit 63 of an entry of L1 is a flag.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;

/// The header's fields that the tables depend on.
pub(super) struct Header {
    pub cluster_size: u64,
    pub has_extended_l2: bool,
    /// The virtual size, in bytes.
    pub size: u64,
    pub l1_entries: u64,
    pub l1_offset: u64,
    pub refcount_offset: u64,
    pub refcount_clusters: u64,
    pub snapshots: u64,
    pub snapshots_offset: u64,
}

pub(super) fn check_tables(image: &Image<'_>, header: &Header) -> Checked<()> {
    let cluster = header.cluster_size;
    let refcount_bytes = header.refcount_clusters * cluster;
    require(refcount_bytes > 0, "it has no refcount table")?;
    require(refcount_bytes <= MAX_REFCOUNT_TABLE, "its refcount table is too large")?;
    // An image that is not longer than a cluster has no tables, and the next check says so.
    let header_end = cluster.min(image.length);
    let mut regions = vec![image.region("header", 0, header_end)?];
    regions.push(table(image, header, "refcount table", header.refcount_offset, refcount_bytes)?);
    check_l1_size(header)?;
    if header.l1_entries > 0 {
        regions.push(table(image, header, "L1 table", header.l1_offset, header.l1_entries * 8)?);
    }
    disjoint(&regions)?;
    check_snapshots(image, header, &regions)?;
    check_entries(image, header, &regions, (header.refcount_offset, refcount_bytes.min(CHECKED_REFCOUNTS)), 0)?;
    check_entries(image, header, &regions, (header.l1_offset, (header.l1_entries * 8).min(CHECKED_L1)), COPIED)
}

/// L1 has an entry for each part of the disk.
fn check_l1_size(header: &Header) -> Checked<()> {
    require(header.l1_entries * 8 <= MAX_L1, "its L1 table is too large")?;
    let entries = header.cluster_size / if header.has_extended_l2 { 16 } else { 8 };
    // At most 2^21 * 2^18.
    let covered = header.cluster_size * entries;
    require(header.l1_entries >= header.size.div_ceil(covered), "its L1 table is too small for its virtual size")
}

fn table(image: &Image<'_>, header: &Header, what: &'static str, offset: u64, length: u64) -> Checked<Region> {
    if offset.is_multiple_of(header.cluster_size) {
        image.region(what, offset, length)
    } else {
        refuse(format!("its {what} does not begin at a cluster"))
    }
}

/// Each entry is 0, or the offset of a cluster that belongs to no other table.
fn check_entries(image: &Image<'_>, header: &Header, regions: &[Region], at: (u64, u64), flags: u64) -> Checked<()> {
    let (offset, length) = at;
    for entry in image.part("table", offset, length)?.chunks_exact(8).map(|entry| be64(entry, 0)) {
        if entry == 0 {
            continue;
        }
        require(entry & !(OFFSET | flags) == 0, "an entry of a table has unknown bits")?;
        if entry & OFFSET != 0 {
            let target = table(image, header, "second-level table", entry & OFFSET, header.cluster_size)?;
            apart(&target, regions)?;
        }
    }
    Ok(())
}

/// The table of snapshots, and the L1 table of each.
fn check_snapshots(image: &Image<'_>, header: &Header, regions: &[Region]) -> Checked<()> {
    require(header.snapshots <= MAX_SNAPSHOTS, "it has too many snapshots")?;
    let mut offset = header.snapshots_offset;
    require(
        header.snapshots == 0 || offset.is_multiple_of(header.cluster_size),
        "its snapshots do not begin at a cluster",
    )?;
    for _ in 0..header.snapshots {
        let snapshot = image.bytes("table of snapshots", offset, SNAPSHOT)?;
        let extra = u64::from(be32(&snapshot, 36));
        require(extra <= MAX_EXTRA, "a snapshot has too much extra data")?;
        let texts = u64::from(be16(&snapshot, 12)) + u64::from(be16(&snapshot, 14));
        let entry = image.region("table of snapshots", offset, SNAPSHOT + extra + texts)?;
        apart(&entry, regions)?;
        let l1 = u64::from(be32(&snapshot, 8)) * 8;
        require(l1 <= MAX_L1, "the L1 table of a snapshot is too large")?;
        if l1 > 0 {
            apart(&table(image, header, "L1 table of a snapshot", be64(&snapshot, 0), l1)?, regions)?;
        }
        offset = entry.end.next_multiple_of(8);
    }
    Ok(())
}
