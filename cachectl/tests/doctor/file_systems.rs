//! File systems: which one it is, how it is mounted, its room, and what the kernel lacks.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use image_cache::{DriverChoice, LimitMode};
use libtest_mimic::Completion;
use rustix::mount::{MountFlags, mount, mount_remount};

use crate::Test;
use crate::cache::{Cache, doctor, examined};

pub const TESTS: &[(&str, bool, Test)] = &[
    ("a_subdirectory_on_another_file_system", true, split),
    ("a_network_file_system", true, network),
    ("overlayfs", true, overlay),
    ("a_file_system_without_attributes", true, no_attributes),
    ("a_read_only_mount", true, read_only),
    ("a_full_disk", true, full),
    ("a_disk_without_inodes", true, no_inodes),
    ("a_limit_above_the_disk", false, limit),
    ("failed_fetches", false, failed),
    ("a_kernel_without_locks", false, no_locks),
    ("a_host_without_proc", true, no_proc),
];

/// Whether a program can be run.
fn has(program: &str) -> bool {
    let directories = std::env::var("PATH").unwrap_or_default();
    directories.split(':').chain(["/usr/sbin", "/sbin"]).any(|directory| Path::new(directory).join(program).exists())
}

fn split(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    mount("none", cache.file("queue"), "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
    let examined = cache.doctor(&["--fix"]);
    examined.assert_only(&["IC006"]);
    assert!(examined.items("IC006").contains("queue") && examined.json["not_fixed"].is_string());
    Completion::Completed
}

fn network(driver: DriverChoice) -> Completion {
    if !has("bindfs") || !Path::new("/dev/fuse").exists() {
        return Completion::ignored_with("bindfs or /dev/fuse is missing; scripts/install-tools.sh installs bindfs");
    }
    let cache = Cache::new(driver);
    let mirror = cache.beside("mirror");
    fs::create_dir(&mirror).unwrap();
    // It calls itself sshfs: that is all by which the kernel knows the program of a FUSE file system.
    let options = ["-o", "subtype=sshfs", "-o", "attr_timeout=0"];
    let status = Command::new("bindfs").args(options).arg(&cache.path).arg(&mirror).status().unwrap();
    assert!(status.success());
    let examined = examined(doctor(&mirror, &[]));
    let unmounted = rustix::mount::unmount(&mirror, rustix::mount::UnmountFlags::DETACH);
    assert!(examined.items("IC020").contains("is on fuse.sshfs"));
    unmounted.unwrap();
    Completion::Completed
}

fn overlay(driver: DriverChoice) -> Completion {
    // An overlay over tmpfs: where /tmp is an overlay itself, one over it is refused.
    let cache = match Cache::mounted(driver, "tmpfs", "mode=755") {
        Ok(cache) => cache,
        Err(why) => return Completion::ignored_with(why),
    };
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(cache.file(name)).unwrap();
    }
    let data = ["lower", "upper", "work"].map(|name| format!("{name}dir={}", cache.file(name).display())).join(",");
    let data = std::ffi::CString::new(data).unwrap();
    if let Err(error) = mount("overlay", cache.file("merged"), "overlay", MountFlags::empty(), data.as_c_str()) {
        return Completion::ignored_with(format!("overlayfs cannot be mounted: {error}"));
    }
    for name in ["queue", "incomplete", "invalid"] {
        fs::create_dir(cache.file("merged").join(name)).unwrap();
    }
    let examined = examined(doctor(&cache.file("merged"), &[]));
    assert!(examined.numbers().contains(&"IC021"), "{examined:?}");
    Completion::Completed
}

fn no_attributes(driver: DriverChoice) -> Completion {
    let cache = match Cache::mounted(driver, "ramfs", "mode=755") {
        Ok(cache) => cache,
        Err(why) => return Completion::ignored_with(why),
    };
    if cache.is_sqlite() {
        cache.fill();
        let examined = cache.doctor(&[]);
        // It stores no times of birth either.
        examined.assert_only(&["IC022", "IC071"]);
        assert!(examined.items("IC071").contains("birth times"));
        return Completion::Completed;
    }
    // A cache of the xattr driver that was copied here.
    fs::create_dir(cache.file(".image_cache")).unwrap();
    cache.write(".image_cache/driver", "xattr\n");
    let examined = cache.doctor(&["--fix"]);
    examined.assert_only(&["IC023", "IC071"]);
    Completion::Completed
}

fn read_only(driver: DriverChoice) -> Completion {
    let cache = Cache::mounted(driver, "tmpfs", "mode=755").unwrap();
    cache.fill();
    mount_remount(&cache.path, MountFlags::RDONLY, c"").unwrap();
    cache.doctor(&[]).assert_only(&["IC024"]);
    Completion::Completed
}

fn full(driver: DriverChoice) -> Completion {
    let cache = Cache::mounted(driver, "tmpfs", "mode=755,size=4m").unwrap();
    cache.fill();
    let examined = cache.doctor(&[]);
    assert!(!examined.numbers().contains(&"IC030"));
    fs::write(cache.beside("x"), "").unwrap();
    fs::write(cache.file(".filler"), vec![1; 4 << 20]).unwrap_err();
    cache.doctor(&[]).assert_only(&["IC008", "IC030"]);
    Completion::Completed
}

fn no_inodes(driver: DriverChoice) -> Completion {
    let cache = Cache::mounted(driver, "tmpfs", "mode=755,nr_inodes=60").unwrap();
    cache.fill();
    assert!(!cache.doctor(&[]).numbers().contains(&"IC031"));
    let mut number = 0;
    while fs::create_dir(cache.file(&format!(".filler{number}"))).is_ok() {
        number += 1;
    }
    cache.doctor(&[]).assert_only(&["IC008", "IC031"]);
    Completion::Completed
}

fn limit(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let set = |bytes| {
        let options = cache.options().limit_mode(LimitMode::Hard).max_size(bytes);
        drop(image_cache::ImageCache::open(&cache.path, options).unwrap());
    };
    set(1 << 20);
    cache.doctor(&[]).assert_only(&[]);
    set(1 << 60);
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC032"]);
    assert!(examined.items("IC032").contains("1.00 EiB"));
    Completion::Completed
}

fn failed(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let mut writer = cache.open().begin_write("three").unwrap();
    writer.write_chunk(&[1; 10_000]).unwrap();
    writer.abort("the source failed");
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC033"]);
    assert!(examined.items("IC033").contains("three"));
    let fixed = cache.doctor(&["--fix"]);
    fixed.assert_only(&[]);
    assert_eq!(fixed.fixed(), ["IC033"]);
    Completion::Completed
}

fn no_locks(driver: DriverChoice) -> Completion {
    if !has("strace") {
        return Completion::ignored_with("strace is missing; scripts/install-tools.sh installs it");
    }
    let cache = Cache::new(driver);
    let inner = doctor(&cache.path, &[]);
    let mut command = Command::new("strace");
    // The first call of fcntl with a lock is the probe.
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl", "-e", "inject=fcntl:error=EINVAL"]);
    command
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("IMAGE_CACHE_CONFIG", "/dev/null")
        .stderr(Stdio::null());
    assert!(examined(command).numbers().contains(&"IC070"));
    Completion::Completed
}

fn no_proc(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let inner = doctor(&cache.path, &[]);
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /proc && exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).env("IMAGE_CACHE_CONFIG", "/dev/null");
    examined(command).assert_only(&["IC072"]);
    Completion::Completed
}
