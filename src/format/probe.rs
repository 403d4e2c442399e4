//! Which format an image has: by the signatures at all places where a program would look for one.
//!
//! qemu probes the first 512 bytes, and calls a file raw if no format claims them (`bdrv_probe_all` in its `block.c`, and the `probe`
//! function of each file in `block/`). So a "raw" image with a signature there is opened as another format, whose header may name files
//! of the host. All signatures that qemu knows are looked for, those of formats that are never accepted as well. Other places: a VHD of
//! fixed size and an Apple disk image (DMG) have theirs at the end, an ISO 9660 image has its in sector 16.
//!
//! Each format leaves room for another one: the first 32 KiB of an ISO image are free, the end of a raw image can be anything. An image
//! with two signatures is refused. A partition table (MBR, GPT) is no format here: raw images have one, and ISO images that boot from
//! USB sticks. Programs open both as raw bytes.

use crate::format::kinds::Format;
use crate::format::reading::{Checked, Image, be32, refuse};

/// The part at the beginning that is searched. qemu reads 512 bytes of it.
const HEAD: u64 = 2048;
const SECTOR: u64 = 512;
/// The volume descriptors of an ISO image (ECMA-119, 6.2.1).
const ISO_DESCRIPTORS: u64 = 32768;

/// What a signature shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Known(Format),
    /// A format that is never accepted.
    Other(&'static str),
}

impl Found {
    fn name(self) -> &'static str {
        match self {
            Self::Known(format) => format.name(),
            Self::Other(name) => name,
        }
    }
}

/// Signatures at fixed offsets of the beginning.
const SIGNATURES: &[(usize, &[u8], Found)] = &[
    (0, b"KDMV", Found::Known(Format::Vmdk)),
    (0, b"conectix", Found::Known(Format::Vhd)),
    (0, b"vhdxfile", Found::Known(Format::Vhdx)),
    (0, b"COWD", Found::Other("vmdk (ESX server sparse extent)")),
    (0, b"QED\0", Found::Other("qed")),
    (0, b"LUKS\xba\xbe", Found::Other("luks")),
    (0, b"WithoutFreeSpace", Found::Other("parallels")),
    (0, b"WithouFreSpacExt", Found::Other("parallels")),
    (0, b"Bochs Virtual HD Image", Found::Other("bochs")),
    (0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", Found::Other("cloop")),
    (0x40, b"\x7f\x10\xda\xbe", Found::Other("vdi")),
];

const QCOW: &[u8] = b"QFI\xfb";

/// The format of an image; raw if no other one claims it.
pub(super) fn probe(image: &Image<'_>) -> Checked<Format> {
    let mut found = Vec::new();
    let head = image.part("first bytes", 0, HEAD)?;
    let at = |offset: usize, signature: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(signature));
    found.extend(SIGNATURES.iter().filter(|(offset, bytes, _)| at(*offset, bytes)).map(|(_, _, found)| *found));
    if head.starts_with(QCOW) {
        found.push(if be32(&head, 4) == 1 { Found::Other("qcow") } else { Found::Known(Format::Qcow2) });
    }
    if is_vmdk_text(&head) {
        found.push(Found::Other("vmdk (a text that names other files)"));
    }
    if image.part("volume descriptor", ISO_DESCRIPTORS, 6)?.get(1..) == Some(b"CD001") {
        found.push(Found::Known(Format::Iso));
    }
    let tail = image.part("last bytes", image.length.saturating_sub(SECTOR), SECTOR)?;
    if tail.starts_with(b"koly") {
        found.push(Found::Other("dmg"));
    }
    // Old versions of Virtual PC wrote a footer of 511 bytes. A dynamic image has a copy of the footer at its beginning.
    let has_footer =
        tail.len() as u64 == SECTOR && (tail.starts_with(b"conectix") || tail[1..].starts_with(b"conectix"));
    if has_footer && !found.contains(&Found::Known(Format::Vhd)) {
        found.push(Found::Known(Format::Vhd));
    }
    match found.as_slice() {
        [] => Ok(Format::Raw),
        [Found::Known(format)] => Ok(*format),
        [Found::Other(name)] => refuse(format!("its format is {name}, which is never accepted")),
        more => {
            let names: Vec<_> = more.iter().map(|found| found.name()).collect();
            refuse(format!("it has the signatures of {} formats: {}", names.len(), names.join(", ")))
        }
    }
}

/// Whether it begins like a VMDK descriptor: comments and blank lines, then the version.
fn is_vmdk_text(head: &[u8]) -> bool {
    if head.starts_with(b"# Disk DescriptorFile") {
        return true;
    }
    let lines = head.split(|byte| *byte == b'\n');
    let mut content = lines.map(<[u8]>::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    content.next().is_some_and(|line| line.starts_with(b"version="))
}
