//! The present boot of the host.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::OFlags;

use crate::sys::descriptors;

/// The id of the host's present boot; `None` where `/proc` does not have it.
pub(crate) fn boot_id() -> Option<String> {
    let mut id = String::new();
    let file = descriptors::open(Path::new("/proc/sys/kernel/random/boot_id"), OFlags::RDONLY).ok()?;
    File::from(file).read_to_string(&mut id).ok()?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}
