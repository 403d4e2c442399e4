//! The system calls that a fault can befall: their names, and which errors they can return.

use nix::errno::Errno;
use nix::libc::{self, c_long};

use crate::registers::Call;

/// What a call does, as far as its faults go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Makes a descriptor of a file, and perhaps the file.
    Open,
    /// Makes another descriptor, or reads and sets locks (`fcntl`).
    Control,
    Read,
    Write,
    /// Makes bytes or names durable.
    Sync,
    Close,
    /// Makes, moves or removes a name.
    Name,
    /// Changes what is known of a file: its length, times, attributes.
    Change,
    /// Asks what is known of a file, or which names there are.
    Look,
    Lock,
    Map,
}

const CALLS: &[(c_long, &str, Kind)] = &[
    (libc::SYS_open, "open", Kind::Open),
    (libc::SYS_openat, "openat", Kind::Open),
    (libc::SYS_fcntl, "fcntl", Kind::Control),
    (libc::SYS_dup, "dup", Kind::Control),
    (libc::SYS_read, "read", Kind::Read),
    (libc::SYS_pread64, "pread64", Kind::Read),
    (libc::SYS_write, "write", Kind::Write),
    (libc::SYS_pwrite64, "pwrite64", Kind::Write),
    (libc::SYS_fsync, "fsync", Kind::Sync),
    (libc::SYS_fdatasync, "fdatasync", Kind::Sync),
    (libc::SYS_sync_file_range, "sync_file_range", Kind::Sync),
    (libc::SYS_close, "close", Kind::Close),
    (libc::SYS_rename, "rename", Kind::Name),
    (libc::SYS_renameat, "renameat", Kind::Name),
    (libc::SYS_renameat2, "renameat2", Kind::Name),
    (libc::SYS_unlink, "unlink", Kind::Name),
    (libc::SYS_unlinkat, "unlinkat", Kind::Name),
    (libc::SYS_mkdir, "mkdir", Kind::Name),
    (libc::SYS_mkdirat, "mkdirat", Kind::Name),
    (libc::SYS_ftruncate, "ftruncate", Kind::Change),
    (libc::SYS_fallocate, "fallocate", Kind::Change),
    (libc::SYS_utimensat, "utimensat", Kind::Change),
    (libc::SYS_fsetxattr, "fsetxattr", Kind::Change),
    (libc::SYS_setxattr, "setxattr", Kind::Change),
    (libc::SYS_fremovexattr, "fremovexattr", Kind::Change),
    (libc::SYS_removexattr, "removexattr", Kind::Change),
    (libc::SYS_fchmod, "fchmod", Kind::Change),
    (libc::SYS_fchown, "fchown", Kind::Change),
    (libc::SYS_fgetxattr, "fgetxattr", Kind::Look),
    (libc::SYS_getxattr, "getxattr", Kind::Look),
    (libc::SYS_stat, "stat", Kind::Look),
    (libc::SYS_lstat, "lstat", Kind::Look),
    (libc::SYS_fstat, "fstat", Kind::Look),
    (libc::SYS_newfstatat, "newfstatat", Kind::Look),
    (libc::SYS_statx, "statx", Kind::Look),
    (libc::SYS_statfs, "statfs", Kind::Look),
    (libc::SYS_fstatfs, "fstatfs", Kind::Look),
    (libc::SYS_access, "access", Kind::Look),
    (libc::SYS_readlink, "readlink", Kind::Look),
    (libc::SYS_readlinkat, "readlinkat", Kind::Look),
    (libc::SYS_getdents64, "getdents64", Kind::Look),
    (libc::SYS_lseek, "lseek", Kind::Look),
    (libc::SYS_flock, "flock", Kind::Lock),
    (libc::SYS_mmap, "mmap", Kind::Map),
];

/// Calls that are no input or output, and change no file.
const HARMLESS: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getpid,
    libc::SYS_geteuid,
    libc::SYS_getrandom,
    libc::SYS_getcwd,
    libc::SYS_prlimit64,
    libc::SYS_futex,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_clock_nanosleep,
    libc::SYS_fadvise64,
];

/// Whether a directory can be another one after the call than before it. A killed process's locks and memory are gone either way,
/// and what SQLite keeps in memory that it shares is made anew by the next process.
pub fn may_change_files(call: &Call) -> bool {
    let creating = libc::O_CREAT | libc::O_TRUNC;
    let opens_for = |flags: u64| flags & u64::from(creating.cast_unsigned()) != 0;
    match call.number {
        libc::SYS_open => opens_for(call.arguments[1]),
        libc::SYS_openat => opens_for(call.arguments[2]),
        number if HARMLESS.contains(&number) => false,
        number => !matches!(
            kind(number),
            Some(Kind::Control | Kind::Read | Kind::Sync | Kind::Close | Kind::Look | Kind::Lock | Kind::Map)
        ),
    }
}

/// What kind of call that number is; `None` for one that is no input or output.
pub fn kind(number: c_long) -> Option<Kind> {
    CALLS.iter().find(|(known, ..)| *known == number).map(|(_, _, kind)| *kind)
}

pub fn name(number: c_long) -> String {
    let known = CALLS.iter().find(|(known, ..)| *known == number);
    known.map_or_else(|| format!("system call {number}"), |(_, name, _)| (*name).to_owned())
}

impl Kind {
    /// The errors that are tried.
    pub fn errors(self) -> &'static [Errno] {
        use Errno::{EACCES, EDQUOT, EINTR, EIO, EMFILE, ENOLCK, ENOMEM, ENOSPC};
        match self {
            Self::Open => &[EIO, ENOSPC, EDQUOT, EMFILE, EINTR, EACCES],
            Self::Control => &[EIO, EMFILE, EACCES, ENOLCK, EINTR],
            Self::Read => &[EIO, EINTR],
            Self::Write | Self::Close => &[EIO, ENOSPC, EDQUOT, EINTR],
            Self::Sync => &[EIO, ENOSPC, EDQUOT, EINTR],
            Self::Name | Self::Change => &[EIO, ENOSPC, EDQUOT, EACCES],
            Self::Look => &[EIO, EACCES],
            Self::Lock => &[EIO, EINTR, ENOLCK],
            Self::Map => &[ENOMEM, EACCES],
        }
    }
}
