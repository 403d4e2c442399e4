//! The content of a stream's record (see `stream_record`), and its format. All numbers are little-endian.

use crate::digest::algorithm::Algorithm;
use crate::store::layout::{Area, Layout};
use crate::store::unsynced_mark;
use crate::sys::stat::StatAndBirth;
use crate::sys::time::Timestamp;

const MAGIC: u64 = u64::from_le_bytes(*b"stream02");

/// A number that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The number of 64-bit numbers before the texts.
const NUMBERS: usize = 11;
pub(super) const VERDICT_AT: usize = NUMBERS * 8;
pub(super) const TEXTS_AT: usize = VERDICT_AT + 8;
/// The longest text is a SHA-512 digest, `sha512:` and 128 digits.
const TEXT: usize = 144;
/// The place, one digest of each algorithm, the digest of the bytes that is wrong.
const TEXTS: usize = 6;
pub(super) const LENGTH: usize = TEXTS_AT + TEXTS * TEXT;

/// What a verification has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The bytes meet all expectations.
    Right,
    /// They have this digest in place of the expected one of the same algorithm.
    Wrong(Algorithm, String),
}

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    inode: u64,
    born: i64,
    /// The mode that the file gets when it is published.
    pub mode: u32,
    /// The process that appended last, or began. For messages.
    pub process: u32,
    /// When the fetch began, or was resumed.
    pub since: Timestamp,
    /// The number of the present turn. It advances when a turn is taken over from a source that hangs.
    pub turn: u64,
    /// The expected size, in bytes.
    pub size: Option<u64>,
    /// The length, in bytes, once the end was reached.
    pub length: Option<u64>,
    /// So many bytes are on the disk, and survive a restart of the host.
    pub synced: u64,
    /// The boot of the host and the mount in which the bytes were appended; empty if unknown.
    place: String,
    pub digests: Vec<(Algorithm, String)>,
    pub verdict: Option<Verdict>,
}

/// What participants look at again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// See [`Facts`].
    pub turn: u64,
    pub size: Option<u64>,
    pub length: Option<u64>,
    /// The process that appended last.
    pub process: u64,
    /// How many digests are expected. None is removed.
    pub digests: u64,
    pub has_verdict: bool,
}

impl Progress {
    /// The length of the complete file, in bytes, if it is known.
    pub fn complete_length(&self) -> Option<u64> {
        self.length.or(self.size)
    }

    pub(super) fn from_bytes(bytes: &[u8; TEXTS_AT]) -> Option<Self> {
        let mut numbers = [0; NUMBERS];
        for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        let [magic, _, _, _, process, _, turn, size, length, _, digests] = numbers;
        let has_verdict = bytes[VERDICT_AT] != 0;
        (magic == MAGIC).then_some(Self {
            turn,
            size: known(size),
            length: known(length),
            process,
            digests,
            has_verdict,
        })
    }
}

fn known(number: u64) -> Option<u64> {
    (number != UNKNOWN).then_some(number)
}

impl Facts {
    /// Of a new fetch into that file.
    pub fn new(layout: &Layout, file: &StatAndBirth, mode: u32) -> Self {
        Self {
            inode: file.stat.id.inode,
            born: born(file),
            mode,
            process: std::process::id(),
            since: Timestamp::now(),
            turn: 0,
            size: None,
            length: None,
            synced: 0,
            place: place(layout),
            digests: Vec::new(),
            verdict: None,
        }
    }

    /// Whether the record belongs to this file.
    pub fn is_of(&self, file: &StatAndBirth) -> bool {
        (self.inode, self.born) == (file.stat.id.inode, born(file))
    }

    /// How much of a file that nobody writes now is valid, in bytes. Everything if neither the host was restarted nor the cache mounted
    /// again.
    pub fn valid(&self, layout: &Layout, size: u64) -> u64 {
        if self.is_of_present_place(layout) { size } else { size.min(self.synced) }
    }

    /// Whether the bytes were appended in the present boot of the host and mount.
    pub fn is_of_present_place(&self, layout: &Layout) -> bool {
        !self.place.is_empty() && place(layout) == self.place
    }

    /// This process resumes the fetch, in the present boot.
    pub fn resume(&mut self, layout: &Layout) {
        self.process = std::process::id();
        self.since = Timestamp::now();
        self.place = place(layout);
    }

    pub(super) fn to_bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let numbers: [u64; NUMBERS] = [
            MAGIC,
            self.inode,
            self.born.cast_unsigned(),
            self.mode.into(),
            self.process.into(),
            self.since.as_nanoseconds().cast_unsigned(),
            self.turn,
            self.size.unwrap_or(UNKNOWN),
            self.length.unwrap_or(UNKNOWN),
            self.synced,
            self.digests.len() as u64,
        ];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let wrong = match &self.verdict {
            Some(Verdict::Wrong(algorithm, actual)) => format!("{}:{actual}", algorithm.name()),
            _ => String::new(),
        };
        bytes[VERDICT_AT] = match &self.verdict {
            None => 0,
            Some(Verdict::Right) => 1,
            Some(Verdict::Wrong(..)) => 2,
        };
        let digests = self.digests.iter().map(|(algorithm, hex)| format!("{}:{hex}", algorithm.name()));
        let digests = digests.chain(std::iter::repeat(String::new())).take(TEXTS - 2);
        let texts = std::iter::once(self.place.clone()).chain(digests).chain([wrong]);
        for (place, text) in bytes[TEXTS_AT..].chunks_exact_mut(TEXT).zip(texts) {
            let length = text.len().min(TEXT);
            place[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, texts) = bytes.get(..LENGTH)?.split_at(TEXTS_AT);
        let mut numbers = numbers.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let mut next = || numbers.next();
        if next()? != MAGIC {
            return None;
        }
        let (inode, born, mode, process, since) = (next()?, next()?, next()?, next()?, next()?);
        let (turn, size, length, synced) = (next()?, next()?, next()?, next()?);
        let mut texts = texts.chunks_exact(TEXT).map(|text| {
            let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            String::from_utf8_lossy(&text[..length]).into_owned()
        });
        let place = texts.next()?;
        let mut digests = Vec::new();
        for text in texts.by_ref().take(TEXTS - 2).filter(|text| !text.is_empty()) {
            digests.push(digest(&text)?);
        }
        let verdict = match bytes[VERDICT_AT] {
            0 => None,
            1 => Some(Verdict::Right),
            _ => digest(&texts.next()?).map(|(algorithm, actual)| Verdict::Wrong(algorithm, actual)),
        };
        Some(Self {
            inode,
            born: born.cast_signed(),
            mode: u32::try_from(mode).ok()?,
            process: u32::try_from(process).ok()?,
            since: Timestamp::from_nanoseconds(since.cast_signed()),
            turn,
            size: known(size),
            length: known(length),
            synced,
            place,
            digests,
            verdict,
        })
    }
}

fn place(layout: &Layout) -> String {
    unsynced_mark::present(layout.directory(Area::Cached)).unwrap_or_default()
}

fn born(file: &StatAndBirth) -> i64 {
    file.born.map_or(0, Timestamp::as_nanoseconds)
}

fn digest(text: &str) -> Option<(Algorithm, String)> {
    let (name, hex) = text.split_once(':')?;
    let algorithm = Algorithm::from_name(name).ok()?;
    Some((algorithm, algorithm.normalise(hex).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat::{FileId, FileStat};

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let stat = FileStat {
            id: FileId { device: 1, inode: 7 },
            is_regular: true,
            links: 1,
            permissions: 0o644,
            size: 0,
            allocated: 0,
            accessed: Timestamp::now(),
            modified: Timestamp::now(),
            changed: Timestamp::now(),
        };
        let file = StatAndBirth { stat, born: Some(Timestamp::now()) };
        let scratch = tempfile::tempdir().unwrap();
        let layout = Layout::open(&scratch.path().join("cache"), []).unwrap();
        let mut facts = Facts::new(&layout, &file, 0o644);
        assert!(facts.is_of(&file));
        for verdict in [None, Some(Verdict::Right), Some(Verdict::Wrong(Algorithm::Md5, "0".repeat(32)))] {
            assert_eq!(Facts::from_bytes(&facts.to_bytes()).as_ref(), Some(&facts));
            let algorithms = [(Algorithm::Sha512, 128), (Algorithm::Md5, 32), (Algorithm::Sha256, 64)];
            facts.digests = algorithms.map(|(algorithm, length)| (algorithm, "a".repeat(length))).to_vec();
            (facts.size, facts.length, facts.turn, facts.verdict) = (Some(5), Some(0), 3, verdict);
        }
        assert_eq!(Facts::from_bytes(&facts.to_bytes()), Some(facts.clone()));
        assert_eq!(Facts::from_bytes(&facts.to_bytes()[1..]), None);
        assert_eq!(facts.valid(&layout, 9), 9);
        facts.place = "another".to_owned();
        assert_eq!(facts.valid(&layout, 9), 0);
    }
}
