//! What a second driver left, and what a commit left on each image's file.

use std::io::Read as _;

use rustix::fs::lgetxattr;

use super::finding::{Findings, counted};
use super::scan::{DATABASE, Driver, ImageFile, Scan};
use super::{kind, reading};
use crate::cli;
use crate::conversion::{Conversion, HITS};

const DIGEST: &str = "user.image_cache.digest";

/// How each SQLite database begins.
const MAGIC: &[u8] = b"SQLite format 3\0";

pub fn check(scan: &Scan, findings: &mut Findings) {
    check_lengths(scan, findings);
    check_conversion(scan, findings);
    let mut traces = Vec::new();
    match scan.driver {
        Some(Driver::Xattr) => {
            let size = reading::status(&scan.root.descriptor, DATABASE).ok().flatten().map_or(0, |stat| stat.st_size);
            if size > 0 {
                traces.push(format!("{DATABASE}: an index of {size} bytes, and the driver is xattr"));
            }
        }
        Some(Driver::Sqlite) => {
            let with_hits = scan.root.images.iter().filter(|image| attribute(scan, image, HITS).is_some());
            traces.extend(with_hits.map(|image| format!("{}: has {HITS}, and the driver is SQLite", image.shown())));
        }
        None => {}
    }
    // With another name of the database, the former one counts as an image.
    let databases = scan.root.images.iter().filter(|image| is_database(scan, image));
    traces.extend(databases.map(|image| format!("{}: a SQLite database, which counts as an image", image.shown())));
    findings.add_if_any(&kind::SECOND_DRIVER, traces, |count| {
        counted(count, "trace of another driver", "traces of another driver")
    });
}

/// One of the present driver was not begun.
fn check_conversion(scan: &Scan, findings: &mut Findings) {
    let from = match Conversion::of(&scan.path) {
        Ok(None) => return,
        Ok(Some(conversion)) => conversion.from,
        Err(failure) => return findings.add(&kind::HALF_CONVERTED, failure.message),
    };
    let present = match scan.driver {
        Some(Driver::Xattr) => cli::Driver::Xattr,
        Some(Driver::Sqlite) => cli::Driver::Sqlite,
        None => return,
    };
    if from != present {
        let message = format!("hits are still to be carried over from {} to {}", from.name(), present.name());
        findings.add(&kind::HALF_CONVERTED, message);
    }
}

/// A file that another program truncated or appended to is not served.
fn check_lengths(scan: &Scan, findings: &mut Findings) {
    let wrong = scan.root.images.iter().filter_map(|image| {
        let text = attribute(scan, image, DIGEST)?;
        let committed: u64 = text.split_once(' ')?.1.parse().ok()?;
        let is_other = committed != image.size();
        is_other.then(|| format!("{}: {} bytes, {committed} at the commit", image.shown(), image.size()))
    });
    findings.add_if_any(&kind::WRONG_LENGTH, wrong.collect(), |count| {
        format!("{} changed in place", counted(count, "image was", "images were"))
    });
}

/// An attribute's text, read by name: opening an image would look like a use of it.
fn attribute(scan: &Scan, image: &ImageFile, name: &str) -> Option<String> {
    let mut value = [0_u8; 512];
    let length = lgetxattr(scan.path.join(&image.name), name, &mut value).ok()?;
    std::str::from_utf8(value.get(..length)?).ok().map(str::to_owned)
}

fn is_database(scan: &Scan, image: &ImageFile) -> bool {
    let name = image.name.as_encoded_bytes();
    if !name.ends_with(b".db") && !name.ends_with(b".sqlite") {
        return false;
    }
    let mut bytes = [0_u8; 16];
    let opened = reading::open_file(&scan.root.descriptor, &image.name);
    opened.is_ok_and(|mut file| file.read_exact(&mut bytes).is_ok()) && bytes == *MAGIC
}
