//! The formats that an inspection accepts, by name.

use crate::error::{Error, Result};

/// A format that can be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Iso,
}

const NAMES: [(Format, &str); 6] = [
    (Format::Raw, "raw"),
    (Format::Qcow2, "qcow2"),
    (Format::Vmdk, "vmdk"),
    (Format::Vhd, "vhd"),
    (Format::Vhdx, "vhdx"),
    (Format::Iso, "iso"),
];

impl Format {
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(format, _)| *format == self).map_or("unknown", |(_, name)| name)
    }
}

/// The formats that are accepted: bit n stands for the nth of `NAMES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Formats(u8);

impl Formats {
    /// Parses names that commas separate.
    pub fn parse(text: &str) -> Result<Self> {
        let mut accepted = 0;
        for name in text.split(',').map(str::trim) {
            let Some(place) = NAMES.iter().position(|(_, known)| *known == name) else {
                let known = NAMES.map(|(_, name)| name).join(", ");
                return Err(Error::InvalidArgument(format!("'{name}' is no format: they are {known}")));
            };
            accepted |= 1 << place;
        }
        Ok(Self(accepted))
    }

    pub fn accepts(self, format: Format) -> bool {
        NAMES.iter().position(|(known, _)| *known == format).is_some_and(|place| self.0 & (1 << place) != 0)
    }
}
