//! A file outside of the cache that the caller names and a command writes: `--textfile`, `--history`, `--html`.
//!
//! - Its directory is opened once, and all that follows is relative to it. Nobody can swap the directory in between.
//! - The directory is not the cache's, nor below it. A file that is there is regular, is no symbolic link, and has one name: it is no file
//!   of the cache.
//! - Root writes with the rights of the user that the directory belongs to. So root does nothing there that this user could not do, and
//!   the user's own runs can write the file, too. No other user owns a directory above it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::exit::Failure;
use crate::open::Context;
use crate::owner::as_user;

/// Directories in the cache: a bind mount may show one of them elsewhere.
const IN_THE_CACHE: [&str; 4] = ["incomplete", "invalid", "queue", ".image_cache"];

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the target, and does something with it, with the rights of the caller. Root's are those of the directory's owner.
pub fn write<T>(
    context: &Context,
    path: &Path,
    operation: &str,
    work: impl FnOnce(&Target) -> io::Result<T>,
) -> Result<T, Failure> {
    let cache = &context.settings()?.directory;
    let failed = |error: io::Error| Failure::io(&format!("{operation} '{}'", path.display()), &error);
    context.as_caller(|| {
        let target = Target::open(path, cache).map_err(failed)?;
        as_user(target.user, target.group, || work(&target))?.map_err(failed)
    })?
}

/// A name in an open directory.
#[derive(Debug)]
pub struct Target {
    directory: OwnedFd,
    name: OsString,
    /// Those of the directory.
    user: u32,
    group: u32,
}

impl Target {
    /// Opens the directory of a file. Fails if it is that of a cache, or below it.
    pub fn open(path: &Path, cache: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it is a directory"))?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = fs::openat(CWD, parent, DIRECTORY, Mode::empty())?;
        check_outside(&directory, cache)?;
        let stat = fs::fstat(&directory)?;
        check_path(parent, stat.st_uid)?;
        Ok(Self { directory, name, user: stat.st_uid, group: stat.st_gid })
    }

    /// Replaces the file by one rename. Readers see the old one or the new one, never a part.
    pub fn replace(&self, text: &[u8]) -> io::Result<()> {
        self.check()?;
        let mut new = self.begin()?;
        new.file.write_all(text)?;
        new.file.set_permissions(Permissions::from_mode(0o644))?;
        new.finish()
    }

    /// Opens the file to append to it. One that is made is readable by its user and group only.
    pub fn open_to_append(&self) -> io::Result<File> {
        self.check()?;
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        // Another file may have got the name since the check.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(fs::openat(&self.directory, &self.name, flags, Mode::from_raw_mode(0o640))?);
        let stat = fs::fstat(&file)?;
        accept(&stat)?;
        if nix::unistd::geteuid().is_root() && stat.st_uid != 0 {
            return Err(io::Error::other(format!("the file belongs to another user, {}", stat.st_uid)));
        }
        Ok(file)
    }

    /// Whether an open file still has the name.
    pub fn is(&self, file: &File) -> bool {
        let (own, present) = (fs::fstat(file), self.stat());
        matches!((own, present), (Ok(own), Ok(present)) if id(&own) == id(&present))
    }

    /// A new file without the name. Only the user can read it.
    pub fn begin(&self) -> io::Result<New<'_>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Not a name that ends in .prom, which node_exporter would read.
        let name = format!(".image-cache-{}-{time}-{number}.new", std::process::id()).into();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(fs::openat(&self.directory, &name, flags, Mode::from_raw_mode(0o600))?);
        Ok(New { target: self, name, file })
    }

    /// Fails if something has the name that may not be written.
    fn check(&self) -> io::Result<()> {
        match self.stat() {
            Err(Errno::NOENT) => Ok(()),
            stat => accept(&stat?),
        }
    }

    fn stat(&self) -> Result<Stat, Errno> {
        fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// A file that is to replace the target. Without a [`Self::finish`], it is removed.
#[derive(Debug)]
pub struct New<'a> {
    target: &'a Target,
    name: OsString,
    /// The file.
    pub file: File,
}

impl New<'_> {
    /// Gives it the name of the target.
    pub fn finish(mut self) -> io::Result<()> {
        let directory = &self.target.directory;
        fs::renameat(directory, &self.name, directory, &self.target.name)?;
        self.name.clear();
        Ok(())
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        if self.name != OsStr::new("") {
            // If this fails, a hidden file stays.
            let _ = fs::unlinkat(&self.target.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Root follows a path only if no other user than the directory's can lead it elsewhere, by a link.
fn check_path(directory: &Path, user: u32) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    for above in directory.ancestors() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let other = fs::stat(above)?.st_uid;
        if other != 0 && other != user {
            let above = above.display();
            return Err(io::Error::other(format!("user {other}, who owns '{above}', does not own the directory")));
        }
    }
    Ok(())
}

fn accept(stat: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink <= 1 => Ok(()),
        FileType::RegularFile => Err(io::Error::other("the file has another name (a hard link), and is not written")),
        FileType::Symlink => Err(io::Error::other("it is a symbolic link, and not a regular file")),
        _ => Err(io::Error::other("it is not a regular file, and is not replaced")),
    }
}

fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Goes up from a directory. Ids are compared, not paths.
fn check_outside(directory: &OwnedFd, cache: &Path) -> io::Result<()> {
    let mut own = vec![id(&fs::stat(cache)?)];
    own.extend(IN_THE_CACHE.iter().filter_map(|name| fs::stat(cache.join(name)).ok()).map(|stat| id(&stat)));
    let mut present = directory.try_clone()?;
    loop {
        let at = id(&fs::fstat(&present)?);
        if own.contains(&at) {
            return Err(io::Error::other("it is in the cache's directory"));
        }
        // A user who may not go up further could not have opened a cache there.
        let Ok(up) = fs::openat(&present, "..", DIRECTORY, Mode::empty()) else { return Ok(()) };
        if id(&fs::fstat(&up)?) == at {
            return Ok(());
        }
        present = up;
    }
}
