//! Real faults: small disks and read-only directories, in a mount namespace of the scenario's thread.
//! A scenario that may not mount is skipped with that reason.

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
use super::{OperationResult, Output, Scenario, Stop};

pub const NO_USER_ATTRIBUTES: &str = "no user attributes on this file system";
const MAY_NOT_MOUNT: &str = "mounting is not permitted here";

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    Some(match (name, arguments) {
        ("disk", [size]) => small_disk(scenario, size, b"0"),
        ("disk", [size, inodes]) => small_disk(scenario, size, inodes),
        ("disk_without_attributes", []) => disk(scenario, "ramfs", "mode=0755"),
        ("read_only", [directory]) => read_only(scenario, directory),
        ("writable", [directory]) => Ok(Output::system(unmount(scenario.path(directory), UnmountFlags::empty()))),
        ("needs_user_attributes", []) if !has_user_attributes(&scenario.root) => Err(Stop::Skipped(NO_USER_ATTRIBUTES)),
        ("needs_user_attributes", []) => Ok(Output::ok("")),
        _ => return None,
    })
}

pub fn has_user_attributes(directory: &Path) -> bool {
    xattr::set(directory, "user.scenario", b"1").is_ok() && xattr::remove(directory, "user.scenario").is_ok()
}

/// Enters a user namespace as root if the process may not mount, and returns whether it may mount now. Call it before
/// any thread starts: unshare(2) refuses `CLONE_NEWUSER` in a process with several threads.
pub fn become_able_to_mount() -> bool {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if unshare(UnshareFlags::NEWNS) == Err(Errno::PERM) && unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).is_ok()
    {
        // If one of these fails, mounting fails.
        let _ = fs::write("/proc/self/setgroups", "deny");
        let _ = fs::write("/proc/self/uid_map", format!("0 {user} 1"));
        let _ = fs::write("/proc/self/gid_map", format!("0 {group} 1"));
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).is_ok()
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only `UnshareFlags::FILES` can break I/O safety, and no caller passes it.
    unsafe { unshare_unsafe(flags) }
}

/// Makes later mounts private to the scenario's thread, once per scenario.
fn enter_namespace(scenario: &mut Scenario) -> rustix::io::Result<()> {
    if !scenario.in_namespace {
        unshare(UnshareFlags::NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        scenario.in_namespace = true;
    }
    Ok(())
}

fn mounted(outcome: rustix::io::Result<()>) -> OperationResult {
    if outcome == Err(Errno::PERM) { Err(Stop::Skipped(MAY_NOT_MOUNT)) } else { Ok(Output::system(outcome)) }
}

fn small_disk(scenario: &mut Scenario, size: &[u8], inodes: &[u8]) -> OperationResult {
    let options = format!("mode=0755,size={},nr_inodes={}", text(size)?, text(inodes)?);
    disk(scenario, "tmpfs", &options)
}

/// Mounts an empty file system over the scenario's directory and creates the cache's directory on it.
fn disk(scenario: &mut Scenario, kind: &str, options: &str) -> OperationResult {
    let options = CString::new(options).map_err(|_| Stop::BadLine("a NUL byte in a text"))?;
    let outcome = enter_namespace(scenario).and_then(|()| {
        mount("none", scenario.root.as_path(), kind, MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
    });
    match mounted(outcome)? {
        output if output.result == "OK" => Ok(Output::system(fs::create_dir(scenario.path(b"")))),
        output => Ok(output),
    }
}

fn read_only(scenario: &mut Scenario, directory: &[u8]) -> OperationResult {
    let path = scenario.path(directory);
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    let outcome = enter_namespace(scenario)
        .and_then(|()| mount_bind(&path, &path))
        .and_then(|()| mount_remount(&path, flags, c""));
    mounted(outcome)
}
