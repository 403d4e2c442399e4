//! Threads with permissions and mounts of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use libtest_mimic::Failed;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change, mount_remount};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe};

pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Runs `work` on a thread of its own, with its own permissions and mounts.
pub fn on_own_thread(work: impl FnOnce() -> Result<(), Failed> + Send) -> Result<(), Failed> {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err("it panicked; see above".into()))
}

/// Gives this thread the permissions of a user who owns nothing.
pub fn become_nobody() {
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap();
}

/// Makes a directory and everything in it readable for all users. The index is not when it is made: without hits, nobody needs it.
pub fn make_readable(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            make_readable(&entry.path());
        } else if entry.file_name().to_string_lossy().starts_with("cache.db") {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Gives this thread its own mount namespace.
pub fn unshare_mounts() {
    // SAFETY: only an unshared descriptor table could do harm, and it is not unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// Mounts a directory read-only in place, for this thread.
pub fn mount_read_only(directory: &Path) {
    mount_bind(directory, directory).unwrap();
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(directory, flags, c"").unwrap();
}
