//! The path to a directory in which root works. Nobody but root, and the future owner of the directory, may be able to replace a part of it.
//!
//! A user who may rename a directory of the path could replace it by a symbolic link, and root would work in a directory that the user chose.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::exit::Failure;

const FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Others than root and the owner may write.
const WRITABLE: u32 = 0o022;
/// Only the owner of an entry may rename it.
const STICKY: u32 = 0o1000;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A directory that was opened name by name from the root directory.
#[derive(Debug)]
pub struct TrustedPath {
    /// The directories on the way; never empty.
    opened: Vec<(OwnedFd, Stat)>,
    /// Their names, without the root directory's.
    names: Vec<OsString>,
    /// The user who is trusted beside root.
    trusted: u32,
    links: usize,
}

impl TrustedPath {
    /// Opens a directory. Fails if a user other than root and `trusted` may replace a part of the path, or if that user chose the target of
    /// a link.
    pub fn open(path: &Path, trusted: u32) -> Result<Self, Failure> {
        let walk = || {
            let mut opened = Self { opened: Vec::new(), names: Vec::new(), trusted, links: 0 };
            opened.start()?;
            opened.follow(&std::path::absolute(path)?)?;
            Ok(opened)
        };
        walk().map_err(|error| failed(path, &error))
    }

    /// The path, without links.
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(&self.names);
        path
    }

    /// The directory, as `O_PATH`.
    pub fn directory(&self) -> io::Result<BorrowedFd<'_>> {
        self.last().map(|(descriptor, _)| descriptor.as_fd())
    }

    /// The user whose directory it is.
    pub fn owner(&self) -> io::Result<u32> {
        self.last().map(|(_, stat)| stat.st_uid)
    }

    /// Fails if a user who is not trusted may replace an entry that belongs to `owner`.
    pub fn check_keeps(&self, owner: u32) -> io::Result<()> {
        let (_, stat) = self.last()?;
        if keeps(stat, owner, self.trusted) {
            return Ok(());
        }
        let path = self.path();
        let (shown, user) = (path.display(), stat.st_uid);
        Err(io::Error::other(if user == 0 || user == self.trusted {
            format!("users other than its owner can write the directory '{shown}'")
        } else {
            format!("the directory '{shown}' belongs to user {user}")
        }))
    }

    fn start(&mut self) -> io::Result<()> {
        let root = openat(CWD, "/", FLAGS, Mode::empty())?;
        let stat = fstat(&root)?;
        self.opened = vec![(root, stat)];
        self.names.clear();
        Ok(())
    }

    fn last(&self) -> io::Result<&(OwnedFd, Stat)> {
        self.opened.last().ok_or_else(|| Errno::NOENT.into())
    }

    /// Goes on from the present directory.
    fn follow(&mut self, path: &Path) -> io::Result<()> {
        for component in path.components() {
            match component {
                Component::RootDir => self.start()?,
                Component::Normal(name) => self.enter(name)?,
                Component::ParentDir if self.names.pop().is_some() => drop(self.opened.pop()),
                Component::ParentDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let (directory, stat) = self.last()?;
        let entry = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.check_keeps(entry.st_uid)?;
        if FileType::from_raw_mode(entry.st_mode) == FileType::Symlink {
            let link = self.path().join(name);
            if !keeps(stat, entry.st_uid, 0) {
                return Err(io::Error::other(format!("'{}' is a symbolic link that is not root's", link.display())));
            }
            let target = OsString::from_vec(readlinkat(directory, name, Vec::new())?.into_bytes());
            self.links += 1;
            if self.links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            return self.follow(Path::new(&target));
        }
        let entered = openat(directory, name, FLAGS, Mode::empty())?;
        let stat = fstat(&entered)?;
        self.opened.push((entered, stat));
        self.names.push(name.to_owned());
        Ok(())
    }
}

/// The failure for a path.
pub fn failed(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::io(&format!("work as root in '{}'", path.display()), error);
    match error.kind() {
        io::ErrorKind::Other => {
            failure.hint("Only root may be able to rename a directory in which root works, and those above it.")
        }
        _ => failure,
    }
}

/// Whether only root and a trusted user may rename an entry of the directory.
fn keeps(directory: &Stat, owner_of_entry: u32, trusted: u32) -> bool {
    let is_trusted = |user: u32| user == 0 || user == trusted;
    let is_private = directory.st_mode & WRITABLE == 0;
    let is_sticky = directory.st_mode & STICKY != 0 && is_trusted(owner_of_entry);
    is_trusted(directory.st_uid) && (is_private || is_sticky)
}
