//! Small images of each format, for tests: the fields that the formats' specifications require, at their offsets. A test changes one of
//! them. `tests/formats` includes this file, too.

/// An image that is being made.
#[derive(Clone)]
pub struct Made(pub Vec<u8>);

impl Made {
    fn new(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// Puts bytes at an offset. The image becomes longer if they are behind its end.
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn be32(&mut self, at: usize, number: u32) -> &mut Self {
        self.put(at, &number.to_be_bytes())
    }

    pub fn be64(&mut self, at: usize, number: u64) -> &mut Self {
        self.put(at, &number.to_be_bytes())
    }

    pub fn le16(&mut self, at: usize, number: u16) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    pub fn le32(&mut self, at: usize, number: u32) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    pub fn le64(&mut self, at: usize, number: u64) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    /// Replaces each occurrence of a text by one that is not longer, and by spaces.
    pub fn replace(&mut self, text: &[u8], by: &[u8]) -> &mut Self {
        assert!(by.len() <= text.len(), "the new text is too long");
        let mut padded = by.to_vec();
        padded.resize(text.len(), b' ');
        let places: Vec<_> = (0..self.0.len()).filter(|at| self.0[*at..].starts_with(text)).collect();
        assert!(!places.is_empty(), "there is no such text");
        for at in places {
            self.0[at..at + padded.len()].copy_from_slice(&padded);
        }
        self
    }

    /// The checksum of a VHD structure of that length, of which the checksum is at `place`.
    fn vhd_checksum(&mut self, at: usize, length: usize, place: usize) -> &mut Self {
        self.be32(at + place, 0);
        let sum = self.0[at..at + length].iter().fold(0, |sum: u32, byte| sum.wrapping_add(u32::from(*byte)));
        self.be32(at + place, !sum)
    }

    /// The checksums of a dynamic VHD, and its second footer.
    pub fn vhd_finish(&mut self) -> &mut Self {
        self.vhd_checksum(0, 512, 64).vhd_checksum(512, 1024, 36);
        let footer = self.0[..512].to_vec();
        let end = self.0.len() - 512;
        self.put(end, &footer)
    }

    /// The same of a fixed one.
    pub fn vhd_fixed_finish(&mut self) -> &mut Self {
        let end = self.0.len() - 512;
        self.vhd_checksum(end, 512, 64)
    }
}

pub fn raw() -> Made {
    let mut made = Made::new(64 << 10);
    made.put(510, b"\x55\xaa").put(4096, b"the content of a disk");
    made
}

/// Clusters of 4 KiB: header, refcount table, refcount block, L1, L2, one of data. 1 GiB.
pub fn qcow2(version: u32) -> Made {
    const CLUSTER: u64 = 4096;
    let mut made = Made::new(6 * 4096);
    made.put(0, b"QFI\xfb").be32(4, version).be32(20, 12).be64(24, 1 << 30);
    made.be32(36, 512).be64(40, 3 * CLUSTER).be64(48, CLUSTER).be32(56, 1);
    made.be64(4096, 2 * CLUSTER).be64(3 * 4096, (1 << 63) | (4 * CLUSTER)).be64(4 * 4096, (1 << 63) | (5 * CLUSTER));
    if version == 3 {
        made.be32(96, 4).be32(100, 112);
    }
    made
}

/// Of 1 GiB, with grains of 64 KiB: header, descriptor of 1 sector, redundant directory, directory, a table.
pub fn vmdk() -> Made {
    let mut made = Made::new(64 << 10);
    made.put(0, b"KDMV").le32(4, 1).le32(8, 3).le64(12, 1 << 21).le64(20, 128).le64(28, 1).le64(36, 2).le32(44, 512);
    made.le64(48, 3).le64(56, 8).le64(64, 128).put(73, b"\n \r\n");
    made.put(
        512,
        b"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\
          # Extent description\nRW 2097152 SPARSE \"disk.vmdk\"\nddb.adapterType = \"ide\"\nddb.comment = \"nothing of importance\"\n",
    );
    made.le32(3 * 512, 16).le32(8 * 512, 24);
    made
}

/// As qemu leaves it when it has written a CID of one digit in place of eight: the end of the former text is still there.
pub fn vmdk_with_a_new_cid() -> Made {
    let mut made = vmdk();
    let end = vmdk_text_end(&made);
    let text = String::from_utf8(made.0[512..end].to_vec()).unwrap().replace("CID=12345678", "CID=1");
    made.put(512, text.as_bytes()).put(512 + text.len(), &[0]);
    made
}

/// Where the text of its descriptor ends.
pub fn vmdk_text_end(made: &Made) -> usize {
    512 + made.0[512..].iter().position(|byte| *byte == 0).unwrap()
}

/// With a footer, which says where the directory is.
pub fn vmdk_stream() -> Made {
    let mut made = vmdk();
    made.replace(b"monolithicSparse", b"streamOptimized\"").replace(b"streamOptimized\"\"", b"streamOptimized\" ");
    made.le32(4, 3).le32(8, 0x0003_0001).le64(48, 0).le16(77, 1);
    let mut footer = made.0[..512].to_vec();
    footer[56..64].copy_from_slice(&8_u64.to_le_bytes());
    made.le64(56, u64::MAX);
    let end = made.0.len();
    made.le64(end, 1).le32(end + 8, 0).le32(end + 12, 3).put(end + 512, &footer).put(end + 1024, &[0; 512]);
    made
}

fn vhd_footer(made: &mut Made, at: usize, size: u64, kind: u32, data: u64) {
    made.put(at, b"conectix").be32(at + 8, 2).be32(at + 12, 0x0001_0000).be64(at + 16, data);
    made.be64(at + 40, size).be64(at + 48, size).be32(at + 60, kind).put(at + 68, b"a unique number!");
}

pub fn vhd_fixed() -> Made {
    let mut made = Made::new((64 << 10) + 512);
    vhd_footer(&mut made, 64 << 10, 64 << 10, 2, u64::MAX);
    made.vhd_fixed_finish();
    made
}

/// Footer, header, table, a block of 64 KiB with its bitmap, footer. 1 MiB.
pub fn vhd_dynamic() -> Made {
    let mut made = Made::new(2048 + 512 + (64 << 10) + 512);
    vhd_footer(&mut made, 0, 1 << 20, 3, 512);
    made.put(512, b"cxsparse")
        .be64(520, u64::MAX)
        .be64(528, 1536)
        .be32(536, 0x0001_0000)
        .be32(540, 16)
        .be32(544, 64 << 10);
    made.put(1536, &[255; 512]).be32(1536, 4).vhd_finish();
    made
}

/// Of 8 MiB with blocks of 1 MiB: header section, log, block allocation table, metadata, a block.
pub fn vhdx() -> Made {
    const MIB: usize = 1 << 20;
    let mut made = Made::new(5 * MIB);
    made.put(0, b"vhdxfile");
    for at in [64 << 10, 128 << 10] {
        made.put(at, b"head").le16(at + 66, 1).le32(at + 68, 1 << 20).le64(at + 72, 1 << 20);
    }
    let bat = b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
    let metadata = b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
    for at in [192 << 10, 256 << 10] {
        made.put(at, b"regi").le32(at + 8, 2);
        for (at, guid, place) in [(at + 16, bat, 2_u64 << 20), (at + 48, metadata, 3 << 20)] {
            made.put(at, guid).le64(at + 16, place).le32(at + 24, 1 << 20).le32(at + 28, 1);
        }
    }
    made.le64(2 * MIB, (4 << 20) | 6);
    let items: [(&[u8; 16], u32, &[u8]); 3] = [
        (b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", 4, &[0, 0, 16, 0, 0, 0, 0, 0]),
        (b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8", 6, &[0, 0, 128, 0, 0, 0, 0, 0]),
        (b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f", 6, &[0, 2, 0, 0]),
    ];
    made.put(3 * MIB, b"metadata").le16(3 * MIB + 10, 3);
    for (place, (guid, flags, value)) in items.iter().enumerate() {
        let (at, data) = (3 * MIB + 32 + place * 32, (64 << 10) + place * 64);
        made.put(at, *guid).put(at + 16, &u32::try_from(data).unwrap_or(0).to_le_bytes());
        made.put(at + 20, &u32::try_from(value.len()).unwrap_or(0).to_le_bytes()).le32(at + 24, *flags);
        made.put(3 * MIB + data, value);
    }
    made
}

/// Two descriptors and a root directory.
pub fn iso() -> Made {
    let mut made = Made::new(20 * 2048);
    for (sector, kind) in [(16, 1), (17, 255)] {
        made.put(sector * 2048, &[kind]).put(sector * 2048 + 1, b"CD001\x01");
    }
    let at = 16 * 2048;
    made.le32(at + 80, 20).be32(at + 84, 20).put(at + 128, &[0, 8, 8, 0]).le32(at + 158, 19).le32(at + 166, 2048);
    made
}
