//! Images that attack the host that opens them. Each is a good image with one change, and names what it attacks.

use image_cache::{DriverChoice, Error, ImageCache, Result};

use crate::builders::{Made, iso, qcow2, raw, vhd_dynamic, vhd_fixed, vhdx, vmdk, vmdk_stream, vmdk_text_end};
use crate::common::Scratch;

pub const ALL: &str = "raw,qcow2,vmdk,vhd,vhdx,iso";
const MIB: usize = 1 << 20;

/// What it attacks, the image, and a part of the reason for which it is refused.
struct Attack(&'static str, Made, &'static str);

fn changed(mut image: Made, change: impl FnOnce(&mut Made) -> &mut Made) -> Made {
    change(&mut image);
    image
}

fn attacks() -> Vec<Attack> {
    let mut all = qcow2_attacks();
    all.extend(vmdk_attacks());
    all.extend(vmdk_hints());
    all.extend(vhd_attacks());
    all.extend(vhdx_attacks());
    all.extend(hidden_formats());
    all
}

fn qcow2_attacks() -> Vec<Attack> {
    let q = |change: fn(&mut Made) -> &mut Made| changed(qcow2(3), change);
    vec![
        Attack(
            "reads /etc/passwd as backing file (CVE-2026-24708, CVE-2015-5163)",
            q(|i| i.be64(8, 600).be32(16, 11).put(600, b"/etc/passwd")),
            "backing file",
        ),
        Attack(
            "the same, version 2",
            changed(qcow2(2), |i| i.be64(8, 600).be32(16, 11).put(600, b"/etc/passwd")),
            "backing file",
        ),
        Attack("a backing file whose name is empty", q(|i| i.be64(8, 600)), "backing file"),
        Attack(
            "names the format of a backing file",
            q(|i| i.be32(112, 0xe279_2aca).be32(116, 3).put(120, b"raw")),
            "backing file",
        ),
        Attack(
            "reads a host file as external data file (CVE-2024-32498)",
            q(|i| i.be64(72, 4).be32(112, 0x4441_5441).be32(116, 11).put(120, b"/etc/passwd")),
            "external data file",
        ),
        Attack(
            "a data file with a json: name (CVE-2024-4467)",
            q(|i| i.be32(112, 0x4441_5441).be32(116, 21).put(120, b"json:{\"driver\":\"nbd\"}")),
            "external data file",
        ),
        Attack("a raw external data file, by an autoclear bit", q(|i| i.be64(88, 2)), "external data file"),
        Attack("a feature that only a newer program knows", q(|i| i.be64(72, 1 << 5)), "unknown incompatible feature"),
        Attack("the highest incompatible bit", q(|i| i.be64(72, 1 << 63)), "unknown incompatible feature"),
        Attack("metadata that is marked as corrupt", q(|i| i.be64(72, 2)), "corrupt"),
        Attack("AES encryption", q(|i| i.be32(32, 1)), "encrypted"),
        Attack("LUKS encryption", q(|i| i.be32(32, 2)), "encrypted"),
        Attack("an encryption header", q(|i| i.be32(112, 0x0537_be77).be32(116, 16)), "encrypted"),
        Attack("an unknown version", q(|i| i.be32(4, 4)), "version"),
        Attack("clusters of 2^63 bytes", q(|i| i.be32(20, 63)), "cluster size"),
        Attack("a shift by 2^32 - 1", q(|i| i.be32(20, u32::MAX)), "cluster size"),
        Attack("an L1 table of 32 GiB (CVE-2014-0144)", q(|i| i.be32(36, u32::MAX)), "L1 table is too large"),
        Attack("an L1 table behind the end", q(|i| i.be64(40, 1 << 40)), "L1 table is not within the file"),
        Attack("an L1 offset that overflows", q(|i| i.be64(40, u64::MAX - 4095)), "L1 table is not within the file"),
        Attack("an L1 table that is not aligned", q(|i| i.be64(40, 3 * 4096 + 8)), "does not begin at a cluster"),
        Attack("an L1 table in the header", q(|i| i.be64(40, 0)), "overlaps"),
        Attack(
            "a disk of 8 EiB in a file of 24 KiB (CVE-2015-5162)",
            q(|i| i.be64(24, i64::MAX as u64)),
            "too small for its virtual size",
        ),
        Attack(
            "a refcount table of 16 TiB (CVE-2014-0144)",
            q(|i| i.be32(56, u32::MAX)),
            "refcount table is too large",
        ),
        Attack("no refcount table", q(|i| i.be32(56, 0)), "no refcount table"),
        Attack("a refcount table over the L1 table", q(|i| i.be64(48, 3 * 4096)), "overlaps"),
        Attack("refcounts of 2^32 bits (CVE-2014-0147)", q(|i| i.be32(96, 32)), "refcounts"),
        Attack(
            "an L2 table in the header, so that the guest writes a backing file into it",
            q(|i| i.be64(3 * 4096, (1 << 63) | 512)),
            "does not begin at a cluster",
        ),
        Attack("an L2 table over the L1 table", q(|i| i.be64(3 * 4096, (1 << 63) | (3 * 4096))), "overlaps"),
        Attack("an L2 table behind the end", q(|i| i.be64(3 * 4096 + 8, 1 << 40)), "not within the file"),
        Attack("a refcount block over the refcount table", q(|i| i.be64(4096, 4096)), "overlaps"),
        Attack("an unknown bit in a table", q(|i| i.be64(3 * 4096, (4 * 4096) | 1)), "unknown bits"),
        Attack("2^32 snapshots (CVE-2014-0145)", q(|i| i.be32(60, u32::MAX)), "too many snapshots"),
        Attack("a snapshot behind the end", q(|i| i.be32(60, 1).be64(64, 1 << 41)), "snapshots"),
        Attack(
            "the L1 table of a snapshot over the header",
            q(|i| i.be32(60, 1).be64(64, 6 * 4096).put(6 * 4096, &[0; 48]).be32(6 * 4096 + 8, 1)),
            "overlaps",
        ),
        Attack(
            "a header extension of 4 GiB (CVE-2014-0143)",
            q(|i| i.be32(112, 0x6803_f857).be32(116, u32::MAX)),
            "longer than its header",
        ),
        Attack(
            "a bitmap directory behind the end",
            q(|i| i.be32(112, 0x2385_2875).be32(116, 24).be64(128, 512).be64(136, 1 << 40)),
            "bitmap directory",
        ),
        Attack("an unknown compression", q(|i| i.be64(72, 8).put(104, &[9])), "compression"),
        Attack("an unknown field in the header", q(|i| i.put(106, &[1])), "unknown field"),
        Attack("a header of 2 GiB", q(|i| i.be32(100, 0x7fff_fff8)), "length of its header"),
        Attack("a header that was cut off", Made(qcow2(3).0[..80].to_vec()), "header is not within the file"),
    ]
}

/// qemu looks for a parent in all of the bytes behind the header.
fn vmdk_hints() -> Vec<Attack> {
    let v = |change: fn(&mut Made) -> &mut Made| changed(vmdk(), change);
    vec![
        Attack(
            "a hint at a parent in a comment",
            v(|i| i.replace(b"# Extent description\nRW", b"#parentCID=12345678\nRW")),
            "it has a parent",
        ),
        Attack(
            "a hint at a parent as the value of another key",
            v(|i| i.replace(b"nothing of importance", b"parentFileNameHint=/x")),
            "names a parent",
        ),
        Attack(
            "a hint at a parent as another key",
            v(|i| i.replace(b"ddb.comment = \"nothing of importance\"", b"ddb.parentFileNameHint=\"/etc/hosts\"")),
            "names a parent",
        ),
        Attack(
            "a hint at a parent as the name of an extent",
            v(|i| {
                i.replace(b"ddb.comment = \"nothing of importance\"\n", b"")
                    .replace(b"\"disk.vmdk\"\nddb.adapterType = \"ide\"", b"\"PARENTfilenamehint=.vmdk\"")
            }),
            "names a parent",
        ),
        Attack(
            "a hint at a parent behind the descriptor",
            v(|i| i.put(10 * 512, b"parentFileNameHint=\"/etc/passwd\"")),
            "names a parent",
        ),
        Attack(
            "a descriptor elsewhere, so that qemu finds a hint at a parent behind the header",
            v(|i| {
                let descriptor = i.0[512..1536].to_vec();
                i.put(64 << 10, &descriptor).le64(28, 128).put(512, b"parentFileNameHint=\"/etc/passwd\"")
            }),
            "does not follow",
        ),
    ]
}

fn behind_the_text<'a>(made: &'a mut Made, bytes: &[u8]) -> &'a mut Made {
    let end = vmdk_text_end(made);
    made.put(end + 1, bytes)
}

fn vmdk_attacks() -> Vec<Attack> {
    let v = |change: fn(&mut Made) -> &mut Made| changed(vmdk(), change);
    let text = |text: &[u8]| changed(raw(), |i| i.put(0, text));
    vec![
        Attack(
            "reads /etc/shadow as a flat extent",
            v(|i| i.replace(b"2097152 SPARSE \"disk.vmdk\"", b"20971 FLAT \"/etc/shadow\" 0")),
            "extent",
        ),
        Attack("a sparse extent with a path", v(|i| i.replace(b"\"disk.vmdk\"", b"\"/tmp/disk\"")), "path"),
        Attack(
            "a second extent",
            v(|i| i.replace(b"ddb.comment = \"nothing of importance\"", b"RW 1 SPARSE \"a name of another file\"\n")),
            "one extent",
        ),
        Attack(
            "a hint at a parent",
            v(|i| i.replace(b"ddb.comment = \"nothing of importance\"", b"parentFileNameHint=\"/etc/passwd\"    ")),
            "unknown line",
        ),
        Attack("the CID of a parent", v(|i| i.replace(b"parentCID=ffffffff", b"parentCID=12345678")), "parent"),
        Attack("an image of several files", v(|i| i.replace(b"monolithicSparse", b"twoGbMaxExtentSp")), "type"),
        Attack("a text behind the end of the descriptor", v(|i| i.put(512 + 1000, b"RW 1 FLAT")), "after its end"),
        Attack(
            "a word behind the end that is not the text's last one",
            v(|i| behind_the_text(i, b"CID=2\n")),
            "after its end",
        ),
        Attack("the text's last line, a second time", v(|i| behind_the_text(i, b"rtance\"\n")), "after its end"),
        Attack("a capacity of 0, so that qemu opens the descriptor's files", v(|i| i.le64(12, 0)), "capacity"),
        Attack("a capacity that overflows", v(|i| i.le64(12, u64::MAX)), "capacity"),
        Attack("no descriptor", v(|i| i.le64(28, 0)), "no descriptor"),
        Attack("a descriptor of 2^63 sectors", v(|i| i.le64(36, 1 << 63)), "descriptor is too long"),
        Attack("a descriptor behind the end", v(|i| i.le64(28, 1 << 40)), "descriptor is not within"),
        Attack("a descriptor offset that overflows", v(|i| i.le64(28, u64::MAX)), "larger than a file"),
        Attack("grains of 0 sectors, a division by zero", v(|i| i.le64(20, 0)), "grain size"),
        Attack("grain tables of 2^32 entries (CVE-2014-0144)", v(|i| i.le32(44, u32::MAX)), "grain tables"),
        Attack("grain tables of 0 entries", v(|i| i.le32(44, 0)), "grain tables"),
        Attack("a grain directory behind the end", v(|i| i.le64(56, 1 << 40)), "grain directory is not within"),
        Attack("a grain directory over the descriptor", v(|i| i.le64(56, 1)), "overlaps"),
        Attack("a grain table behind the end", v(|i| i.le32(8 * 512, u32::MAX)), "grain table is not within"),
        Attack("an unknown flag", v(|i| i.le32(8, 3 | 1 << 5)), "unknown flag"),
        Attack("an unknown compression", v(|i| i.le16(77, 7)), "compression"),
        Attack(
            "a footer with another descriptor than the header",
            changed(vmdk_stream(), |i| {
                let end = i.0.len();
                i.le64(end - 1024 + 28, 40)
            }),
            "footer contradicts",
        ),
        Attack(
            "a footer with a capacity of 0",
            changed(vmdk_stream(), |i| {
                let end = i.0.len();
                i.le64(end - 1024 + 12, 0)
            }),
            "footer contradicts",
        ),
        Attack(
            "a missing footer",
            changed(vmdk_stream(), |i| {
                let end = i.0.len();
                i.le32(end - 1536 + 12, 0)
            }),
            "no footer",
        ),
        Attack(
            "a text that reads /etc/passwd, as raw",
            text(b"# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n"),
            "never accepted",
        ),
        Attack(
            "the same after a comment and blank lines",
            text(b"#x\n  \r\n#y\nversion=3\nRW 1 FLAT \"/etc/passwd\" 0\n"),
            "never accepted",
        ),
        Attack("an ESX server extent, as raw", text(b"COWD\x01\0\0\0"), "never accepted"),
    ]
}

fn vhd_attacks() -> Vec<Attack> {
    const FOOTER: usize = 64 << 10;
    let d = |change: fn(&mut Made) -> &mut Made| changed(vhd_dynamic(), |i| change(i).vhd_finish());
    let f = |change: fn(&mut Made) -> &mut Made| changed(vhd_fixed(), |i| change(i).vhd_fixed_finish());
    vec![
        Attack("a differencing disk", d(|i| i.be32(60, 4)), "parent"),
        Attack("the name of a parent", d(|i| i.put(512 + 64, b"\0C\0:\0\\")), "parent"),
        Attack("a locator of a parent", d(|i| i.put(512 + 576, b"W2ku")), "parent"),
        Attack("an unknown type", d(|i| i.be32(60, 9)), "type"),
        Attack(
            "two footers that differ",
            changed(vhd_dynamic(), |i| {
                let end = i.0.len();
                i.be64(end - 512 + 48, 1).be32(end - 512 + 64, 0xffff_fae3)
            }),
            "footer",
        ),
        Attack("a wrong checksum", changed(vhd_fixed(), |i| i.be32(FOOTER + 64, 0)), "checksum"),
        Attack(
            "no footer at the end",
            changed(vhd_dynamic(), |i| {
                let end = i.0.len();
                i.put(end, b"more")
            }),
            "footer",
        ),
        Attack("a fixed disk longer than its file", f(|i| i.be64(FOOTER + 48, 1 << 40)), "longer than its file"),
        Attack("blocks of 0 bytes, a division by zero", d(|i| i.be32(512 + 32, 0)), "block size"),
        Attack("a table of 16 GiB (CVE-2014-0144)", d(|i| i.be32(512 + 28, u32::MAX)), "not within the file"),
        Attack("a table too small for its disk", d(|i| i.be64(48, 1 << 40)), "too small"),
        Attack("a table offset that overflows", d(|i| i.be64(512 + 16, u64::MAX)), "not within the file"),
        Attack("a header behind the end", d(|i| i.be64(16, 1 << 40)), "dynamic header is not within"),
        Attack("a block over the footer, so that the guest writes it", d(|i| i.be32(1536, 0)), "overlaps"),
        Attack("a block behind the end", d(|i| i.be32(1540, 1 << 30)), "block is not within"),
    ]
}

fn vhdx_attacks() -> Vec<Attack> {
    const PARAMETERS: usize = 3 * MIB + (64 << 10);
    const LOCATOR: &[u8] = b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
    let v = |change: fn(&mut Made) -> &mut Made| changed(vhdx(), change);
    vec![
        Attack("the locator of a parent", v(|i| i.le16(3 * MIB + 10, 4).put(3 * MIB + 128, LOCATOR)), "parent"),
        Attack("the flag of a parent", v(|i| i.le32(PARAMETERS + 4, 2)), "parent"),
        Attack(
            "a log that rewrites the metadata when it is opened",
            v(|i| i.put((64 << 10) + 48, b"a log to replay!")),
            "replayed",
        ),
        Attack("a log in the second header only", v(|i| i.put((128 << 10) + 48, b"a log to replay!")), "replayed"),
        Attack("region tables that differ", v(|i| i.le64((256 << 10) + 48 + 16, 4 << 20)), "differ"),
        Attack(
            "an unknown region that is required",
            v(|i| {
                for at in [192 << 10, 256 << 10] {
                    i.le32(at + 8, 3).put(at + 80, b"an unknown guid!").le32(at + 80 + 28, 1);
                }
                i
            }),
            "unknown region",
        ),
        Attack("2^32 regions", v(|i| i.le32((192 << 10) + 8, u32::MAX)), "number of its regions"),
        Attack(
            "a region offset that overflows",
            v(|i| {
                for at in [192 << 10, 256 << 10] {
                    i.le64(at + 32, u64::MAX - 0xf_ffff);
                }
                i
            }),
            "not within the file",
        ),
        Attack(
            "a block allocation table over the metadata",
            v(|i| {
                for at in [192 << 10, 256 << 10] {
                    i.le64(at + 32, 3 << 20);
                }
                i
            }),
            "overlaps",
        ),
        Attack(
            "a metadata item outside of the metadata",
            v(|i| i.le32(3 * MIB + 32 + 16, 1 << 20)),
            "outside of the metadata",
        ),
        Attack(
            "an unknown item that is required",
            v(|i| i.le16(3 * MIB + 10, 4).put(3 * MIB + 128, b"an unknown guid!").le32(3 * MIB + 128 + 24, 4)),
            "unknown metadata item",
        ),
        Attack("blocks of 0 bytes, a division by zero", v(|i| i.le32(PARAMETERS, 0)), "block size"),
        Attack("a disk of 16 EiB", v(|i| i.put(PARAMETERS + 64, &[0xff; 8])), "size"),
        Attack("a disk larger than its table", v(|i| i.le64(PARAMETERS + 64, 32 << 40)), "too small"),
        Attack(
            "a block over the metadata, so that the guest writes it",
            v(|i| i.le64(2 * MIB, (3 << 20) | 6)),
            "overlaps",
        ),
        Attack("a block behind the end", v(|i| i.le64(2 * MIB, (1 << 40) | 6)), "block is not within"),
        Attack("a block that is partly the parent's", v(|i| i.le64(2 * MIB, (4 << 20) | 7)), "parent"),
    ]
}

/// A format that a program would find in an image that is taken for another one.
fn hidden_formats() -> Vec<Attack> {
    let begins = |bytes: &[u8]| changed(raw(), |i| i.put(0, bytes));
    vec![
        Attack(
            "qcow2 with a backing file in the system area of an ISO image",
            changed(iso(), |i| i.put(0, &qcow2(3).0[..4096])),
            "signatures of 2 formats",
        ),
        Attack(
            "VMDK in the system area of an ISO image",
            changed(iso(), |i| i.put(0, &vmdk().0[..4096])),
            "signatures of 2 formats",
        ),
        Attack(
            "qcow2 before the footer of a fixed VHD",
            changed(vhd_fixed(), |i| i.put(0, &qcow2(3).0)),
            "signatures of 2 formats",
        ),
        Attack(
            "an ISO image in a VHDX image",
            changed(vhdx(), |i| i.put(32768, &iso().0[32768..])),
            "signatures of 2 formats",
        ),
        Attack("QED, as raw", begins(b"QED\0"), "never accepted"),
        Attack("the first version of qcow, as raw", begins(b"QFI\xfb\0\0\0\x01"), "never accepted"),
        Attack("LUKS, as raw", begins(b"LUKS\xba\xbe\0\x01"), "never accepted"),
        Attack("VDI, as raw", changed(raw(), |i| i.put(0x40, b"\x7f\x10\xda\xbe")), "never accepted"),
        Attack("Parallels, as raw", begins(b"WithoutFreeSpace"), "never accepted"),
        Attack("the second version of Parallels, as raw", begins(b"WithouFreSpacExt"), "never accepted"),
        Attack("Bochs, as raw", begins(b"Bochs Virtual HD Image"), "never accepted"),
        Attack("cloop, as raw", begins(b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"), "never accepted"),
        Attack(
            "a disk image of Apple, as raw",
            changed(raw(), |i| {
                let end = i.0.len();
                i.put(end - 512, b"koly")
            }),
            "never accepted",
        ),
        Attack(
            "an ISO volume longer than its file",
            changed(iso(), |i| i.le32(32768 + 80, 1 << 30).be32(32768 + 84, 1 << 30)),
            "volume is not within",
        ),
        Attack("an ISO volume of two sizes", changed(iso(), |i| i.le32(32768 + 80, 1)), "byte orders"),
        Attack("ISO descriptors without an end", changed(iso(), |i| i.put(17 * 2048, &[2])), "descriptor"),
    ]
}

pub fn write(cache: &ImageCache, id: &str, bytes: &[u8]) -> Result<()> {
    let mut writer = cache.begin_write(id)?;
    writer.write_chunk(bytes)?;
    writer.commit()
}

pub fn malicious(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open_with(scratch.options.clone().formats(ALL).unwrap());
    let attacks = attacks();
    let mut wrong = Vec::new();
    for Attack(what, image, expected) in &attacks {
        match write(&cache, "image", &image.0) {
            Err(Error::Refused { why, .. }) if why.contains(expected) => {}
            Ok(()) => {
                cache.delete_cached_image("image").unwrap();
                wrong.push(format!("{what}: accepted"));
            }
            Err(error) => wrong.push(format!("{what}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "of {}:\n{}", attacks.len(), wrong.join("\n"));
    assert!(attacks.len() >= 40);
}
