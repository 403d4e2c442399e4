//! File systems to copy on, and files with holes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{SeekFrom, seek};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tempfile::TempDir;

static CAN_MOUNT: OnceLock<bool> = OnceLock::new();

/// From here on only this process sees its mounts. Must run before other threads start.
pub fn enter_mount_namespace() {
    // SAFETY: only an unshared descriptor table could do harm, and it is not unshared.
    let entered = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC));
    CAN_MOUNT.set(entered.is_ok()).unwrap();
}

/// Whether this machine can mount a file system of that kind.
pub fn is_mountable(kind: &str) -> bool {
    CAN_MOUNT.get() == Some(&true)
        && (kind == "tmpfs"
            || (Path::new("/dev/loop-control").exists()
                && Command::new(mkfs(kind)).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()))
}

fn mkfs(kind: &str) -> String {
    format!("/usr/sbin/mkfs.{kind}")
}

/// A file system of its own.
pub struct Volume {
    point: PathBuf,
    _directory: TempDir,
}

impl Volume {
    pub fn new(kind: &str, megabytes: u64) -> Self {
        let parent = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
        let directory = tempfile::Builder::new().prefix("image-cache-in-and-out-").tempdir_in(parent).unwrap();
        let (image, point) = (directory.path().join("image"), directory.path().join("volume"));
        fs::create_dir(&point).unwrap();
        if kind == "tmpfs" {
            let size = format!("size={megabytes}m");
            run("mount", &["-t", "tmpfs", "-o", &size, "none"], &point);
        } else {
            File::create_new(&image).unwrap().set_len(megabytes << 20).unwrap();
            run(&mkfs(kind), &["-q"], &image);
            run("mount", &["-o", "loop", image.to_str().unwrap()], &point);
        }
        Self { point, _directory: directory }
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }
}

impl Volume {
    /// The block device that it is on.
    pub fn device(&self) -> PathBuf {
        let number = fs::metadata(&self.point).unwrap().dev();
        let link = format!("/sys/dev/block/{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        Path::new("/dev").join(fs::read_link(link).unwrap().file_name().unwrap())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

fn run(program: &str, arguments: &[&str], last: impl AsRef<OsStr>) {
    let status = Command::new(program).args(arguments).arg(last).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Whether the kind of file system shares blocks.
pub fn has_reflinks(kind: &str) -> bool {
    ["xfs", "btrfs"].contains(&kind)
}

/// Bytes without a zero, which depend on the seed.
pub fn bytes(seed: usize, length: usize) -> Vec<u8> {
    /// A prime, so that no two blocks are the same.
    const PERIOD: usize = 99_991;
    let byte = |at: usize| u8::try_from((at / 251 + at + seed) % 251 + 1).unwrap();
    let mut repeated = (0..PERIOD).map(byte).collect::<Vec<_>>().repeat(length.div_ceil(PERIOD));
    repeated.truncate(length);
    repeated
}

/// What a sparse file has: its length, and where it has data. It begins and ends with a hole.
pub const LENGTH: u64 = 24 << 20;
pub const DATA: [Range<u64>; 3] = [1 << 20..3 << 20, 7 << 20..(7 << 20) + 4096, 16 << 20..18 << 20];

/// Writes the sparse file.
pub fn write_sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(LENGTH).unwrap();
    for data in DATA {
        file.write_all_at(&bytes(0, usize::try_from(data.end - data.start).unwrap()), data.start).unwrap();
    }
    file.sync_all().unwrap();
}

/// The bytes of the sparse file.
pub fn sparse_bytes() -> Vec<u8> {
    let mut all = vec![0; usize::try_from(LENGTH).unwrap()];
    for data in DATA {
        let (start, end) = (usize::try_from(data.start).unwrap(), usize::try_from(data.end).unwrap());
        all[start..end].copy_from_slice(&bytes(0, end - start));
    }
    all
}

/// Where a file has data.
pub fn data_of(path: &Path) -> Vec<Range<u64>> {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    let (mut ranges, mut at) = (Vec::new(), 0);
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(start)).unwrap();
        ranges.push(start..at);
    }
    ranges
}

/// What a file takes up on the disk, in bytes.
pub fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}
