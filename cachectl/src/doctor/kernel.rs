//! What the kernel and the file system lack of what the library uses: docs/kernel-features.md has the list. Reflinks, holes and exact times
//! of change only make it faster, and are no findings.

use std::path::Path;

use rustix::fs::{
    AtFlags, FallocateFlags, MemfdFlags, Mode, OFlags, RenameFlags, StatxFlags, fallocate, memfd_create, openat,
    renameat_with, statx,
};
use rustix::io::Errno;

use super::finding::Findings;
use super::kind;
use super::locks::is_locked;
use super::scan::Scan;

/// Unique ids of mounts, of Linux 6.8: `STATX_MNT_ID_UNIQUE`.
const MOUNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// What can be probed without the directory.
pub fn check(findings: &mut Findings) {
    if let Ok(file) = memfd_create("probe", MemfdFlags::CLOEXEC)
        && is_locked(&file, 0).is_err()
    {
        findings.add(&kind::NO_LOCKS, "the query of such a lock fails");
    }
    if !Path::new("/proc/self/fd").exists() || !Path::new("/proc/sys/kernel/random/boot_id").exists() {
        findings.add(&kind::NO_PROC, "/proc/self/fd or /proc/sys/kernel/random/boot_id is missing");
    }
}

/// What the kernel does with the directory's files.
pub fn check_file_system(scan: &Scan, findings: &mut Findings) {
    let mut missing = Vec::new();
    let mut add = |feature: &str, without: &str| missing.push(format!("{feature}: {without}"));
    let absent = c".image_cache/no such file";
    let root = &scan.root.descriptor;
    if let Err(Errno::NOSYS | Errno::PERM) = renameat_with(root, absent, root, absent, RenameFlags::NOREPLACE) {
        add("renameat2(RENAME_NOREPLACE)", "a foreign file that appears during a commit is replaced");
    }
    match statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME | MOUNT_ID_UNIQUE) {
        Err(_) => add("statx", "an immutable image is noticed only when its removal fails"),
        Ok(status) => {
            let mask = StatxFlags::from_bits_retain(status.stx_mask);
            if !mask.contains(StatxFlags::BTIME) {
                add("birth times", "a writer whose lock file was replaced counts as dead");
            }
            if !mask.contains(MOUNT_ID_UNIQUE) {
                add("unique mount ids (Linux 6.8)", "durability none syncs every commit");
            }
        }
    }
    if std::fs::read_to_string("/proc/sys/fs/leases-enable").is_ok_and(|text| text.trim() == "0") {
        add("leases (fs.leases-enable is 0)", "prune can evict images that are in use");
    }
    // A file without a name: it leaves nothing behind. Without the permission to write, nothing is reserved anyway.
    let unnamed = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = openat(root, ".", unnamed, Mode::RUSR | Mode::WUSR)
        && let Err(Errno::OPNOTSUPP | Errno::NOSYS) = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 4096)
    {
        add("fallocate(KEEP_SIZE)", "a hard limit is not supported");
    }
    findings.add_if_any(&kind::NO_FEATURE, missing, |_| {
        format!("Linux {} here", rustix::system::uname().release().to_string_lossy())
    });
}
