//! The names in a directory, with as few system calls as there can be: a listing of a small directory is a part of each
//! reservation.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::{Errno, Result, retry_on_intr};

/// For a thousand names at once.
const BUFFER: usize = 32 << 10;

/// Iterates over the names, in no order, without `.` and `..`.
pub(super) struct Names<D> {
    /// An open file description whose offset nobody else uses meanwhile.
    directory: D,
    /// Has no elements, and a capacity.
    buffer: Vec<u8>,
    ready: VecDeque<OsString>,
    has_ended: bool,
}

impl<D: AsFd> Names<D> {
    /// From the description's offset on.
    pub fn new(directory: D) -> Result<Self> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(BUFFER).map_err(|_| Errno::NOMEM)?;
        Ok(Self { directory, buffer, ready: VecDeque::new(), has_ended: false })
    }

    /// All names of a directory that may have been listed with the same description before.
    pub fn again(directory: D) -> Result<Self> {
        seek(&directory, SeekFrom::Start(0))?;
        Self::new(directory)
    }

    /// Reads what one call returns.
    fn read(&mut self) -> Result<()> {
        let mut entries = RawDir::new(&self.directory, self.buffer.spare_capacity_mut());
        loop {
            // Only the first one makes a call, which a signal may interrupt.
            let entry = retry_on_intr(|| {
                let entry = entries.next().transpose()?;
                Ok(entry.map(|entry| name_of(entry.file_name().to_bytes())))
            });
            match entry {
                // The directory was removed.
                Ok(None) | Err(Errno::NOENT) => self.has_ended = true,
                Ok(Some(name)) => self.ready.extend(name),
                Err(errno) => {
                    self.has_ended = true;
                    return Err(errno);
                }
            }
            if self.has_ended || entries.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

impl<D: AsFd> Iterator for Names<D> {
    type Item = Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.has_ended {
            if let Err(errno) = self.read() {
                return Some(Err(errno));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

fn name_of(name: &[u8]) -> Option<OsString> {
    (!matches!(name, b"." | b"..")).then(|| OsStr::from_bytes(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn sorted(names: impl Iterator<Item = Result<OsString>>) -> Vec<OsString> {
        let mut names = names.collect::<Result<Vec<_>>>().unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_directory_of_many_buffers_is_listed_whole_again_and_again() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = File::open(scratch.path()).unwrap();
        let mut all = Vec::new();
        for count in [0, 1, 3000] {
            for number in all.len()..count {
                let name = format!("{number:0>40}");
                File::create(scratch.path().join(&name)).unwrap();
                all.push(OsString::from(name));
            }
            assert_eq!(sorted(Names::new(File::open(scratch.path()).unwrap()).unwrap()), all);
            assert_eq!(sorted(Names::again(&directory).unwrap()), all);
            // One that ended early.
            Names::again(&directory).unwrap().next();
        }
        std::fs::remove_dir_all(scratch.path()).unwrap();
        assert_eq!(sorted(Names::again(&directory).unwrap()), [""; 0]);
    }
}
