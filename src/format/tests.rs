//! The inspection within its bounds: what it reads, and random damage to images of every format.

use std::cell::Cell;

use crate::error::Result;
use crate::format::builders::{self, Made};
use crate::format::reading::{Failure, MAX_READ, Source};
use crate::format::{Formats, inspect};

const ALL: &str = "raw,qcow2,vmdk,vhd,vhdx,iso";

/// An image in memory, which counts what is read of it.
struct Bytes {
    bytes: Vec<u8>,
    read: Cell<u64>,
}

impl Bytes {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, read: Cell::new(0) }
    }
}

impl Source for Bytes {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read.set(self.read.get() + length as u64);
        Ok(length)
    }
}

fn verdict(source: &dyn Source) -> std::result::Result<(), Failure> {
    inspect(source, Formats::parse(ALL).unwrap())
}

/// An image of each format, and of each kind of it that has other structures.
fn images() -> [Made; 10] {
    [
        builders::raw(),
        builders::qcow2(2),
        builders::qcow2(3),
        builders::vmdk(),
        builders::vmdk_with_a_new_cid(),
        builders::vmdk_stream(),
        builders::vhd_fixed(),
        builders::vhd_dynamic(),
        builders::vhdx(),
        builders::iso(),
    ]
}

/// Damage: numbers that are at limits, random bytes, a shorter file.
fn damage(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const NUMBERS: [u64; 10] =
        [0, 1, 0x1ff, 0xffff, 1 << 16, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, u64::MAX];
    for _ in 0..random.usize(1..4) {
        // Most fields are at the beginning or at the end, and some are at multiples of 64 KiB.
        let length = bytes.len();
        let near = match random.u8(0..4) {
            0 => length.saturating_sub(2048),
            1 => random.usize(0..length.div_ceil(65536)) * 65536,
            _ => 0,
        };
        let at = (near + random.usize(0..1536)).min(length.saturating_sub(8));
        let number = if random.bool() { NUMBERS[random.usize(0..NUMBERS.len())] } else { random.u64(..) };
        let number = if random.bool() { number.to_be_bytes() } else { number.to_le_bytes() };
        let width = 1 << random.u8(0..4);
        if let Some(place) = bytes.get_mut(at..at + width) {
            place.copy_from_slice(&number[8 - width..]);
        }
    }
    if random.u8(0..16) == 0 {
        let length = bytes.len();
        bytes.truncate(random.usize(0..length));
    }
}

#[test]
fn damaged_images_neither_panic_nor_exceed_what_is_read() {
    let (mut refused, mut accepted, mut most) = (0, 0, 0);
    for Made(image) in images() {
        assert_eq!(verdict(&Bytes::new(image.clone())), Ok(()));
        let mut random = fastrand::Rng::with_seed(5);
        // A copy of the image costs more than its inspection.
        for _ in 0..400 {
            let mut bytes = image.clone();
            damage(&mut random, &mut bytes);
            let bytes = Bytes::new(bytes);
            match verdict(&bytes) {
                Ok(()) => accepted += 1,
                Err(Failure::Unsafe(_)) => refused += 1,
                Err(Failure::Unread(error)) => panic!("{error}"),
            }
            most = bytes.read.get().max(most);
        }
    }
    assert!(refused > 100 && accepted > 100 && most > 0, "{refused} refused, {accepted} accepted");
    assert!(most <= MAX_READ, "{most} bytes were read");
}
