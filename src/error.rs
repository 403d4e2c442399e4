//! The error type. Every failure names the operation, the path and the cause.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

/// The result of every operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure: the operation, the cause, and the path. In the message, the path comes last: a C program's message is cut at 503
/// bytes, and must not lose the cause of a failure on a long path.
///
/// It can be cloned: a failed writer returns its first failure again from every later call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument is out of its range, or the call does not fit the handle's state.
    #[error("{0}")]
    InvalidArgument(String),
    /// The text cannot name an image.
    #[error("cannot name an image: {why}: {image_id:?}")]
    InvalidImageId {
        /// The text as it was given (bytes that are not UTF-8 replaced).
        image_id: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The image is not cached.
    #[error("image '{image_id}' is not cached{}", if *.occupied { ": something other than a regular file has its name" } else { "" })]
    NotFound {
        /// The requested image.
        image_id: String,
        /// Whether a directory, symbolic link or the like stands under the image's name.
        occupied: bool,
    },
    /// The image is cached already.
    #[error("image '{0}' is cached already")]
    AlreadyCached(String),
    /// A live writer has the image, in this process or in another.
    #[error("{0}")]
    BeingCached(BeingCached),
    /// The bytes do not have the expected digest.
    #[error("image '{image_id}' has the {algorithm} digest {actual}, expected was {expected}")]
    DigestMismatch {
        /// The image being written.
        image_id: String,
        /// The digest's algorithm.
        algorithm: &'static str,
        /// The digest expected, in hexadecimal digits.
        expected: String,
        /// The digest of the bytes, in hexadecimal digits.
        actual: String,
    },
    /// The image does not have the expected length.
    #[error("image '{image_id}' has {}{actual} bytes, expected were {expected}", if actual > expected { "at least " } else { "" })]
    SizeMismatch {
        /// The image being written.
        image_id: String,
        /// The length expected, in bytes.
        expected: u64,
        /// The length written, in bytes.
        actual: u64,
    },
    /// The source ended without a byte, and an empty image was to be refused.
    #[error("image '{0}' is empty: its source ended without a byte")]
    Empty(String),
    /// A system call failed.
    #[error("cannot {}: {}: '{}'", without_of(.operation), std::io::Error::from_raw_os_error(*.os_error), .path.display())]
    System {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The error number (`errno`).
        os_error: i32,
    },
    /// The directory's parent does not exist.
    #[error("cannot create the directory: its parent does not exist, and parents are not created: '{}'", .path.display())]
    MissingParent {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the cache is damaged, or of the wrong kind.
    #[error("cannot {}: {why}: '{}'", without_of(.operation), .path.display())]
    Damaged {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The driver's metadata could not be read or written.
    #[error("cannot {}: {cause}: '{}'", without_of(.operation), .path.display())]
    Index {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The index's file.
        path: PathBuf,
        /// The driver's message.
        cause: String,
    },
    /// The file system or this version of the library cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The incomplete file was cleaned away or changed under its writer.
    #[error("the writer of image '{image_id}' lost its file: {why}")]
    Lost {
        /// The image being written.
        image_id: String,
        /// What happened to the file.
        why: &'static str,
    },
    /// The caller's own source or fetch function failed.
    #[error("the source of image '{image_id}' failed: {cause}")]
    Source {
        /// The image being fetched.
        image_id: String,
        /// The source's message.
        cause: String,
    },
    /// The caller's progress function stopped a copy.
    #[error("the progress function stopped the copy of image '{image_id}' after {done} of {total} bytes")]
    Stopped {
        /// The image being copied.
        image_id: String,
        /// How many bytes were done.
        done: u64,
        /// How many there are in all; 0 if that is unknown.
        total: u64,
    },
    /// The handle belongs to the process that forked this one.
    #[error("the handle belongs to process {owner}, which forked this one")]
    Forked {
        /// The process that made the handle.
        owner: u32,
    },
    /// The index was open when this process was forked. Opening it here would damage it, since SQLite keeps state per process.
    #[error(
        "the cache was open in process {owner} when it forked this one: open it after forking, or call exec first: '{}'",
        .path.display()
    )]
    OpenAcrossFork {
        /// The cache's directory.
        path: PathBuf,
        /// The process that had it open.
        owner: u32,
    },
    /// Room for an image cannot be made.
    #[error("cannot make room for {bytes} bytes: {why}: '{}'", .path.display())]
    NoRoom {
        /// The image's size.
        bytes: u64,
        /// What is in the way.
        why: String,
        /// The cache's directory.
        path: PathBuf,
    },
    /// The inspection refused the image: it may harm the host that opens it.
    #[error("image '{image_id}' is refused: {why}")]
    Refused {
        /// The image.
        image_id: String,
        /// The reason, from the inspection or from the caller's inspector.
        why: String,
    },
    /// The image is pinned, and stays.
    #[error("image '{image_id}' is pinned by {holders}")]
    Pinned {
        /// The image.
        image_id: String,
        /// Who has it pinned, and for how long.
        holders: String,
    },
    /// As much is pinned as can be.
    #[error(
        "cannot pin image '{image_id}', which has {bytes} bytes: {pinned} bytes are pinned, and at most {limit} can be (PINNED_FULL)"
    )]
    PinnedFull {
        /// The image.
        image_id: String,
        /// Its size.
        bytes: u64,
        /// The size of all pinned images.
        pinned: u64,
        /// The part of the maximum size that can be pinned, in bytes.
        limit: u64,
    },
    /// An allocation failed. Nothing was lost, and the call can be repeated.
    #[error("cannot {operation}: not enough memory")]
    NoMemory {
        /// What was tried, as a verb.
        operation: &'static str,
    },
    /// Another process takes longer than the call waits: it holds a lock, or delivers no bytes. Nothing was changed.
    #[error("cannot {operation} within {} s: '{}'", .waited.as_secs_f32(), .path.display())]
    TimedOut {
        /// What was tried, as a verb, and what it waited for.
        operation: &'static str,
        /// The file that it waited for.
        path: PathBuf,
        /// How long the call waited.
        waited: Duration,
    },
    /// A defect of this library.
    #[error("internal error: {0}")]
    Internal(String),
}

/// An image that a writer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeingCached {
    /// The image.
    pub image_id: String,
    /// The writer's process; `None` when another program wrote the incomplete file, or when it is unknown.
    pub process: Option<u32>,
    /// When the writer began: nanoseconds since the Unix epoch.
    pub since: Option<i64>,
}

impl fmt::Display for BeingCached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image_id, process, since } = self;
        write!(formatter, "image '{image_id}' is being cached by ")?;
        match process {
            Some(process) => write!(formatter, "process {process}")?,
            None => formatter.write_str("another program")?,
        }
        // After the clock was set back, it is 0 s.
        since.map_or(Ok(()), |since| {
            let began = UNIX_EPOCH + Duration::from_nanos(since.try_into().unwrap_or(0));
            let seconds = SystemTime::now().duration_since(began).unwrap_or_default().as_secs();
            write!(formatter, ", for {seconds} s now")
        })
    }
}

/// The cause of an index that another program has locked.
const INDEX_LOCKED: &str = "it is locked by another program";

impl Error {
    /// An index that another program has locked. Nothing was changed.
    pub(crate) fn index_locked(operation: &'static str, path: &Path) -> Self {
        Self::Index { operation, path: path.to_owned(), cause: INDEX_LOCKED.to_owned() }
    }

    /// Whether another program has the index locked. The call can be repeated once the cache lock was released.
    pub(crate) fn is_index_locked(&self) -> bool {
        matches!(self, Self::Index { cause, .. } if cause == INDEX_LOCKED)
    }

    /// A failed system call.
    pub(crate) fn system(operation: &'static str, path: &Path, errno: Errno) -> Self {
        Self::System { operation, path: path.to_owned(), os_error: errno.raw_os_error() }
    }

    /// A lock that another handle holds, though none may.
    pub(crate) fn would_block(operation: &'static str, path: &Path) -> Self {
        Self::system(operation, path, Errno::WOULDBLOCK)
    }

    /// A full disk.
    pub(crate) fn no_space(operation: &'static str, path: &Path) -> Self {
        Self::system(operation, path, Errno::NOSPC)
    }

    /// A file that cannot be written: the file system is read-only, or the process lacks the permission.
    pub(crate) fn not_writable(operation: &'static str, path: &Path, is_permitted: bool) -> Self {
        Self::system(operation, path, if is_permitted { Errno::ROFS } else { Errno::ACCESS })
    }

    /// A name that is taken.
    pub(crate) fn exists(operation: &'static str, path: &Path) -> Self {
        Self::system(operation, path, Errno::EXIST)
    }

    /// A failed call of the standard library. Without an error number it counts as `EIO`.
    pub(crate) fn from_io(operation: &'static str, path: &Path, error: &std::io::Error) -> Self {
        let os_error = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
        Self::System { operation, path: path.to_owned(), os_error }
    }

    /// The error number of the failed system call, if there was one.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::System { os_error, .. } => Some(*os_error),
            Self::MissingParent { .. } => Some(Errno::NOENT.raw_os_error()),
            _ => None,
        }
    }

    /// Whether a file or directory does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        self.has_errno([Errno::NOENT])
    }

    /// Whether something other than a directory is in the path.
    pub(crate) fn is_not_a_directory(&self) -> bool {
        self.has_errno([Errno::NOTDIR, Errno::LOOP])
    }

    /// Whether the process lacks the permission.
    pub(crate) fn is_denied(&self) -> bool {
        self.has_errno([Errno::PERM, Errno::ACCESS])
    }

    /// Whether the file system is read-only.
    pub(crate) fn is_read_only_file_system(&self) -> bool {
        self.has_errno([Errno::ROFS])
    }

    /// Whether the process lacks the permission, or the file system is mounted read-only.
    pub(crate) fn is_not_permitted(&self) -> bool {
        self.has_errno([Errno::PERM, Errno::ACCESS, Errno::ROFS])
    }

    /// Whether the process or the system has no descriptor or no memory left.
    pub(crate) fn is_lack_of_resources(&self) -> bool {
        self.has_errno([Errno::MFILE, Errno::NFILE, Errno::NOMEM])
    }

    /// Whether the file system lacks the call.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.has_errno([Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL])
    }

    /// Whether a file would become larger than this process, or the file system, permits.
    pub(crate) fn is_too_large(&self) -> bool {
        self.has_errno([Errno::FBIG])
    }

    /// Whether somebody has a lease on the file, to remove it (see `sys::lease`).
    pub(crate) fn is_leased(&self) -> bool {
        self.has_errno([Errno::AGAIN])
    }

    /// Whether the disk is full, a quota is exhausted, or no inode is left.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoRoom { .. } | Self::PinnedFull { .. }) || self.has_errno([Errno::NOSPC, Errno::DQUOT])
    }

    fn has_errno<const N: usize>(&self, errnos: [Errno; N]) -> bool {
        self.os_error().is_some_and(|os_error| errnos.iter().any(|errno| errno.raw_os_error() == os_error))
    }
}

/// "set the times of" is followed by the cause instead of the path.
fn without_of(operation: &'static str) -> &'static str {
    operation.strip_suffix(" of").unwrap_or(operation)
}
