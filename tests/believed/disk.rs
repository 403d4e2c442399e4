//! Small file systems in files, mounted in this process's mount namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::Failed;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

use crate::fixture::{missing_root, missing_tool, run};

/// Why this process cannot mount.
static UNMOUNTABLE: OnceLock<Option<String>> = OnceLock::new();

/// From here on only this process and its children see its mounts. Must run before other threads start.
pub fn enter_namespace() {
    UNMOUNTABLE.get_or_init(|| {
        missing_root().or_else(|| {
            // SAFETY: only an unshared descriptor table could do harm, and it is not unshared.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
                .and_then(|()| mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC));
            unshared.err().map(|error| format!("mounting is not permitted: {error}"))
        })
    });
}

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    /// With 128-byte inodes: times of whole seconds.
    Ext4OfWholeSeconds,
    Btrfs,
    Xfs,
    Tmpfs,
    /// Times of 100 ns.
    Ntfs,
    /// Times of 10 ms.
    Exfat,
    /// Times of 2 s.
    Vfat,
}

impl FileSystem {
    fn parts(self) -> (u64, &'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Ext4 => (32, &["mkfs.ext4", "-q", "-F"], &["mount", "-o", "loop"]),
            Self::Ext4OfWholeSeconds => (32, &["mkfs.ext4", "-q", "-F", "-I", "128"], &["mount", "-o", "loop"]),
            Self::Btrfs => (128, &["mkfs.btrfs", "-q", "-f"], &["mount", "-o", "loop"]),
            Self::Xfs => (300, &["mkfs.xfs", "-q", "-f", "-K"], &["mount", "-o", "loop"]),
            Self::Tmpfs => (0, &["true"], &["mount", "-t", "tmpfs"]),
            Self::Ntfs => (32, &["mkfs.ntfs", "-q", "-F", "-Q"], &["mount.ntfs-3g", "-o", "permissions"]),
            Self::Exfat => (32, &["mkfs.exfat"], &["mount", "-t", "exfat-fuse", "-o", "loop"]),
            Self::Vfat => (32, &["mkfs.vfat"], &["mount", "-t", "vfat", "-o", "loop"]),
        }
    }

    /// Why this machine has no such file system.
    fn missing(self) -> Option<String> {
        let (_, format, mount) = self.parts();
        let kernel = match self {
            Self::Ext4 | Self::Ext4OfWholeSeconds => "ext4",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
            Self::Tmpfs => "tmpfs",
            Self::Ntfs | Self::Exfat => "fuse",
            Self::Vfat => "vfat",
        };
        let has_kernel = || fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains(kernel));
        let device = |path: &str| {
            let opened = File::options().read(true).write(true).open(path);
            opened.err().map(|error| format!("{path} cannot be opened: {error}"))
        };
        UNMOUNTABLE
            .get()
            .cloned()
            .flatten()
            .or_else(|| missing_tool(format[0]))
            .or_else(|| missing_tool(mount[0]))
            .or_else(|| (self == Self::Exfat).then(|| missing_tool("mount.exfat-fuse")).flatten())
            .or_else(|| match self {
                Self::Tmpfs => None,
                Self::Ntfs | Self::Exfat => device("/dev/fuse"),
                _ => device("/dev/loop-control"),
            })
            .or_else(|| {
                // The kernel loads the module at the first mount only.
                let _ = (!has_kernel()).then(|| Command::new("modprobe").arg(kernel).output());
                (!has_kernel()).then(|| format!("the kernel has no {kernel}"))
            })
    }
}

/// A file system, which is unmounted on drop.
#[derive(Debug)]
pub struct Disk {
    root: TempDir,
    file_system: FileSystem,
}

impl Disk {
    /// A new one, mounted; or why there is none.
    pub fn make(file_system: FileSystem) -> Result<Result<Self, String>, Failed> {
        if let Some(reason) = file_system.missing() {
            return Ok(Err(reason));
        }
        let disk = Self { root: tempfile::tempdir()?, file_system };
        fs::create_dir(disk.point())?;
        let (megabytes, format, _) = file_system.parts();
        File::create_new(disk.image())?.set_len(megabytes << 20)?;
        run(Command::new(format[0]).args(&format[1..]).arg(disk.image()))?;
        disk.mount()?;
        // Other users get in.
        run(Command::new("chmod").arg("755").arg(disk.root.path()))?;
        Ok(Ok(disk))
    }

    /// The file that contains it.
    pub fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    /// Where it is mounted.
    pub fn point(&self) -> PathBuf {
        self.root.path().join("mounted")
    }

    pub fn cache(&self) -> PathBuf {
        self.point().join("cache")
    }

    pub fn mount(&self) -> Result<(), Failed> {
        let (_, _, mount) = self.file_system.parts();
        run(Command::new(mount[0]).args(&mount[1..]).arg(self.image()).arg(self.point())).map(drop)
    }

    /// A child of another trial holds copies of our descriptors until its `exec`: until then the disk is busy.
    pub fn unmount(&self) -> Result<(), Failed> {
        let mut last = Ok(());
        for _ in 0..500 {
            last = unmount(self.point(), UnmountFlags::empty());
            if last.is_ok() {
                return Ok(());
            }
            std::thread::yield_now();
            let _ = Command::new("true").status();
        }
        last.map_err(|error| format!("unmounting: {error}").into())
    }

    /// Copies the file of an unmounted one.
    pub fn copy(&self) -> Result<Self, Failed> {
        let copy = Self { root: tempfile::tempdir()?, file_system: self.file_system };
        fs::create_dir(copy.point())?;
        run(Command::new("cp").arg("--sparse=always").arg(self.image()).arg(copy.image()))?;
        Ok(copy)
    }

    /// Changes an unmounted ext4 without the kernel, which would set times.
    pub fn debugfs(&self, request: &str) -> Result<(), Failed> {
        let said = run(Command::new("debugfs").args(["-w", "-R", request]).arg(self.image()))?;
        if said.contains("File not found") { Err(format!("debugfs {request}: {said}").into()) } else { Ok(()) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.point(), UnmountFlags::DETACH);
    }
}

/// The disk, or returns from the test why there is none.
macro_rules! disk {
    ($file_system:expr) => {
        match $crate::disk::Disk::make($file_system)? {
            Ok(disk) => disk,
            Err(reason) => return Ok(Some(reason)),
        }
    };
}
pub(crate) use disk;

/// Ends a test early where a tool is missing.
macro_rules! need {
    ($missing:expr) => {
        if let Some(reason) = $missing {
            return Ok(Some(reason));
        }
    };
}
pub(crate) use need;

/// A directory's path as text, for arguments.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
