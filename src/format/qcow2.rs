//! qcow2, versions 2 and 3: `docs/interop/qcow2.rst` of qemu. All numbers are big-endian.
//!
//! Refused: a backing file (CVE-2026-24708), an external data file (CVE-2024-32498, CVE-2024-4467), encryption, unknown incompatible
//! features, an image that is marked corrupt, tables that are outside of the file or overlap, tables that are too large or do not fit
//! the virtual size (CVE-2015-5162). Accepted: internal snapshots, bitmaps, and the mark of lazy refcounts that were not written.
//!
//! The first level of each table is checked (`qcow2_tables`). The second one is not: it can be as long as the image.

use crate::format::qcow2_tables::{Header, check_tables};
use crate::format::reading::{Checked, Image, be32, be64, is_zero, refuse, require};

/// The header of version 2, in bytes; that of version 3 without optional fields; and the longest that is accepted.
const V2: u64 = 72;
const V3: u64 = 104;
const LONGEST: u64 = 4096;
/// The known fields end here. Those behind them must be 0.
const KNOWN_FIELDS: usize = 105;

const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN_FEATURES: u64 = 0b1_1111;
/// An autoclear feature: the external data file is raw.
const RAW_DATA_FILE: u64 = 1 << 1;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_BITMAPS: u32 = 0x2385_2875;
/// More header extensions are refused.
const MAX_EXTENSIONS: usize = 32;

pub(super) fn check(image: &Image<'_>) -> Checked<()> {
    let first = image.bytes("header", 0, V2)?;
    let version = be32(&first, 4);
    let cluster_bits = be32(&first, 20);
    require((2..=3).contains(&version), "its version of qcow2 is unknown")?;
    require((9..=21).contains(&cluster_bits), "its cluster size is not one that qcow2 has")?;
    let cluster_size = 1 << cluster_bits;
    require(be64(&first, 8) == 0 && be32(&first, 16) == 0, "it has a backing file")?;
    require(be32(&first, 32) == 0, "it is encrypted")?;
    let (length, features) = if version == 3 { check_v3(image, cluster_size)? } else { (V2, 0) };
    check_extensions(image, length, cluster_size)?;
    check_tables(
        image,
        &Header {
            cluster_size,
            has_extended_l2: features & EXTENDED_L2 != 0,
            size: be64(&first, 24),
            l1_entries: be32(&first, 36).into(),
            l1_offset: be64(&first, 40),
            refcount_offset: be64(&first, 48),
            refcount_clusters: be32(&first, 56).into(),
            snapshots: be32(&first, 60).into(),
            snapshots_offset: be64(&first, 64),
        },
    )
}

/// The fields of version 3. Returns the header's length, and the incompatible features.
fn check_v3(image: &Image<'_>, cluster_size: u64) -> Checked<(u64, u64)> {
    let length = u64::from(be32(&image.bytes("header", 0, V3)?, 100));
    let is_possible = (V3..=LONGEST.min(cluster_size)).contains(&length) && length.is_multiple_of(8);
    require(is_possible, "the length of its header is not one that qcow2 has")?;
    let header = image.bytes("header", 0, length)?;
    let features = be64(&header, 72);
    require(features & DATA_FILE == 0 && be64(&header, 88) & RAW_DATA_FILE == 0, "it has an external data file")?;
    require(features & CORRUPT == 0, "it is marked as corrupt")?;
    require(features & !KNOWN_FEATURES == 0, "it has an unknown incompatible feature")?;
    require(be32(&header, 96) <= 6, "the width of its refcounts is not one that qcow2 has")?;
    let compression = header.get(104).copied().unwrap_or(0);
    let is_known = if features & COMPRESSION == 0 { compression == 0 } else { compression == 1 };
    require(is_known, "its compression is unknown")?;
    require(header.get(KNOWN_FIELDS..).is_none_or(is_zero), "it has an unknown field in its header")?;
    require(features & EXTENDED_L2 == 0 || cluster_size >= 1 << 14, "its clusters are too small for subclusters")?;
    Ok((length, features))
}

/// The header extensions, which follow the header in the first cluster. Unknown ones are to be ignored, as the specification says.
fn check_extensions(image: &Image<'_>, header: u64, cluster_size: u64) -> Checked<()> {
    let mut offset = header;
    for _ in 0..MAX_EXTENSIONS {
        if offset + 8 > cluster_size {
            return Ok(());
        }
        let head = image.part("header extension", offset, 8)?;
        let (kind, length) = (be32(&head, 0), u64::from(be32(&head, 4)));
        if kind == EXTENSION_END {
            return Ok(());
        }
        let data = offset + 8;
        require(length <= cluster_size - data, "a header extension is longer than its header")?;
        match kind {
            EXTENSION_BACKING_FORMAT => return refuse("it names the format of a backing file"),
            EXTENSION_DATA_FILE => return refuse("it names an external data file"),
            EXTENSION_ENCRYPTION => return refuse("it is encrypted"),
            EXTENSION_BITMAPS => {
                let bitmaps = image.bytes("bitmaps extension", data, 24)?;
                image.region("bitmap directory", be64(&bitmaps, 16), be64(&bitmaps, 8))?;
            }
            _ => {}
        }
        offset = data + length.next_multiple_of(8);
    }
    refuse("it has too many header extensions")
}
