//! Whether anybody has a file open: the kernel grants a write lease only if nobody has (`F_SETLEASE`, fcntl(2)).
//!
//! # Protocol
//!
//! A lease is granted exactly if no other open file description of the inode exists, in any process, for reading, writing or a
//! mapping, under any of its names. (`O_PATH` descriptors do not count.) So the holder knows that the file is unused. While the
//! lease is held:
//!
//! - Another open breaks it. With `O_NONBLOCK`, as this library opens, that open fails with `EAGAIN` at once. Else it waits until the
//!   lease is released. [`Lease::is_broken`] shows the holder that somebody wants the file.
//! - The holder dies: its descriptor closes, and the lease ends.
//! - The holder is stopped: opens fail with `EAGAIN`, or wait, until the kernel takes the lease away
//!   (`/proc/sys/fs/lease-break-time`, 45 s). `is_broken` is true then.
//! - The process is forked: the child has the descriptor. So a release is explicit, and not left to the close.
//!
//! # No signal
//!
//! Breaking a lease sends its owner SIGIO, whose default action ends the process. The owner is this thread while the lease is taken,
//! with SIGIO blocked. Then the descriptor gets no owner at all, so nothing is sent later. A signal that came in between is
//! consumed before SIGIO is unblocked. The signal has the descriptor's number (`F_SETSIG`), so it can be distinguished from
//! those of the host.
//!
//! # Unknown
//!
//! Only the file's owner and `CAP_LEASE` get a lease. Some file systems have none. Then a lock that another program has on the
//! file, as qemu does, shows that it is in use. Without one, it is unknown.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, ftruncate};
use rustix::io::{Errno, retry_on_intr};
use rustix::thread::gettid;

use crate::sys::descriptors::open_at;
use crate::sys::dir::{Directory, PLAIN};
use crate::sys::lock::is_any_locked;
use crate::sys::signals::SignalBlocked;
use crate::sys::stat::FileStat;

/// Whether a file is in use.
#[derive(Debug)]
pub(crate) enum Usage {
    /// Nobody has it open, and nobody can open it as long as the lease is held.
    Unused(Lease),
    InUse,
    /// It cannot be known.
    Unknown,
    /// There is no such file.
    Missing,
}

/// A write lease on a file that nobody else has open. It is released when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` once it was released.
    file: Option<OwnedFd>,
}

impl Usage {
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse)
    }
}

impl Lease {
    /// Asks for a lease. A symbolic link is not followed.
    pub fn take(directory: &Directory, name: &OsStr) -> Usage {
        Self::take_with(directory, name, OFlags::RDONLY)
    }

    /// The same, to write to the file if that is permitted.
    fn take_to_write(directory: &Directory, name: &OsStr) -> Usage {
        match Self::take_with(directory, name, OFlags::RDWR) {
            Usage::Unknown => Self::take(directory, name),
            usage => usage,
        }
    }

    fn take_with(directory: &Directory, name: &OsStr, mode: OFlags) -> Usage {
        let file = match open_at(directory, name, PLAIN | mode, Mode::empty()) {
            Ok(file) => file,
            // Another program has a lease.
            Err(Errno::AGAIN) => return Usage::InUse,
            Err(Errno::NOENT) => return Usage::Missing,
            Err(_) => return Usage::Unknown,
        };
        match take(&file) {
            Ok(()) => Usage::Unused(Self { file: Some(file) }),
            Err(Errno::AGAIN) => Usage::InUse,
            Err(_) if is_any_locked(&file).unwrap_or(false) => Usage::InUse,
            Err(_) => Usage::Unknown,
        }
    }

    /// The status of the leased file.
    pub fn stat(&self) -> Result<FileStat, Errno> {
        self.file.as_ref().map_or(Err(Errno::BADF), |file| fstat(file).map(FileStat::from))
    }

    /// Whether somebody has tried to open the file since, or the kernel has taken the lease away. False where that is unknown.
    pub fn is_broken(&self) -> bool {
        self.file.as_ref().is_some_and(|file| call(file, libc::F_GETLEASE, 0).is_ok_and(|kind| kind != libc::F_WRLCK))
    }

    /// Frees the bytes of a file that has one name, if it is open to write.
    fn empty(&self) {
        if let Some(file) = &self.file
            && fstat(file).is_ok_and(|stat| stat.st_nlink == 1)
        {
            let _ = ftruncate(file, 0);
        }
    }

    /// Releases the lease, and returns the file, which stays open.
    pub fn release(mut self) -> Option<OwnedFd> {
        self.file.take().inspect(release)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.file.as_ref().inspect(|file| release(file));
    }
}

/// A file that is no image's any more. Dropping this removes it, if nobody has it open, or that is unknown.
#[derive(Debug)]
pub(crate) struct RemovedWhenUnused {
    pub directory: Directory,
    pub name: OsString,
}

impl Drop for RemovedWhenUnused {
    fn drop(&mut self) {
        // If this fails, it stays, and is in sight.
        let _ = remove_unused(&self.directory, &self.name);
    }
}

/// Removes a file, unless anybody has it open. Its bytes are freed first, so that they have a name as long as they take up room on the
/// disk. False if it stays.
pub(crate) fn remove_unused(directory: &Directory, name: &OsStr) -> crate::error::Result<bool> {
    let usage = Lease::take_to_write(directory, name);
    if let Usage::Unused(lease) = &usage {
        lease.empty();
    }
    if usage.is_in_use() { Ok(false) } else { directory.remove(name) }
}

fn take(file: &OwnedFd) -> Result<(), Errno> {
    call(file, SET_SIGNAL, libc::SIGIO)?;
    set_owner(file, gettid().as_raw_nonzero().get())?;
    let _blocked = SignalBlocked::new(libc::SIGIO, Some(file.as_raw_fd()));
    call(file, libc::F_SETLEASE, libc::F_WRLCK)?;
    // From here on, nobody gets a signal. What is being sent is sent when the call returns.
    set_owner(file, 0).inspect_err(|_| release(file))
}

fn release(file: &OwnedFd) {
    // It fails when the kernel has taken the lease away.
    let _ = call(file, libc::F_SETLEASE, libc::F_UNLCK);
}

/// The thread to which the kernel sends a file's signals; 0 for none.
#[repr(C)]
struct Owner {
    kind: libc::c_int,
    id: libc::pid_t,
}

#[allow(unsafe_code, reason = "rustix has no such call")]
fn set_owner(file: &OwnedFd, thread: libc::pid_t) -> Result<(), Errno> {
    const THREAD: libc::c_int = 0; // F_OWNER_TID
    let owner = Owner { kind: THREAD, id: thread };
    // SAFETY: the descriptor is open, and the pointer is valid, for as long as the call takes.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), SET_OWNER, &raw const owner) }).map(drop)
}

/// `F_SETSIG`, which the libc crate lacks.
const SET_SIGNAL: libc::c_int = 10;

/// `F_SETOWN_EX`, which it lacks for some C libraries.
const SET_OWNER: libc::c_int = 15;

#[allow(unsafe_code, reason = "rustix has no such call")]
fn call(file: impl AsFd, command: libc::c_int, argument: libc::c_int) -> Result<libc::c_int, Errno> {
    let file = file.as_fd();
    // SAFETY: the descriptor is open for as long as the call takes, whose argument is a number.
    retry_on_intr(|| checked(unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }))
}

fn checked(result: libc::c_int) -> Result<libc::c_int, Errno> {
    if result >= 0 {
        return Ok(result);
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;

    use super::*;

    const NAME: &str = "file";

    fn directory() -> (tempfile::TempDir, Directory) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(NAME), "bytes").unwrap();
        let directory = Directory::open(scratch.path()).unwrap();
        (scratch, directory)
    }

    fn look(directory: &Directory) -> Usage {
        Lease::take(directory, OsStr::new(NAME))
    }

    fn open_now(path: &Path) -> Result<OwnedFd, Errno> {
        rustix::fs::open(path, PLAIN | OFlags::RDONLY, Mode::empty())
    }

    #[test]
    fn a_file_is_in_use_as_long_as_it_is_open_under_any_name() {
        let (scratch, directory) = directory();
        assert!(matches!(look(&directory), Usage::Unused(_)));
        let other_name = scratch.path().join("other");
        std::fs::hard_link(scratch.path().join(NAME), &other_name).unwrap();
        let reader = File::open(scratch.path().join(NAME)).unwrap();
        assert!(matches!(look(&directory), Usage::InUse));
        drop(reader);
        assert!(matches!(look(&directory), Usage::Unused(_)));
        let writer = File::options().append(true).open(other_name).unwrap();
        assert!(matches!(look(&directory), Usage::InUse));
        drop(writer);
        let _path = directory.hold(OsStr::new(NAME)).unwrap();
        assert!(matches!(look(&directory), Usage::Unused(_)), "an O_PATH descriptor is no use");
    }

    #[test]
    fn a_lease_keeps_opens_out_and_shows_that_there_was_one() {
        let (scratch, directory) = directory();
        let path = scratch.path().join(NAME);
        let Usage::Unused(lease) = look(&directory) else { panic!("in use") };
        assert!(!lease.is_broken());
        assert_eq!(open_now(&path).unwrap_err(), Errno::AGAIN);
        assert!(lease.is_broken());
        assert!(matches!(look(&directory), Usage::InUse), "somebody else's lease");
        assert!(directory.open_file(OsStr::new(NAME)).unwrap_err().is_leased());
        let file = lease.release().unwrap();
        assert!(matches!(look(&directory), Usage::InUse), "the file stays open");
        open_now(&path).unwrap();
        drop(file);
        assert!(matches!(look(&directory), Usage::Unused(_)));
        std::fs::remove_file(path).unwrap();
        assert!(matches!(look(&directory), Usage::Missing));
    }

    #[test]
    fn what_is_no_regular_file_is_unknown() {
        let (scratch, directory) = directory();
        std::os::unix::fs::symlink(NAME, scratch.path().join("link")).unwrap();
        std::fs::create_dir(scratch.path().join("directory")).unwrap();
        for name in ["link", "directory"] {
            assert!(matches!(Lease::take(&directory, OsStr::new(name)), Usage::Unknown), "{name}");
        }
    }
}
