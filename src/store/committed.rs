//! What a commit leaves on an image's file: its digest and its length. A reader compares the latter with the file's present length, without a
//! system call.
//!
//! Both are in one attribute, `algorithm:hex length`: with two, they would not fit into the inode, and each image would take up a block more.
//! For the same reason, `crc64nvme` is written as `crc`: beside the hits of the xattr driver, that fits for lengths of 7 digits.
//! A query of an attribute would cost each hit half a microsecond. So the commit also sets an mtime whose last three
//! digits are a checksum of the length. Any other length or mtime has other digits, with the exception of one in a thousand. Only then is
//! the attribute read. So a file is noticed that another program truncated or appended to, also if its mtime was restored afterwards.
//! A file without the attribute, Glance's for example, may have any length. On a file system without attributes nothing is noticed.

use std::fs::File;
use std::io::Result;
use std::os::fd::AsFd;

use crate::digest::algorithm::is_well_formed;
use crate::store::attributes::{self, Attribute};
use crate::sys::stat::FileStat;
use crate::sys::time::Timestamp;

/// How a CRC begins in the attribute, and everywhere else.
const SHORT: &str = "crc:";
const LONG: &str = "crc64nvme:";

/// The mtime of an image of that length, in bytes, which is committed now.
pub(crate) fn modification_time(committed: Timestamp, size: u64) -> Timestamp {
    committed.with_sub_microseconds(digits(size))
}

/// The length at the commit, if the file, whose present status this is, has another one.
pub(crate) fn if_other(file: &File, stat: &FileStat) -> Option<u64> {
    if has_its_digits(stat) { None } else { if_other_in_any_case(file, stat) }
}

/// The same, also where the digits hide it.
pub(crate) fn if_other_in_any_case(file: &File, stat: &FileStat) -> Option<u64> {
    let text = attributes::get(file, Attribute::Digest).ok()??;
    let (_, size) = text.split_once(' ')?;
    size.parse().ok().filter(|size| *size != stat.size)
}

/// Stores the digest, as `algorithm:hex`, and the length in bytes.
pub(crate) fn store(file: impl AsFd, digest: Option<&str>, size: u64) -> Result<()> {
    let text = format!("{} {size}", digest.unwrap_or("none"));
    attributes::set(
        file,
        Attribute::Digest,
        &text.strip_prefix(LONG).map_or(text.clone(), |rest| format!("{SHORT}{rest}")),
    )
}

/// The digest, as `algorithm:hex`; `None` when there is none.
pub(crate) fn digest(file: impl AsFd) -> Result<Option<String>> {
    let text = attributes::get(file, Attribute::Digest)?;
    let digest = text.map(|text| text.split_once(' ').map_or(text.clone(), |(digest, _)| digest.to_owned()));
    let digest = digest.map(|text| text.strip_prefix(SHORT).map_or(text.clone(), |hex| format!("{LONG}{hex}")));
    Ok(digest.filter(|digest| is_well_formed(digest)))
}

/// Whether the mtime is that of an image of this length. If so, [`if_other`] finds nothing.
pub(crate) fn has_its_digits(stat: &FileStat) -> bool {
    stat.modified.sub_microseconds() == digits(stat.size)
}

/// A number from 1 to 999. A file system that stores whole microseconds never has it.
fn digits(size: u64) -> i64 {
    // Fibonacci hashing: lengths that differ by a few bytes or blocks have numbers that are far apart.
    let hash = size.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    1 + (hash % 999).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lengths_seldom_have_the_same_digits() {
        let size = 20_u64 << 30;
        let others = (1..=10_000).flat_map(|by| [size - by, size + by, size - (by << 12), size / 10_001 * by]);
        let same = others.filter(|other| digits(*other) == digits(size)).count();
        assert!(same < 80, "{same} of 40,000");
        assert!((0..10_000).all(|size| (1..1000).contains(&digits(size))));
    }

    #[test]
    fn a_crc_beside_the_hits_of_the_xattr_driver_takes_up_no_block() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let crc = "crc64nvme:0123456789abcdef";
        xattr::set(file.path(), "user.hits", b"0").unwrap();
        store(file.as_file(), Some(crc), 9_999_999).unwrap();
        assert_eq!(digest(file.as_file()).unwrap().as_deref(), Some(crc));
        assert_eq!(std::os::unix::fs::MetadataExt::blocks(&file.as_file().metadata().unwrap()), 0);
        assert_eq!(
            if_other_in_any_case(file.as_file(), &FileStat::of(file.as_file(), || file.path().to_owned()).unwrap()),
            Some(9_999_999)
        );
    }

    #[test]
    fn the_time_of_a_commit_changes_by_less_than_a_microsecond() {
        let committed = Timestamp::now();
        let modified = modification_time(committed, 5);
        assert!(modified.distance(committed).as_nanos() < 1000 && modified.sub_microseconds() == digits(5));
    }
}
