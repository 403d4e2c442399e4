//! The descriptor of a VMDK image: a text, in which only known lines are accepted. It may name no file except its own image.
//!
//! Two lines of it name files: an extent, `RW 20480 SPARSE "name.vmdk"`, and the hint at a parent. A `flat` or `vmfs` extent with an
//! absolute path is how an image reads a file of the host. One SPARSE extent is accepted, whose name is no path: it is the name that the
//! image had when it was created, and nobody opens it.

use crate::format::reading::{Checked, is_zero, refuse, require};

/// How the image stores its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    MonolithicSparse,
    StreamOptimized,
}

/// qemu writes a new CID of 1 to 8 digits into the text, and leaves the end of the longer one behind the new end: so many bytes.
const LEFT_OVER: usize = 6;

pub(super) fn check_descriptor(bytes: &[u8]) -> Checked<Kind> {
    // For some programs the text ends at the first NUL, and for others it does not. To these, the end of its last line is there twice.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let rest = bytes[end..].strip_prefix(&[0]).unwrap_or_default();
    let left = &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())];
    let is_left_over = left.len() <= LEFT_OVER && bytes[..end].ends_with(left) && is_zero(&rest[left.len()..]);
    require(is_left_over, "its descriptor continues after its end")?;
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else { return refuse("its descriptor is no text") };
    require(text.is_ascii(), "its descriptor is no ASCII text")?;
    let mut kind = None;
    let mut extents = 0;
    let mut parents = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if is_extent(line) {
            check_extent(line)?;
            extents += 1;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { return refuse("its descriptor has an unknown line") };
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        match key {
            "createType" => {
                require(kind.is_none(), "its descriptor has two types")?;
                kind = Some(kind_of(value)?);
            }
            "parentCID" => {
                require(value.eq_ignore_ascii_case("ffffffff"), "it has a parent")?;
                parents += 1;
            }
            "version" | "encoding" | "CID" | "isNativeSnapshot" => {}
            _ if key.starts_with("ddb.") => {}
            _ => return refuse("its descriptor has an unknown line"),
        }
    }
    require(extents == 1, "its descriptor has not exactly one extent")?;
    require(parents <= 1, "its descriptor has two parents")?;
    kind.map_or_else(|| refuse("its descriptor has no type"), Ok)
}

/// qemu does not parse the lines for a parent. It looks for the words anywhere, also in comments, names and what follows the text.
pub(super) fn check_no_parent(bytes: &[u8]) -> Checked<()> {
    let bytes = bytes.to_ascii_lowercase();
    let places = |word: &'static [u8]| bytes.windows(word.len()).enumerate().filter(move |(_, at)| *at == word);
    require(places(b"parentfilename").next().is_none(), "it names a parent")?;
    let has_none = |(at, _)| bytes[at..].starts_with(b"parentcid=ffffffff");
    require(places(b"parentcid").all(has_none), "it has a parent")
}

fn kind_of(value: &str) -> Checked<Kind> {
    match value {
        "monolithicSparse" => Ok(Kind::MonolithicSparse),
        "streamOptimized" => Ok(Kind::StreamOptimized),
        _ => refuse("its type is neither monolithicSparse nor streamOptimized"),
    }
}

fn is_extent(line: &str) -> bool {
    matches!(line.split_ascii_whitespace().next(), Some("RW" | "RDONLY" | "NOACCESS"))
}

fn check_extent(line: &str) -> Checked<()> {
    // The name is in quotes, and may have spaces.
    let Some((numbers, name)) = line.split_once('"') else { return refuse("an extent has no name") };
    let fields: Vec<_> = numbers.split_ascii_whitespace().collect();
    let [_, sectors, kind] = fields[..] else { return refuse("an extent has an unknown form") };
    require(sectors.bytes().all(|byte| byte.is_ascii_digit()), "an extent has an unknown form")?;
    require(kind == "SPARSE", "an extent is not in the image")?;
    let Some(name) = name.strip_suffix('"') else { return refuse("an extent has an unknown form") };
    let is_path = name.is_empty() || name.contains(['/', '\\', '"', ':']) || name == "." || name == "..";
    require(!is_path, "an extent is named by a path")
}
