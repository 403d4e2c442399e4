//! Holes of an image that is being cached, and blocks that it shares with a source.
//!
//! A hole is appended by a new length, and what was reserved there is freed. So the limit counts the blocks of the data only.
//!
//! A reflink within bounds goes range by range: room for the blocks is reserved, and the source's blocks take the place of those that the
//! reservation has allocated. So the file never has more blocks than were reserved, whatever happens to the source meanwhile.

use std::os::fd::BorrowedFd;

use crate::cache::incomplete::IncompleteFile;
use crate::error::{Error, Result};
use crate::sys::copy::{self, Errno};
use crate::sys::file;
use crate::sys::memory::ZEROS;
use crate::sys::stat::FileStat;

/// The unit in which zeros are found, in bytes.
const RUN: usize = ZEROS.len();

/// A part of a chunk.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Data(&'a [u8]),
    /// So many zeros.
    Zeros(usize),
}

/// Splits bytes that begin at an offset: units that are zeros, and the rest.
fn parts(offset: u64, mut data: &[u8]) -> impl Iterator<Item = Part<'_>> {
    // The bytes before the first unit.
    let before = usize::try_from(offset.next_multiple_of(RUN as u64) - offset).unwrap_or(RUN);
    let mut searched = before.min(data.len());
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let is_zeros = |at: usize| data.get(at..at + RUN).is_some_and(is_zero);
        if searched == 0 && is_zeros(0) {
            let mut length = RUN;
            while is_zeros(length) {
                length += RUN;
            }
            data = &data[length..];
            return Some(Part::Zeros(length));
        }
        while searched < data.len() && !is_zeros(searched) {
            searched += RUN;
        }
        let (part, rest) = data.split_at(searched.min(data.len()));
        (data, searched) = (rest, 0);
        Some(Part::Data(part))
    })
}

/// As a rule, the first bytes of a unit show that it has data.
fn is_zero(unit: &[u8]) -> bool {
    unit.first() == Some(&0) && unit == &ZEROS[..unit.len()]
}

impl IncompleteFile {
    /// Appends bytes, of which runs of zeros become holes.
    pub fn append_without_zeros(&mut self, data: &[u8]) -> Result<()> {
        parts(self.written, data).try_for_each(|part| match part {
            Part::Data(data) => self.append_data(data),
            Part::Zeros(length) => self.extend(length as u64),
        })
    }

    /// Appends a hole.
    pub fn append_hole(&mut self, length: u64) -> Result<()> {
        self.check_intact()?;
        self.beat();
        if length > 0 { self.extend(length) } else { Ok(()) }
    }

    /// Shows the others that the writer lives.
    pub fn beat(&self) {
        self.cache.lock.beat(self.file_id.inode);
    }

    fn extend(&mut self, length: u64) -> Result<()> {
        let (start, path) = (self.written, || self.path());
        let Some(end) = start.checked_add(length) else {
            return Err(Error::system("extend", &self.path(), Errno::FBIG));
        };
        let made = file::append_hole(&self.file, path, start, end);
        made.inspect_err(|error| self.free_space(error))?;
        self.written = end;
        if self.is_bounded {
            let block = self.cache.layout().space()?.block.max(1);
            self.holes += (end / block * block).saturating_sub(start.next_multiple_of(block));
            self.reserved = self.reserved.max(end);
        }
        self.start_writeback()
    }

    /// Makes the empty file share all blocks of a source. Returns false if that is impossible. The source may have changed its length.
    pub fn reflink(&mut self, source: BorrowedFd<'_>) -> Result<bool> {
        self.check_intact()?;
        self.beat();
        let shared = self.without_append(|file| copy::reflink(source, file))?;
        self.shared(shared, |size| size)
    }

    /// Appends a range of a source that has the file's present end as its beginning, by sharing its blocks. Returns false if that is
    /// impossible.
    pub fn reflink_range(&mut self, source: BorrowedFd<'_>, end: u64) -> Result<bool> {
        self.check_intact()?;
        self.beat();
        self.reserve(end)?;
        let start = self.written;
        let shared = self.without_append(|file| copy::reflink_range(source, file, start..end))?;
        self.shared(shared, |_| end)
    }

    fn shared(&mut self, shared: std::result::Result<(), Errno>, end: impl FnOnce(u64) -> u64) -> Result<bool> {
        let path = || self.path();
        match shared {
            Ok(()) => {
                self.written = end(FileStat::of(&self.file, path)?.size);
                self.check_intact()?;
                self.start_writeback()?;
                Ok(true)
            }
            Err(errno) if copy::is_unsupported(errno) => {
                // A part may be there.
                if FileStat::of(&self.file, path)?.size != self.written {
                    file::set_length(&self.file, path, self.written)?;
                    self.reserved = self.reserved.min(self.written);
                }
                Ok(false)
            }
            Err(errno) => {
                let error = Error::system("write", &self.path(), errno);
                self.free_space(&error);
                Err(error)
            }
        }
    }

    /// The kernel shares no blocks with a file that is open for appending.
    fn without_append<T>(&self, work: impl FnOnce(&std::fs::File) -> T) -> Result<T> {
        let failed = |errno| Error::system("open", &self.path(), errno);
        copy::set_appending(&self.file, false).map_err(failed)?;
        let result = work(&self.file);
        copy::set_appending(&self.file, true).map_err(failed)?;
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(offset: u64, data: &[u8]) -> Vec<(bool, usize)> {
        let found = parts(offset, data).map(|part| match part {
            Part::Data(data) => (true, data.len()),
            Part::Zeros(length) => (false, length),
        });
        found.collect()
    }

    #[test]
    fn zeros_are_found_in_whole_aligned_units_only() {
        let zeros = vec![0; 4 * RUN];
        assert_eq!(of(0, &zeros), [(false, 4 * RUN)]);
        assert_eq!(of(1, &zeros), [(true, RUN - 1), (false, 3 * RUN), (true, 1)]);
        assert_eq!(of(0, &zeros[..RUN - 1]), [(true, RUN - 1)]);
        assert_eq!(of(5, &zeros[..3]), [(true, 3)]);
        assert_eq!(of(0, &[]), []);
        let mut mixed = vec![0; 5 * RUN];
        (mixed[RUN + 7], mixed[2 * RUN + 9]) = (1, 1);
        assert_eq!(of(0, &mixed), [(false, RUN), (true, 2 * RUN), (false, 2 * RUN)]);
        assert_eq!(of(3 * RUN as u64, &mixed[..=3 * RUN]), [(false, RUN), (true, 2 * RUN + 1)]);
        let mut last = vec![1; 2 * RUN];
        last[RUN..].fill(0);
        last.push(0);
        assert_eq!(of(0, &last), [(true, RUN), (false, RUN), (true, 1)]);
    }
}
