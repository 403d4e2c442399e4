//! What file system the directory is on, and whether it can have a cache.

use rustix::fs::{AtFlags, StatVfsMountFlags, StatxFlags, fstatfs, fstatvfs, statx};

use super::finding::Findings;
use super::kind;
use super::scan::{Driver, Scan};

/// File systems whose locks hold on one host only, or are none: magic numbers of statfs(2).
const NETWORK: [(u64, &str); 11] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x00c3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x0bd0_0bd0, "lustre"),
];

/// FUSE programs whose files are on another host.
const NETWORK_FUSE: [&str; 12] = [
    "sshfs",
    "glusterfs",
    "s3fs",
    "rclone",
    "ceph",
    "ceph-fuse",
    "curlftpfs",
    "gcsfuse",
    "goofys",
    "juicefs",
    "davfs",
    "nfs",
];

const OVERLAYFS: u64 = 0x794c_7630;

/// The type of the file system, as a number.
#[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // The type differs between architectures.
fn magic(scan: &Scan) -> u64 {
    fstatfs(&scan.root.descriptor).map_or(0, |status| status.f_type as u64)
}

/// The name of a network file system, if it is one. `name` is what the list of mounts has.
fn network(magic: u64, name: &str) -> Option<String> {
    let known = NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| (*name).to_owned());
    let program = name.strip_prefix("fuse.");
    known.or_else(|| program.filter(|program| NETWORK_FUSE.contains(program)).map(|_| name.to_owned()))
}

/// The type of a mount as the list of mounts names it: the line whose device is the directory's, of the deepest mount point.
fn mount_type(list: &str, major: u32, minor: u32) -> Option<String> {
    let device = format!("{major}:{minor}");
    let line = list.lines().rfind(|line| line.split(' ').nth(2) == Some(&device))?;
    line.split(" - ").nth(1)?.split(' ').next().map(str::to_owned)
}

pub fn check(scan: &Scan, findings: &mut Findings) {
    let device = scan.root.stat.st_dev;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let name = mount_type(&mounts, rustix::fs::major(device), rustix::fs::minor(device)).unwrap_or_default();
    if let Some(network) = network(magic(scan), &name) {
        findings.add(&kind::NETWORK, format!("'{}' is on {network}", scan.path.display()));
    }
    if magic(scan) == OVERLAYFS {
        findings.add(&kind::OVERLAY, format!("'{}' is on overlayfs", scan.path.display()));
    }
    if fstatvfs(&scan.root.descriptor).is_ok_and(|status| status.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        findings.add(&kind::MOUNTED_READ_ONLY, format!("'{}' is mounted read-only", scan.path.display()));
    }
    check_attributes(scan, findings);
    check_mounts(scan, findings);
}

fn check_attributes(scan: &Scan, findings: &mut Findings) {
    let mut value = [0_u8; 1];
    let answer = rustix::fs::fgetxattr(&scan.root.descriptor, "user.image_cache.probe", &mut value);
    if answer == Err(rustix::io::Errno::OPNOTSUPP) {
        let message =
            "user attributes are not supported there (a mount option, the file system, or tmpfs before Linux 6.6)";
        let kind = if scan.driver == Some(Driver::Xattr) { &kind::NO_XATTR_DRIVER } else { &kind::NO_ATTRIBUTES };
        findings.add(kind, message);
    }
}

/// Files must be movable by one rename.
fn check_mounts(scan: &Scan, findings: &mut Findings) {
    let mount_of = |descriptor: &std::os::fd::OwnedFd| {
        let status = statx(descriptor, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::MNT_ID).then_some(status.stx_mnt_id)
    };
    let own =
        scan.own.as_ref().and_then(|own| Some((".image_cache", rustix::fs::fstat(own).ok()?.st_dev, mount_of(own))));
    let areas = scan.areas.iter().map(|area| (area.name, area.stat.st_dev, mount_of(&area.descriptor)));
    let root = mount_of(&scan.root.descriptor);
    let split = areas.chain(own).filter(|(_, device, mount)| {
        *device != scan.root.stat.st_dev || mount.zip(root).is_some_and(|(one, other)| one != other)
    });
    let split: Vec<_> = split.map(|(name, _, _)| name.to_owned()).collect();
    findings
        .add_if_any(&kind::SPLIT, split, |_| "no file can be moved between it and the cache's directory".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_number_and_by_program() {
        assert_eq!(network(0x6969, "nfs4").as_deref(), Some("nfs"));
        assert_eq!(network(0x6573_5546, "fuse.sshfs").as_deref(), Some("fuse.sshfs"));
        assert_eq!((network(0xef53, "ext4"), network(0x6573_5546, "fuse.bindfs")), (None, None));
    }

    #[test]
    fn the_type_of_a_mount_is_that_of_its_device() {
        let list = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 22 0:26 / /mnt rw - fuse.sshfs host:/ rw\n";
        assert_eq!(mount_type(list, 0, 26).as_deref(), Some("fuse.sshfs"));
        assert_eq!(mount_type(list, 8, 2), None);
    }
}
