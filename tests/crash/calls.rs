//! The system calls that can fail: their names, and the errors that each can return.

use nix::errno::Errno;
use nix::libc::{self, c_long};

use crate::registers::Call;

/// What a call does, as far as its faults depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens a descriptor of a file; may create the file.
    Open,
    /// Duplicates a descriptor, or reads and sets locks (`fcntl`).
    Control,
    Read,
    Write,
    /// Makes bytes or names durable.
    Sync,
    Close,
    /// Creates or renames a name.
    Name,
    /// Removes a name.
    Remove,
    /// Changes a file's length, times or attributes.
    Change,
    /// Reads a file's metadata, or a directory's names.
    Query,
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
    (libc::SYS_unlink, "unlink", Kind::Remove),
    (libc::SYS_unlinkat, "unlinkat", Kind::Remove),
    (libc::SYS_mkdir, "mkdir", Kind::Name),
    (libc::SYS_mkdirat, "mkdirat", Kind::Name),
    (libc::SYS_ftruncate, "ftruncate", Kind::Change),
    (libc::SYS_fallocate, "fallocate", Kind::Change),
    // Sharing blocks.
    (libc::SYS_ioctl, "ioctl", Kind::Change),
    (libc::SYS_copy_file_range, "copy_file_range", Kind::Change),
    (libc::SYS_utimensat, "utimensat", Kind::Change),
    (libc::SYS_fsetxattr, "fsetxattr", Kind::Change),
    (libc::SYS_setxattr, "setxattr", Kind::Change),
    (libc::SYS_fremovexattr, "fremovexattr", Kind::Change),
    (libc::SYS_removexattr, "removexattr", Kind::Change),
    (libc::SYS_fchmod, "fchmod", Kind::Change),
    (libc::SYS_fchown, "fchown", Kind::Change),
    (libc::SYS_fgetxattr, "fgetxattr", Kind::Query),
    (libc::SYS_getxattr, "getxattr", Kind::Query),
    (libc::SYS_stat, "stat", Kind::Query),
    (libc::SYS_lstat, "lstat", Kind::Query),
    (libc::SYS_fstat, "fstat", Kind::Query),
    (libc::SYS_newfstatat, "newfstatat", Kind::Query),
    (libc::SYS_statx, "statx", Kind::Query),
    (libc::SYS_statfs, "statfs", Kind::Query),
    (libc::SYS_fstatfs, "fstatfs", Kind::Query),
    (libc::SYS_access, "access", Kind::Query),
    (libc::SYS_readlink, "readlink", Kind::Query),
    (libc::SYS_readlinkat, "readlinkat", Kind::Query),
    (libc::SYS_getdents64, "getdents64", Kind::Query),
    (libc::SYS_lseek, "lseek", Kind::Query),
    (libc::SYS_mmap, "mmap", Kind::Map),
];

/// Whether the call may change the directory. A killed process's locks and memory are gone either way, and the next
/// process rebuilds SQLite's shared memory.
pub fn may_change_files(call: &Call) -> bool {
    let creating = libc::O_CREAT | libc::O_TRUNC;
    let opens_for = |flags: u64| flags & u64::from(creating.cast_unsigned()) != 0;
    match call.number {
        libc::SYS_open => opens_for(call.arguments[1]),
        libc::SYS_openat => opens_for(call.arguments[2]),
        _ if is_sleep(call) => false,
        _ => !matches!(
            listed(call),
            Some(Kind::Control | Kind::Read | Kind::Sync | Kind::Close | Kind::Query | Kind::Map)
        ),
    }
}

/// Returns the kind of call; `None` for one that cannot fail.
pub fn kind(call: &Call) -> Option<Kind> {
    // Releasing a lock that is held does not fail. (SQLite would treat the lock as held from then on.)
    if call.is_unlock {
        return None;
    }
    // Anonymous memory.
    if call.number == libc::SYS_mmap && call.argument(4) == -1 {
        return None;
    }
    listed(call)
}

fn listed(call: &Call) -> Option<Kind> {
    CALLS.iter().find(|(known, ..)| *known == call.number).map(|(_, _, kind)| *kind)
}

pub fn name(number: c_long) -> String {
    let known = CALLS.iter().find(|(known, ..)| *known == number);
    known.map_or_else(|| format!("system call {number}"), |(_, name, _)| (*name).to_owned())
}

/// The errors that are tried on a call: those that it can return on some file system.
pub fn errors(call: &Call) -> &'static [Errno] {
    use Errno::{EACCES, EDQUOT, EINTR, EIO, EMFILE, ENOLCK, ENOMEM, ENOSPC};
    const DUPLICATE: [i32; 2] = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC];
    match kind(call) {
        None => &[],
        Some(Kind::Open) if may_change_files(call) => &[EIO, EMFILE, EINTR, EACCES, ENOSPC, EDQUOT],
        Some(Kind::Open) => &[EIO, EMFILE, EINTR, EACCES],
        Some(Kind::Control) if call.number == libc::SYS_dup => &[EMFILE],
        Some(Kind::Control) if DUPLICATE.contains(&call.argument(1)) => &[EMFILE],
        // These locks are not waited for, so no signal interrupts them.
        Some(Kind::Control) => &[EIO, EACCES, ENOLCK],
        Some(Kind::Read) => &[EIO, EINTR],
        Some(Kind::Write | Kind::Close | Kind::Sync) => &[EIO, ENOSPC, EDQUOT, EINTR],
        Some(Kind::Name | Kind::Change) => &[EIO, ENOSPC, EDQUOT, EACCES],
        Some(Kind::Remove | Kind::Query) => &[EIO, EACCES],
        Some(Kind::Map) => &[ENOMEM, EACCES],
    }
}

/// Whether the sweep tries a short transfer on the call.
pub fn can_be_short(call: &Call) -> bool {
    matches!(kind(call), Some(Kind::Read | Kind::Write)) && call.arguments[2] > 1
}

/// Whether the call only waits.
pub fn is_sleep(call: &Call) -> bool {
    [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].contains(&call.number)
}
