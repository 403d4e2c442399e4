//! The names in a directory, with as few system calls as there can be: a listing of a small directory is a part of each
//! reservation.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::RawDir;
use rustix::io::{Errno, Result, retry_on_intr};

/// For a thousand names at once.
const BUFFER: usize = 32 << 10;

/// Iterates over the names, in no order, without `.` and `..`.
pub(super) struct Names {
    /// An open file description of its own, which has an offset of its own.
    directory: OwnedFd,
    /// Has no elements, and a capacity.
    buffer: Vec<u8>,
    ready: VecDeque<OsString>,
    has_ended: bool,
}

impl Names {
    pub fn new(directory: OwnedFd) -> Result<Self> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(BUFFER).map_err(|_| Errno::NOMEM)?;
        Ok(Self { directory, buffer, ready: VecDeque::new(), has_ended: false })
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

impl Iterator for Names {
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
