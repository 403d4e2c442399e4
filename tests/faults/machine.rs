//! What trials need of the machine: users, mounts and file systems; and trials that are ignored without them.

use std::ffi::c_ulong;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use libtest_mimic::{Failed, Trial};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

use crate::c::Driver;
use crate::child::until;

static NAMESPACE: OnceLock<Result<(), Errno>> = OnceLock::new();

/// From here on only this process and its children see its mounts. Must run before other threads start.
pub fn enter_mount_namespace() {
    // SAFETY: only an unshared descriptor table could do harm, and it is not unshared.
    let entered = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC));
    NAMESPACE.set(entered).unwrap();
}

/// What a trial cannot run without.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    Root,
    /// Mounts in the namespace of this process.
    Mounts,
    /// A file system of this kind on a loop device.
    Volume(&'static str),
    /// A file system that the kernel has.
    Kernel(&'static str),
    Tool(&'static str),
}

impl Need {
    /// Why this machine does not have it.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "only root may do this".to_owned()),
            Self::Mounts => Self::Root.missing().or_else(|| {
                let error = NAMESPACE.get()?.as_ref().err()?;
                Some(format!("mounting is not permitted: {error}"))
            }),
            Self::Volume(kind) => Self::Mounts
                .missing()
                .or_else(|| {
                    let control = File::options().read(true).write(true).open("/dev/loop-control");
                    control.err().map(|error| format!("there are no loop devices: {error}"))
                })
                .or_else(|| Self::Kernel(kind).missing())
                .or_else(|| {
                    Self::Tool(["mkfs.btrfs", "mkfs.xfs", "mkfs.ext4"].into_iter().find(|tool| tool.ends_with(kind))?)
                        .missing()
                }),
            Self::Kernel(kind) => {
                let listed = || fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains(kind));
                let _ = (!listed()).then(|| Command::new("modprobe").arg(kind).stderr(Stdio::null()).status());
                (!listed()).then(|| format!("the kernel has no {kind}"))
            }
            Self::Tool(tool) => {
                let status = command(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
                status.is_err().then(|| format!("{tool} is missing (scripts/install-tools.sh {tool})"))
            }
        }
    }
}

/// A command, also of those that users other than root do not find.
pub fn command(program: &str) -> Command {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.env("PATH", path);
    command
}

/// A trial, ignored if the machine does not have what it needs. The reason is printed.
pub fn trial(name: &str, needs: &[Need], test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let missing = needs.iter().find_map(|need| need.missing());
    if let Some(reason) = &missing {
        // Tools that list trials read the standard output.
        let _ = writeln!(std::io::stderr(), "{name} is ignored: {reason}");
    }
    Trial::test(name, test).with_ignored_flag(missing.is_some())
}

/// A trial for each driver.
pub fn trials(name: &str, needs: &[Need], test: fn(Driver) -> Result<(), Failed>) -> Vec<Trial> {
    let trial_of = |driver: Driver| trial(&format!("{name}::{}", driver.name()), needs, move || test(driver));
    Driver::BOTH.map(trial_of).into()
}

/// A directory that all users may enter.
pub fn scratch() -> TempDir {
    open_to_all(tempfile::Builder::new().prefix("image-cache-faults-").tempdir().unwrap())
}

/// In memory, for images of file systems.
fn memory_scratch() -> TempDir {
    let create = |parent: &Path| tempfile::Builder::new().prefix("image-cache-faults-").tempdir_in(parent);
    open_to_all(create(Path::new("/dev/shm")).or_else(|_| create(&std::env::temp_dir())).unwrap())
}

fn open_to_all(directory: TempDir) -> TempDir {
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Runs a program, which must succeed.
pub fn run(program: &str, arguments: &[&str]) -> Result<(), Failed> {
    let output = command(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// A mounted file system. On drop it is unmounted lazily.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts with the arguments of mount(8) before the mount point, which is created.
    pub fn new(arguments: &[&str], point: &Path) -> Result<Self, Failed> {
        fs::create_dir_all(point).unwrap();
        run("mount", &[arguments, &[text(point)]].concat())?;
        Ok(Self(point.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A file system on a loop device.
pub struct Volume {
    mount: Option<Mount>,
    image: PathBuf,
    point: PathBuf,
    _directory: TempDir,
}

impl Volume {
    pub fn new(kind: &str, megabytes: u64, options: &[&str]) -> Result<Self, Failed> {
        let directory = memory_scratch();
        let image = directory.path().join("image");
        File::create_new(&image).unwrap().set_len(megabytes << 20).unwrap();
        run(&format!("mkfs.{kind}"), &[&["-q"], options, &[text(&image)]].concat())?;
        let point = directory.path().join("volume");
        let mount = Some(Mount::new(&["-o", "loop", text(&image)], &point)?);
        Ok(Self { mount, image, point, _directory: directory })
    }

    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Unmounts it, and mounts it again. A child of another test holds copies of our descriptors from its fork to its exec.
    pub fn mount_again(&mut self) -> Result<(), Failed> {
        let unmounted = || unmount(&self.point, UnmountFlags::empty()).ok();
        until(Duration::from_secs(20), unmounted).ok_or("the volume is busy")?;
        std::mem::forget(self.mount.take());
        self.mount = Some(Mount::new(&["-o", "loop", text(&self.image)], &self.point)?);
        Ok(())
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Cuts the disk off. 0: after a sync; 1: after the log was written; 2: at once.
    pub fn shut_down(&self, how: u32) {
        /// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`.
        const SHUT_DOWN: c_ulong = 0x8004_587d;
        let point = File::open(self.path()).unwrap();
        // SAFETY: the call reads one number, which lives until it returns.
        let outcome = unsafe { libc::ioctl(point.as_raw_fd(), SHUT_DOWN, &raw const how) };
        assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    }

    /// Writes everything to the disk.
    pub fn sync(&self) {
        rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
    }
}

/// Writes files into a directory until nothing more fits, down to single bytes.
pub fn fill(directory: &Path) {
    // On a disk that is full already, there may be no room for it.
    let _ = fs::create_dir_all(directory);
    let data = vec![0xa5; 1 << 20];
    let mut number = 0;
    for size in [1 << 20, 1 << 16, 1 << 12, 64] {
        // The disk frees blocks late: it is full when several files fail in a row.
        let mut failures = 0;
        while failures < 3 {
            number += 1;
            let Ok(mut file) = File::create(directory.join(number.to_string())) else { break };
            let mut written = || (0..16).try_for_each(|_| file.write_all(&data[..size]));
            failures = if written().is_err() { failures + 1 } else { 0 };
            let _ = file.sync_all();
        }
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sets the time of a file's last change to that many seconds ago.
pub fn age(file: &Path, seconds: u64) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}
