//! The directory of a new cache, and its owner. Both are made through descriptors, so that nobody can put another directory in its place.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, fchown, fstat, fsync, mkdirat, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::doctor::reading;
use crate::exit::{Exit, Failure};
use crate::trusted_path::{TrustedPath, failed as untrusted};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// `mkfs` creates it in the root of some file systems.
const LOST_AND_FOUND: &str = "lost+found";

/// Makes the directory of a cache, unless it exists, and gives it to its owner. Without an owner, the library makes it, but not for root.
pub fn make(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Failure> {
    let is_root = geteuid().is_root();
    // Who opens an existing one as whom is decided at the open.
    if owner.is_none() && (!is_root || path.symlink_metadata().is_ok()) {
        return Ok(());
    }
    let shown = path.display();
    let failed = |operation: &str, error: io::Error| Failure::io(&format!("{operation} '{shown}'"), &error);
    let whole = std::path::absolute(path).map_err(|error| failed("create the directory", error))?;
    let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
        return match owner {
            None => Ok(()),
            Some(_) => Err(Failure::usage(format!("the path '{shown}' does not end in the name of a directory"))),
        };
    };
    let parent: OwnedFd = if is_root {
        let trusted = TrustedPath::open(parent, owner.map_or(0, |(user, _)| user))?;
        let opened = trusted.check_keeps(0).and_then(|()| trusted.directory());
        let opened = opened.and_then(|directory| Ok(openat(directory, ".", DIRECTORY, Mode::empty())?));
        opened.map_err(|error| untrusted(path, &error))?
    } else {
        openat(CWD, parent, DIRECTORY, Mode::empty()).map_err(|errno| failed("create the directory", errno.into()))?
    };
    match mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) => fsync(&parent).map_err(|errno| failed("sync the parent of", errno.into()))?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed("create the directory", errno.into())),
    }
    let Some((user, group)) = owner else { return Ok(()) };
    let made = openat(&parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(|errno| {
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_link = stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        let link = || io::Error::other("it is a symbolic link, which is not followed");
        failed("open the directory", if is_link { link() } else { errno.into() })
    })?;
    give(&made, user, group).map_err(|why| match why {
        Refusal::Io(error) => failed("change the owner of the directory", error),
        Refusal::NotNew(why) => {
            Failure::new(Exit::Busy, format!("the directory '{shown}' {why}: its owner is not changed"))
        }
    })
}

enum Refusal {
    Io(io::Error),
    NotNew(String),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Changes the owner of an empty directory of the caller. That of another user, and one with files, is not given away.
fn give(directory: &OwnedFd, user: u32, group: u32) -> Result<(), Refusal> {
    let present = fstat(directory)?.st_uid;
    if present != user && present != geteuid().as_raw() {
        return Err(Refusal::NotNew(format!("belongs to user {present}")));
    }
    if reading::names(directory)?.iter().any(|name| name != LOST_AND_FOUND) {
        return if present == user { Ok(()) } else { Err(Refusal::NotNew("is not empty".to_owned())) };
    }
    Ok(fchown(directory, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?)
}
