//! Whether there is room: on the file system, for its inodes, and within the limit.

use rustix::fs::fstatvfs;

use super::finding::{Findings, counted};
use super::scan::Scan;
use super::{kind, reading};
use crate::units::size;

/// Less than so many per cent free is almost full.
const PERCENT: u64 = 5;

/// A large file system with so much free is not almost full.
const ENOUGH: u64 = 50 << 30;

/// The limits of a file system.
#[derive(Debug, Clone, Copy)]
struct Space {
    bytes: u64,
    free: u64,
    inodes: u64,
    free_inodes: u64,
}

impl Space {
    fn is_almost_full(self) -> bool {
        self.free < ENOUGH && u128::from(self.free) * 100 < u128::from(self.bytes) * u128::from(PERCENT)
    }

    /// File systems without a fixed number of inodes show 0.
    fn is_short_of_inodes(self) -> bool {
        self.inodes > 0 && u128::from(self.free_inodes) * 100 < u128::from(self.inodes) * u128::from(PERCENT)
    }
}

pub fn check(scan: &Scan, findings: &mut Findings) {
    if let Ok(status) = fstatvfs(&scan.root.descriptor) {
        let space = Space {
            bytes: status.f_blocks.saturating_mul(status.f_frsize),
            free: status.f_bavail.saturating_mul(status.f_frsize),
            inodes: status.f_files,
            free_inodes: status.f_favail,
        };
        if space.is_almost_full() {
            findings.add(&kind::FULL, format!("{} of {} are free", size(space.free), size(space.bytes)));
        }
        if space.is_short_of_inodes() {
            findings.add(&kind::NO_INODES, format!("{} of {} inodes are free", space.free_inodes, space.inodes));
        }
        check_limit(scan, space, findings);
    }
    let failed = scan.area("invalid").map(|area| area.images.as_slice()).unwrap_or_default();
    let bytes: u64 = failed.iter().map(super::scan::ImageFile::allocated).sum();
    let items = failed.iter().map(super::scan::ImageFile::shown).collect();
    findings.add_if_any(&kind::FAILED_FETCHES, items, |count| {
        format!("{} up {}", counted(count, "failed fetch takes", "failed fetches take"), size(bytes))
    });
}

/// A hard limit can only be reached if the disk has room for it.
fn check_limit(scan: &Scan, space: Space, findings: &mut Findings) {
    let text = scan.own.as_ref().and_then(|own| reading::content(own, "limit")).unwrap_or_default();
    let Some(limit) = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<u64>().ok()) else { return };
    let used: u64 = scan.all().flat_map(|area| &area.images).map(super::scan::ImageFile::allocated).sum();
    let reachable = used.saturating_add(space.free);
    if limit > reachable {
        let message =
            format!("the limit is {}; the images have {}, and {} are free", size(limit), size(used), size(space.free));
        findings.add(&kind::LIMIT_TOO_HIGH, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_a_part_of_the_whole() {
        let space = Space { bytes: 1000, free: 49, inodes: 0, free_inodes: 0 };
        assert!(space.is_almost_full() && !space.is_short_of_inodes());
        assert!(!Space { free: 50, ..space }.is_almost_full());
        assert!(!Space { bytes: 10 << 40, free: 60 << 30, ..space }.is_almost_full());
        assert!(Space { inodes: 100, free_inodes: 4, ..space }.is_short_of_inodes());
    }
}
