//! Images that qemu-img and xorriso make. `qemu-img info` is the other opinion: an image is accepted if and only if it shows no other
//! file and no encryption.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use image_cache::{DriverChoice, Error, ImageCache};
use libtest_mimic::Completion;

use crate::common::Scratch;
use crate::corpus::ALL;

/// Why a tool cannot be used here; `None` when it is there.
fn missing(tools: &[&str]) -> Option<Completion> {
    let path = std::env::var("PATH").unwrap_or_default();
    let is_there = |tool: &str| path.split(':').any(|directory| Path::new(directory).join(tool).exists());
    let missing = tools.iter().find(|tool| !is_there(tool))?;
    Some(Completion::ignored_with(format!("{missing} is missing; scripts/install-tools.sh installs it")))
}

fn run(tool: &str, directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(tool).current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A disk of 6 MiB: random bytes, text, a hole.
fn make_disk(directory: &Path) {
    let mut disk = vec![0; 6 << 20];
    fastrand::Rng::with_seed(1).fill(&mut disk[1 << 20..2 << 20]);
    disk[3 << 20..4 << 20].fill(b'x');
    fs::write(directory.join("disk"), disk).unwrap();
}

struct Info(String);

impl Info {
    fn of(directory: &Path, image: &str) -> Self {
        Self(run("qemu-img", directory, &["info", "--output=json", image]))
    }

    fn format(&self) -> &str {
        // The last one at this depth is the image's; those of its parts are deeper.
        let line = self.0.lines().find(|line| line.starts_with("    \"format\": ")).expect("it has a format");
        line.rsplit('"').nth(1).unwrap()
    }

    fn is_self_contained(&self) -> bool {
        let unsafe_parts = ["backing-filename", "data-file\":", "\"encrypted\": true", "parent-cid\": 1"];
        !unsafe_parts.iter().any(|part| self.0.contains(part)) && self.format() != "luks"
    }
}

fn cached(cache: &ImageCache, path: &Path) -> Result<(), Error> {
    let mut writer = cache.begin_write("image")?;
    writer.write_chunk(&fs::read(path).unwrap())?;
    writer.commit()
}

/// Arguments of `qemu-img convert`: the format and its options.
const CONVERTED: &[(&str, &str)] = &[
    ("raw", ""),
    ("raw", "preallocation=falloc"),
    ("raw", "preallocation=full"),
    ("qcow2", ""),
    ("qcow2", "compat=0.10"),
    ("qcow2", "compat=1.1"),
    ("qcow2", "compat=v3"),
    ("qcow2", "cluster_size=512"),
    ("qcow2", "cluster_size=1k"),
    ("qcow2", "cluster_size=4k"),
    ("qcow2", "cluster_size=128k"),
    ("qcow2", "cluster_size=2M"),
    ("qcow2", "compat=0.10,cluster_size=512"),
    ("qcow2", "preallocation=metadata"),
    ("qcow2", "preallocation=falloc"),
    ("qcow2", "preallocation=full"),
    ("qcow2", "compat=0.10,preallocation=metadata"),
    ("qcow2", "lazy_refcounts=on"),
    ("qcow2", "refcount_bits=1"),
    ("qcow2", "refcount_bits=8"),
    ("qcow2", "refcount_bits=64"),
    ("qcow2", "extended_l2=on"),
    ("qcow2", "extended_l2=on,cluster_size=16k"),
    ("qcow2", "compression_type=zstd"),
    ("qcow2 -c", ""),
    ("qcow2 -c", "compression_type=zstd"),
    ("qcow2 -c", "compat=0.10"),
    ("qcow2 -c", "cluster_size=4k"),
    ("vmdk", ""),
    ("vmdk", "subformat=monolithicSparse,adapter_type=lsilogic"),
    ("vmdk", "subformat=monolithicSparse,zeroed_grain=on"),
    ("vmdk", "subformat=monolithicSparse,compat6=on"),
    ("vmdk", "subformat=streamOptimized"),
    ("vmdk", "subformat=streamOptimized,adapter_type=buslogic"),
    ("vpc", ""),
    ("vpc", "subformat=dynamic"),
    ("vpc", "subformat=dynamic,force_size=on"),
    ("vpc", "subformat=fixed"),
    ("vpc", "subformat=fixed,force_size=on"),
    ("vhdx", ""),
    ("vhdx", "block_size=1M"),
    ("vhdx", "block_size=16M,log_size=2M"),
    ("vhdx", "subformat=fixed"),
];

/// More commands that end with the image `image`, for a shell.
const COMMANDS: &[(&str, &str)] = &[
    ("qcow2", "qemu-img create -q -f qcow2 image 0"),
    ("qcow2", "qemu-img create -q -f qcow2 image 20G"),
    ("qcow2", "qemu-img create -q -f qcow2 image 20G && qemu-img resize -q image 40G"),
    (
        "qcow2",
        "qemu-img convert -O qcow2 disk image && qemu-img snapshot -c one image && qemu-img snapshot -c two image",
    ),
    ("qcow2", "qemu-img convert -O qcow2 -o compat=0.10 disk image && qemu-img snapshot -c one image"),
    ("qcow2", "qemu-img convert -O qcow2 disk image && qemu-img bitmap --add image one"),
    ("qcow2", "qemu-img convert -O qcow2 -o compat=0.10 disk image && qemu-img amend -o compat=1.1 image"),
    ("qcow2", "qemu-img create -q -f qcow2 -b disk -F raw image && qemu-img rebase -f qcow2 -b '' image"),
    ("vmdk", "qemu-img create -q -f vmdk image 20G"),
    ("vpc", "qemu-img create -q -f vpc image 20G"),
    ("vhdx", "qemu-img create -q -f vhdx image 20G"),
    ("raw", "qemu-img create -q -f raw image 0"),
    ("raw", "qemu-img create -q -f raw image 511"),
    ("iso", "xorriso -as mkisofs -quiet -o image files"),
    ("iso", "xorriso -as mkisofs -quiet -J -R -V A_VOLUME -o image files"),
    ("iso", "xorriso -as mkisofs -quiet -iso-level 3 -partition_offset 16 -o image files"),
];

/// The image's format by the names of this library. qemu calls VHD vpc, and opens a fixed one and an ISO image as raw.
fn ours(format: &str) -> &str {
    if format == "vpc" { "vhd" } else { format }
}

pub fn good() -> Completion {
    if let Some(missing) = missing(&["qemu-img", "xorriso"]) {
        return missing;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    make_disk(directory);
    fs::create_dir(directory.join("files")).unwrap();
    fs::write(directory.join("files/user-data"), b"#cloud-config\n").unwrap();
    let convert = |(format, options): &(&'static str, &str)| {
        let options = if options.is_empty() { String::new() } else { format!("-o {options}") };
        let kind = format.split(' ').next().unwrap();
        (kind, format!("qemu-img convert -f raw -O {format} {options} disk image"))
    };
    let commands =
        CONVERTED.iter().map(convert).chain(COMMANDS.iter().map(|(kind, command)| (*kind, (*command).to_owned())));
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let all = scratch.open_with(scratch.options.clone().formats(ALL).unwrap());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (kind, command) in commands {
        let _ = fs::remove_file(directory.join("image"));
        run("sh", directory, &["-c", &command]);
        count += 1;
        let info = Info::of(directory, "image");
        assert!(info.is_self_contained(), "{command}: {}", info.0);
        let is_raw_to_qemu = kind == "iso" || command.contains("subformat=fixed") && kind == "vpc";
        assert_eq!(info.format(), if is_raw_to_qemu { "raw" } else { kind }, "{command}");
        let own = scratch.open_with(scratch.options.clone().formats(ours(kind)).unwrap());
        for cache in [&own, &all] {
            match cached(cache, &directory.join("image")) {
                Ok(()) => cache.delete_cached_image("image").unwrap(),
                Err(error) => wrong.push(format!("{command}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "of {count}:\n{}", wrong.join("\n"));
    assert!(count >= 40);
    Completion::Completed
}

const SECRET: &str = "--object secret,id=s,data=secret";

pub fn not_self_contained() -> Completion {
    if let Some(missing) = missing(&["qemu-img"]) {
        return missing;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    make_disk(directory);
    let encrypted =
        |format: &str, options: &str| format!("qemu-img create -q {SECRET} -f {format} -o {options} image 8M");
    let commands = [
        ("a backing file", "qemu-img create -q -f qcow2 -b disk -F raw image".to_owned()),
        ("a backing file", "qemu-img create -q -f qcow2 -o compat=0.10 -b disk -F raw image".to_owned()),
        ("an external data file", "qemu-img create -q -f qcow2 -o data_file=data image 8M".to_owned()),
        ("an external data file", "qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=on image 8M".to_owned()),
        ("encrypted", encrypted("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10")),
        ("encrypted", encrypted("qcow2", "encrypt.format=aes,encrypt.key-secret=s")),
        ("luks", encrypted("luks", "key-secret=s,iter-time=10")),
        (
            "a parent",
            "qemu-img convert -O vmdk disk base && qemu-img create -q -f vmdk -b base -F vmdk image".to_owned(),
        ),
        ("vmdk (a text", "qemu-img create -q -f vmdk -o subformat=monolithicFlat image 8M".to_owned()),
        ("vmdk (a text", "qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse image 8M".to_owned()),
        ("vmdk (a text", "qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentFlat image 8M".to_owned()),
        ("qed", "qemu-img create -q -f qed image 8M".to_owned()),
        ("qcow, which", "qemu-img create -q -f qcow image 8M".to_owned()),
        ("vdi", "qemu-img create -q -f vdi image 8M".to_owned()),
        ("parallels", "qemu-img create -q -f parallels image 8M".to_owned()),
    ];
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().formats(ALL).unwrap());
    for (expected, command) in commands {
        let _ = fs::remove_file(directory.join("image"));
        run("sh", directory, &["-c", &command]);
        let info = Info::of(directory, "image");
        let known = ["qcow2", "vmdk"].contains(&info.format()) && !expected.starts_with("vmdk");
        assert!(!known || !info.is_self_contained(), "{command}: {}", info.0);
        let error = cached(&cache, &directory.join("image")).expect_err(&command);
        assert!(matches!(&error, Error::Refused { why, .. } if why.contains(expected)), "{command}: {error}");
    }
    Completion::Completed
}

/// At most 1 MiB of each is read.
pub fn tebibyte() -> Completion {
    if let Some(missing) = missing(&["qemu-img"]) {
        return missing;
    }
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("image");
    let scratch = Scratch::new(DriverChoice::Sqlite);
    let cache = scratch.open_with(scratch.options.clone().formats(ALL).unwrap());
    for options in ["qcow2", "qcow2 -o cluster_size=16k", "qcow2 -o extended_l2=on", "vmdk", "vpc", "vhdx"] {
        run("sh", directory.path(), &["-c", &format!("qemu-img create -q -f {options} image 1T")]);
        cached(&cache, &path).unwrap_or_else(|error| panic!("{options}: {error}"));
        cache.delete_cached_image("image").unwrap();
    }
    Completion::Completed
}
