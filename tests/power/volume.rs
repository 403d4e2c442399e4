//! A file system in a file, on a loop device: made, mounted, cut, and mounted again.
//!
//! All mounts are in a mount namespace of this process, and loop devices end with their mounts. So nothing stays after
//! a test, however it ends.

use std::fs::{self, File};
use std::io::{Error, Result};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

/// The kinds of file systems that are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileSystem {
    Ext4,
    /// With 128-byte inodes, as it was made long ago: mtimes have whole seconds, so that a directory's mtime does not
    /// distinguish two changes within a second.
    Ext4OfWholeSeconds,
    Xfs,
}

impl FileSystem {
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Ext4OfWholeSeconds, Self::Xfs];

    /// The kernel's name for it.
    fn kind(self) -> &'static str {
        if self == Self::Xfs { "xfs" } else { "ext4" }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4OfWholeSeconds => "ext4_of_whole_seconds",
            Self::Xfs => "xfs",
        }
    }

    /// Makes one in a new, sparse file.
    pub fn format(self, image: &Path) -> Result<()> {
        let now = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        let (length, options): (u64, &[&str]) = match self {
            Self::Ext4 => (64 << 20, &["-F", "-b", "4096", "-E", now]),
            Self::Ext4OfWholeSeconds => (64 << 20, &["-F", "-b", "4096", "-E", now, "-I", "128"]),
            // The smallest that mkfs.xfs makes.
            Self::Xfs => (300 << 20, &["-f", "-K"]),
        };
        File::create_new(image)?.set_len(length)?;
        run(Command::new(format!("mkfs.{}", self.kind())).arg("-q").args(options).arg(image))
    }
}

/// Why this machine cannot mount file systems.
pub fn missing_requirement() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may mount a file system".to_owned());
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/loop-control") {
        return Some(format!("there are no loop devices: {error}"));
    }
    enter_namespace().err().map(|error| format!("mounting is not permitted: {error}"))
}

/// Why this machine cannot have this kind of file system.
pub fn missing_requirement_for(file_system: FileSystem) -> Option<String> {
    let kind = file_system.kind();
    let tool = format!("mkfs.{kind}");
    if Command::new(&tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return Some(format!("{tool} is missing"));
    }
    let listed = || fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains(kind));
    // The kernel loads the module at the first mount only.
    let _ = (!listed()).then(|| Command::new("modprobe").arg(kind).stderr(Stdio::null()).status());
    (!listed()).then(|| format!("the kernel has no {kind}"))
}

/// From here on only this process and its children see its mounts. Must run before other threads start.
fn enter_namespace() -> rustix::io::Result<()> {
    // SAFETY: only an unshared descriptor table could do harm, and it is not unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// A mounted file system. On drop it is unmounted lazily.
#[derive(Debug)]
pub struct Volume {
    point: PathBuf,
    mounted: bool,
}

impl Volume {
    /// Mounts the file system in `image`, which recovers what a cut left.
    pub fn mount(image: &Path, point: &Path) -> Result<Self> {
        fs::create_dir_all(point)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(point))?;
        Ok(Self { point: point.to_owned(), mounted: true })
    }

    /// Cuts the power: nothing reaches the disk any more. With `log` the file system first writes its log, without
    /// data.
    pub fn cut(&self, log: bool) -> Result<()> {
        /// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`.
        const SHUT_DOWN: libc::c_ulong = 0x8004_587d;
        const WRITE_LOG: u32 = 1;
        const WRITE_NOTHING: u32 = 2;
        let how = if log { WRITE_LOG } else { WRITE_NOTHING };
        let point = File::open(&self.point)?;
        // SAFETY: the call reads one number, which lives until it returns.
        let outcome = unsafe { libc::ioctl(point.as_raw_fd(), SHUT_DOWN, &raw const how) };
        if outcome == 0 { Ok(()) } else { Err(Error::last_os_error()) }
    }

    /// Writes parts of a directory's files back without a flush, as the kernel may do at any time. The caller must not
    /// have the index open: closing a file drops its locks.
    pub fn write_back(&self, directory: &str, random: &mut fastrand::Rng) -> Result<()> {
        // At the start the directory may not exist.
        let Ok(entries) = fs::read_dir(self.point.join(directory)) else { return Ok(()) };
        for entry in entries {
            // Files come and go.
            let Ok(file) = File::open(entry?.path()) else { continue };
            if random.bool() {
                let (start, length) = if random.bool() { (0, 0) } else { (random.i64(0..20) * 4096, 4096) };
                // SAFETY: the call takes numbers only.
                unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE) };
            }
        }
        Ok(())
    }

    /// Unmounts it, which ends the loop device: the image can be mounted again.
    pub fn unmount(mut self) -> Result<()> {
        let outcome = unmount_when_free(&self.point);
        self.mounted = outcome.is_err();
        outcome
    }
}

/// Unmounts within 20 s. A child of another test holds copies of our descriptors from its fork to its exec, and the
/// kernel ends a loop device with a delay.
pub fn unmount_when_free(point: &Path) -> Result<()> {
    const MAX_EVENTS: Duration = Duration::from_secs(20);
    let start = Instant::now();
    loop {
        match unmount(point, UnmountFlags::empty()) {
            Err(Errno::BUSY) if start.elapsed() < MAX_EVENTS => thread::yield_now(),
            Err(errno) => return Err(Error::other(format!("unmounting {}: {errno}", point.display()))),
            Ok(()) => return Ok(()),
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted {
            // An earlier call has returned the failure, or the next mount will.
            let _ = unmount(&self.point, UnmountFlags::DETACH);
        }
    }
}

/// A directory for images of file systems: in memory where possible, since the cuts need no real disk.
pub fn scratch() -> Result<TempDir> {
    let create = |parent: &Path| tempfile::Builder::new().prefix("image-cache-power-").tempdir_in(parent);
    create(Path::new("/dev/shm")).or_else(|_| create(&std::env::temp_dir()))
}

/// Runs a program, which must succeed.
fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| Error::new(error.kind(), format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!("{command:?}: {}: {stderr}", output.status)))
}
