//! A directory by descriptor. Names are looked up in it alone and no symbolic link is ever followed, so that whoever moves
//! or replaces something on the way to it changes nothing.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, StatxFlags, accessat, fstat, fstatvfs, fsync,
    ftruncate, futimens, mkdirat, openat, renameat, renameat_with, statat, statx, unlinkat, utimensat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};

use crate::error::{Error, Result};
use crate::system::time::Timestamp;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::RDONLY);
/// Never through a symbolic link, and never waiting for the other end of a fifo.
const PLAIN: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// An open directory, with its path for messages.
#[derive(Debug)]
pub(crate) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

/// Which file it is, whatever its name: no two files that exist at the same time share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The numbers that it is made of: of the file system, and of the file in it.
    pub fn numbers(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// What the file system says of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub identity: Identity,
    /// Whether it is a regular file, not a directory, symbolic link, fifo, socket or device.
    pub is_regular: bool,
    /// Bytes.
    pub size: u64,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    /// When its size, times or attributes were changed, but not by a read that was noted as an access.
    pub changed: Timestamp,
    /// How many names it has; 0 once it was removed.
    pub links: u64,
}

impl Facts {
    /// The facts of an open file.
    pub fn of(file: &File, path: &Path) -> Result<Self> {
        fstat(file).map(Self::from).map_err(|errno| Error::system("examine", path, errno))
    }
}

/// What tells that a file was removed, truncated or written to by others: how many names it has, and how many bytes.
///
/// Asked before each chunk, and so without its times: a file whose modification time was asked for gets a more exact one at the
/// next write, which costs the file system a change of the inode (Linux 6.13 and later).
pub(crate) fn links_and_size(file: &File) -> std::result::Result<(u64, u64), Errno> {
    match statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::NLINK | StatxFlags::SIZE) {
        Ok(status) => Ok((status.stx_nlink.into(), status.stx_size)),
        // A kernel without the call, or a sandbox that does not know it.
        Err(Errno::NOSYS | Errno::PERM) => fstat(file).map(Facts::from).map(|facts| (facts.links, facts.size)),
        Err(errno) => Err(errno),
    }
}

// The types of these fields differ between architectures.
#[allow(clippy::useless_conversion, clippy::cast_lossless, clippy::unnecessary_cast)]
impl From<Stat> for Facts {
    fn from(stat: Stat) -> Self {
        Self {
            identity: Identity { device: stat.st_dev, inode: stat.st_ino },
            is_regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            accessed: Timestamp::from_parts(stat.st_atime, stat.st_atime_nsec),
            modified: Timestamp::from_parts(stat.st_mtime, stat.st_mtime_nsec),
            changed: Timestamp::from_parts(stat.st_ctime, stat.st_ctime_nsec),
            links: stat.st_nlink as u64,
        }
    }
}

impl Directory {
    /// Opens a directory by its path, following symbolic links: it is the caller's own.
    pub fn open(path: &Path) -> Result<Self> {
        retry_on_intr(|| openat(rustix::fs::CWD, path, DIRECTORY, Mode::empty()))
            .map(|descriptor| Self { descriptor, path: path.to_owned() })
            .map_err(|errno| Error::system("open the directory", path, errno))
    }

    /// Opens a folder of this directory, creating it when there is none; true when it was created.
    pub fn open_or_create(&self, name: &str) -> Result<(Self, bool)> {
        let path = self.path.join(name);
        let created = match mkdirat(&self.descriptor, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            // A file system that is mounted read-only may say so even where the folder is.
            Err(Errno::ROFS) if self.examine(OsStr::new(name))?.is_some() => false,
            Err(errno) => return Err(Error::system("create the directory", &path, errno)),
        };
        match retry_on_intr(|| openat(&self.descriptor, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())) {
            Ok(descriptor) => Ok((Self { descriptor, path }, created)),
            Err(errno) => Err(Error::system("open the directory", &path, errno)),
        }
    }

    /// Another descriptor of the same directory, with an open file description of its own.
    pub fn reopen(&self) -> Result<OwnedFd> {
        retry_on_intr(|| openat(&self.descriptor, c".", DIRECTORY, Mode::empty()))
            .map_err(|errno| Error::system("open the directory", &self.path, errno))
    }

    /// Where the directory was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `name` is in it, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Creates a file that was not there, for reading and for appending; `None` when the name is taken.
    ///
    /// Appending, not writing at an offset: should anybody truncate the file, what follows makes it too short, and not
    /// a file of the right length with a hole.
    pub fn create(&self, name: &OsStr) -> Result<Option<File>> {
        let flags = PLAIN | OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::APPEND;
        match retry_on_intr(|| openat(&self.descriptor, name, flags, Mode::from_raw_mode(0o666))) {
            Ok(descriptor) => above_standard(descriptor).map(Some).map_err(|errno| self.failed("create", name, errno)),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(self.failed("create", name, errno)),
        }
    }

    /// Opens an existing file for reading, without the kernel noting the reads as accesses where it lets us;
    /// `None` when there is nothing, or something that a reader must not follow or cannot open.
    pub fn open_file(&self, name: &OsStr) -> Result<Option<File>> {
        let open =
            |flags| retry_on_intr(|| openat(&self.descriptor, name, PLAIN | OFlags::RDONLY | flags, Mode::empty()));
        // Only the owner may leave the access time alone.
        let opened = match open(OFlags::NOATIME) {
            Err(Errno::PERM) => open(OFlags::empty()),
            opened => opened,
        };
        match opened {
            Ok(descriptor) => Ok(Some(File::from(descriptor))),
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    /// Takes all bytes from a file, if there is one.
    pub fn truncate(&self, name: &OsStr) -> Result<()> {
        match openat(&self.descriptor, name, PLAIN | OFlags::WRONLY, Mode::empty()) {
            Ok(file) => ftruncate(&file, 0).map_err(|errno| self.failed("empty", name, errno)),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    /// Keeps the file that has a name from being freed when the name goes; `None` when there is none, or no descriptor.
    pub fn hold(&self, name: &OsStr) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match retry_on_intr(|| openat(&self.descriptor, name, flags, Mode::empty())) {
            Ok(descriptor) => Ok(Some(descriptor)),
            // Then its bytes are freed at once: removing goes before speed.
            Err(Errno::NOENT | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => Ok(None),
            Err(errno) => Err(self.failed("open", name, errno)),
        }
    }

    /// What stands under `name`, if anything.
    pub fn examine(&self, name: &OsStr) -> Result<Option<Facts>> {
        match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("examine", name, errno)),
        }
    }

    /// Removes a name; false when it was not there.
    pub fn remove(&self, name: &OsStr) -> Result<bool> {
        match unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Moves a file to the same name in another directory, where nothing may stand; false when something does.
    pub fn move_to_free(&self, name: &OsStr, to: &Self) -> Result<bool> {
        let result = renameat_with(&self.descriptor, name, &to.descriptor, name, RenameFlags::NOREPLACE);
        match result {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // A file system without that flag: look first. Our own processes take turns, so that nothing comes between.
            Err(Errno::INVAL | Errno::NOSYS) => {
                if to.examine(name)?.is_some() {
                    return Ok(false);
                }
                self.move_to(name, to).map(|()| true)
            }
            Err(errno) => Err(self.failed("move into the cache", name, errno)),
        }
    }

    /// Moves a file to the same name in another directory, in place of what stands there.
    pub fn move_to(&self, name: &OsStr, to: &Self) -> Result<()> {
        renameat(&self.descriptor, name, &to.descriptor, name).map_err(|errno| self.failed("move", name, errno))
    }

    /// Makes the names in it durable.
    pub fn sync(&self) -> Result<()> {
        fsync(&self.descriptor).map_err(|errno| Error::system("sync the directory", &self.path, errno))
    }

    /// Whether the file system has room for a few small files. False also where nothing but the superuser's reserve is left.
    pub fn has_room(&self) -> Result<bool> {
        const FEW_BLOCKS: u64 = 32;
        let status = fstatvfs(&self.descriptor).map_err(|errno| Error::system("examine", &self.path, errno))?;
        // Some file systems create inodes as they go, and count none.
        let has_inodes = status.f_files == 0 || status.f_favail > 2;
        Ok(status.f_bavail > FEW_BLOCKS && has_inodes)
    }

    /// The number of the mount that it is on, which no other mount has or will have until the host restarts; `None` where
    /// the kernel gives none.
    pub fn mount_number(&self) -> Option<u64> {
        // STATX_MNT_ID_UNIQUE, of Linux 6.8.
        const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
        let status = statx(&self.descriptor, c"", AtFlags::EMPTY_PATH, UNIQUE).ok()?;
        StatxFlags::from_bits_retain(status.stx_mask).contains(UNIQUE).then_some(status.stx_mnt_id)
    }

    /// Whether this process may write to a file in it, or to the directory itself (`.`); true when there is none.
    pub fn is_writable(&self, name: &OsStr) -> Result<bool> {
        // With the rights that count: not those of whoever started a program that changed its user.
        match accessat(&self.descriptor, name, Access::WRITE_OK, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => Ok(false),
            Err(errno) => Err(self.failed("examine", name, errno)),
        }
    }

    /// Which directory it is.
    pub fn identity(&self) -> Result<Identity> {
        Ok(self.facts()?.identity)
    }

    /// When a name was last added, removed or changed, or the time that [`Self::set_modified`] gave it.
    pub fn modified(&self) -> Result<Timestamp> {
        Ok(self.facts()?.modified)
    }

    fn facts(&self) -> Result<Facts> {
        fstat(&self.descriptor).map(Facts::from).map_err(|errno| Error::system("examine", &self.path, errno))
    }

    /// Sets the directory's own modification time.
    pub fn set_modified(&self, time: Timestamp) -> Result<()> {
        futimens(&self.descriptor, &time.as_modification_time())
            .map_err(|errno| Error::system("set the time of", &self.path, errno))
    }

    /// Sets the modification time of a file in it, without opening it.
    pub fn set_modified_of(&self, name: &OsStr, time: Timestamp) -> Result<()> {
        utimensat(&self.descriptor, name, &time.as_modification_time(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed("set the time of", name, errno))
    }

    /// The names in it, in no order, without `.` and `..`. A name that comes or goes meanwhile may be among them or not.
    pub fn names(&self) -> Result<impl Iterator<Item = Result<OsString>> + use<>> {
        let failed = {
            let path = self.path.clone();
            move |errno| Error::system("list", &path, errno)
        };
        let entries = retry_on_intr(|| Dir::read_from(&self.descriptor)).map_err(&failed)?;
        Ok(entries.filter_map(move |entry| match entry {
            Ok(entry) => {
                is_name(entry.file_name()).then(|| Ok(OsString::from_vec(entry.file_name().to_bytes().to_vec())))
            }
            Err(errno) => Some(Err(failed(errno))),
        }))
    }

    fn failed(&self, operation: &'static str, name: &OsStr, errno: Errno) -> Error {
        Error::system(operation, &self.path_of(name), errno)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A host that closed its standard descriptors may go on printing into whatever has their numbers: never into an image.
fn above_standard(descriptor: OwnedFd) -> std::result::Result<File, Errno> {
    const FIRST_FREE: i32 = 3;
    if descriptor.as_raw_fd() >= FIRST_FREE {
        return Ok(File::from(descriptor));
    }
    fcntl_dupfd_cloexec(&descriptor, FIRST_FREE).map(File::from)
}

fn is_name(name: &CStr) -> bool {
    !matches!(OsStr::from_bytes(name.to_bytes()).as_bytes(), b"." | b"..")
}
