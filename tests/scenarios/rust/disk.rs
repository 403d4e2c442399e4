//! Real faults: small disks and read-only folders, mounted in a mount namespace that only this scenario's thread sees.
//! Where mounting is not permitted, the scenario is skipped and says so.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};
use rustix::process::{getegid, geteuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::words::text;
use super::{Found, Operated, Scenario, Stop};

pub const NO_USER_ATTRIBUTES: &str = "no user attributes on this file system";
const MAY_NOT_MOUNT: &str = "mounting is not permitted here";

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<Operated> {
    Some(match (name, arguments) {
        ("disk", [size]) => small_disk(scenario, size, b"0"),
        ("disk", [size, inodes]) => small_disk(scenario, size, inodes),
        ("disk_without_attributes", []) => disk(scenario, "ramfs", "mode=0755"),
        ("read_only", [folder]) => read_only(scenario, folder),
        ("writable", [folder]) => Ok(Found::system(unmount(scenario.path(folder), UnmountFlags::empty()))),
        ("needs_user_attributes", []) if !has_user_attributes(&scenario.root) => Err(Stop::Skipped(NO_USER_ATTRIBUTES)),
        ("needs_user_attributes", []) => Ok(Found::ok("")),
        _ => return None,
    })
}

pub fn has_user_attributes(folder: &Path) -> bool {
    xattr::set(folder, "user.scenario", b"1").is_ok() && xattr::remove(folder, "user.scenario").is_ok()
}

/// Makes this process root of a user namespace of its own where it may not mount otherwise; whether it may mount now. A
/// process with several threads cannot do that any more: call it first of all.
pub fn become_able_to_mount() -> bool {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if unshare(UnshareFlags::NEWNS) == Err(Errno::PERM) && unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).is_ok()
    {
        // Should one of them fail, mounting will.
        let _ = fs::write("/proc/self/setgroups", "deny");
        let _ = fs::write("/proc/self/uid_map", format!("0 {user} 1"));
        let _ = fs::write("/proc/self/gid_map", format!("0 {group} 1"));
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).is_ok()
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: of what can be unshared, only the table of descriptors can do harm, and that is not asked for.
    unsafe { unshare_unsafe(flags) }
}

/// Once in a scenario: mounts from here on are seen by its thread alone.
fn enter_namespace(scenario: &mut Scenario) -> rustix::io::Result<()> {
    if !scenario.in_namespace {
        unshare(UnshareFlags::NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        scenario.in_namespace = true;
    }
    Ok(())
}

fn mounted(outcome: rustix::io::Result<()>) -> Operated {
    if outcome == Err(Errno::PERM) { Err(Stop::Skipped(MAY_NOT_MOUNT)) } else { Ok(Found::system(outcome)) }
}

fn small_disk(scenario: &mut Scenario, size: &[u8], inodes: &[u8]) -> Operated {
    let options = format!("mode=0755,size={},nr_inodes={}", text(size)?, text(inodes)?);
    disk(scenario, "tmpfs", &options)
}

/// Puts an empty file system in the place of the scenario's folder, with a cache folder on it.
fn disk(scenario: &mut Scenario, kind: &str, options: &str) -> Operated {
    let options = CString::new(options).map_err(|_| Stop::BadLine("a NUL byte where text is due"))?;
    let outcome = enter_namespace(scenario).and_then(|()| {
        mount("none", scenario.root.as_path(), kind, MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
    });
    match mounted(outcome)? {
        found if found.result == "OK" => Ok(Found::system(fs::create_dir(scenario.path(b"")))),
        found => Ok(found),
    }
}

fn read_only(scenario: &mut Scenario, folder: &[u8]) -> Operated {
    let path = scenario.path(folder);
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let outcome = enter_namespace(scenario)
        .and_then(|()| mount_bind(&path, &path))
        .and_then(|()| mount_remount(&path, flags, c""));
    mounted(outcome)
}
