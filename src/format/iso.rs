//! ISO 9660: ECMA-119. An ISO image is opened as raw bytes, so there is nothing to follow. It must be what it seems to be.
//!
//! Its first 32 KiB belong to no one, and often have a partition table, for USB sticks. The probing has found no other format there.

use crate::format::reading::{Checked, Image, be16, be32, le16, le32, refuse, require};

const SECTOR: u64 = 2048;
const FIRST: u64 = 16;
/// An image has 2 to 5.
const MAX_DESCRIPTORS: u64 = 16;
const PRIMARY: u8 = 1;
const END: u8 = 255;

pub(super) fn check(image: &Image<'_>) -> Checked<()> {
    let mut has_primary = false;
    for sector in FIRST..FIRST + MAX_DESCRIPTORS {
        let descriptor = image.bytes("volume descriptors", sector * SECTOR, SECTOR)?;
        require(descriptor[1..6] == *b"CD001", "a volume descriptor is damaged")?;
        match descriptor[0] {
            END if has_primary => return Ok(()),
            END => return refuse("it has no primary volume descriptor"),
            PRIMARY => {
                check_primary(image, &descriptor)?;
                has_primary = true;
            }
            _ => {}
        }
    }
    refuse("its volume descriptors do not end")
}

/// The volume and its root directory are within the file. Numbers are there in both byte orders.
fn check_primary(image: &Image<'_>, descriptor: &[u8]) -> Checked<()> {
    let block = u64::from(le16(descriptor, 128));
    let blocks = u64::from(le32(descriptor, 80));
    let are_same = block == u64::from(be16(descriptor, 130)) && blocks == u64::from(be32(descriptor, 84));
    require(are_same, "the two byte orders of its volume descriptor differ")?;
    require([512, 1024, 2048].contains(&block), "its block size is not one that ISO 9660 has")?;
    image.region("volume", 0, blocks * block)?;
    let root = &descriptor[156..190];
    image.region("root directory", u64::from(le32(root, 2)) * block, u64::from(le32(root, 10)))?;
    Ok(())
}
