//! The inspection: find the format, and check it.

use crate::format::kinds::{Format, Formats};
use crate::format::probe::probe;
use crate::format::reading::{Checked, Image, Source, refuse};
use crate::format::{iso, qcow2, vhd, vhdx, vmdk};

/// Fails unless the image has one of these formats, and is safe.
pub(crate) fn inspect(source: &dyn Source, accepted: Formats) -> Checked<()> {
    let image = Image::new(source);
    let format = probe(&image)?;
    if !accepted.accepts(format) {
        return refuse(format!("its format is {}, which is not accepted", format.name()));
    }
    match format {
        // Its bytes are the disk's: there is nothing that a program could follow.
        Format::Raw => Ok(()),
        Format::Qcow2 => qcow2::check(&image),
        Format::Vmdk => vmdk::check(&image),
        Format::Vhd => vhd::check(&image),
        Format::Vhdx => vhdx::check(&image),
        Format::Iso => iso::check(&image),
    }
}
