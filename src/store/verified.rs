//! When an image was verified last, and the digest that it had then if its commit stored none. Both are in one attribute of its file:
//! nanoseconds since the Unix epoch, then a space and `algorithm:hex`, if there is a digest.

use std::fs::File;

use crate::digest::algorithm::is_well_formed;
use crate::store::attributes::{self, Attribute};
use crate::sys::time::Timestamp;

/// What a verification has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastVerified {
    pub at: Timestamp,
    pub digest: Option<String>,
}

impl LastVerified {
    /// `None` when the image was never verified, or when that is unknown.
    pub fn of(file: &File) -> Option<Self> {
        Self::parse(&attributes::get(file, Attribute::Verified).ok()??)
    }

    pub fn store(&self, file: &File) -> std::io::Result<()> {
        attributes::set(file, Attribute::Verified, &self.text())
    }

    /// Whether it was verified at `time` or later. A time in the future is from before the clock was set back, and does not count.
    pub fn is_since(&self, time: Timestamp) -> bool {
        (time..=Timestamp::now()).contains(&self.at)
    }

    fn text(&self) -> String {
        let at = self.at.as_nanoseconds();
        self.digest.as_ref().map_or_else(|| at.to_string(), |digest| format!("{at} {digest}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (at, digest) = text.split_once(' ').map_or((text, None), |(at, digest)| (at, Some(digest)));
        let digest = digest.filter(|digest| is_well_formed(digest)).map(str::to_owned);
        Some(Self { at: Timestamp::from_nanoseconds(at.parse().ok()?), digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_other_text_is_none() {
        let at = Timestamp::from_nanoseconds(1_764_000_000_123_456_789);
        for digest in [None, Some("crc64nvme:0123456789abcdef".to_owned())] {
            let verified = LastVerified { at, digest };
            assert_eq!(LastVerified::parse(&verified.text()), Some(verified));
        }
        let damaged = LastVerified::parse("5 crc64nvme:0123").unwrap();
        assert_eq!(damaged, LastVerified { at: Timestamp::from_nanoseconds(5), digest: None });
        assert!(["", " ", "x", "5x crc64nvme:0123456789abcdef"].iter().all(|text| LastVerified::parse(text).is_none()));
    }
}
