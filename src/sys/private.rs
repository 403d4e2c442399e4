//! Files that only users who may write them may read.
//!
//! A shared lock of a user who may only read would block every exclusive lock.

use std::ffi::OsStr;
use std::os::fd::AsRawFd as _;

use rustix::fs::{AtFlags, CWD, Mode, chmodat, fstat};

use crate::error::{Error, Result};
use crate::sys::dir::Directory;

/// Takes from a file the right to read of those who may not write it. Fails where only the owner may do so.
///
/// The file is not opened for that: closing it would release the POSIX locks that this process has on it.
pub(crate) fn make_private(directory: &Directory, name: &OsStr) -> Result<()> {
    let Some(held) = directory.hold(name)? else { return Ok(()) };
    let failed = |errno| Error::system("set the mode of", &directory.path_of(name), errno);
    let mode = Mode::from_raw_mode(fstat(&held).map_err(failed)?.st_mode);
    let private = without_only_readers(mode);
    if private == mode {
        return Ok(());
    }
    // A thread can have descriptors of its own.
    let path = format!("/proc/thread-self/fd/{}", held.as_raw_fd());
    chmodat(CWD, path, private, AtFlags::empty()).map_err(failed)
}

fn without_only_readers(mode: Mode) -> Mode {
    let only_reading = |read, write| if mode.contains(write) { Mode::empty() } else { read };
    mode - only_reading(Mode::RGRP, Mode::WGRP) - only_reading(Mode::ROTH, Mode::WOTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_is_taken_away() {
        let modes = [(0o644, 0o600), (0o664, 0o660), (0o666, 0o666), (0o646, 0o606), (0o600, 0o600), (0o620, 0o620)];
        for (mode, private) in modes {
            assert_eq!(without_only_readers(Mode::from_raw_mode(mode)).as_raw_mode(), private, "{mode:o}");
        }
    }
}
