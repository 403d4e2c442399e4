//! Sources of images: good ones, and those that are slow, hang, fail, end early or return more than was requested.

use std::io;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use image_cache::RangeSource;

use crate::images::Image;

/// What is wrong with a source. Its own stream may fail then, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: its stream must deliver the image.
    None,
    /// From some call on, it fails.
    Fails,
    /// From some call on, it returns 0.
    EndsEarly,
    /// At some call, it returns more than was requested.
    ReturnsMore,
}

pub struct Source {
    image: &'static Image,
    random: Rng,
    pub fault: Fault,
    /// The calls until the fault.
    left: u32,
    /// The longest time of a usual call, in microseconds.
    latency: u64,
    /// The most that a call returns, in bytes.
    piece: usize,
    /// So many calls hang, for 250 to 700 ms.
    hangs: u32,
    /// It is never called beyond this offset, which its stream expects as the size.
    pub limit: Option<u64>,
}

impl Source {
    /// A random source of the image.
    pub fn random(image: &'static Image, random: &mut Rng) -> Self {
        let fault = match random.u32(..10) {
            0 => Fault::Fails,
            1 => Fault::EndsEarly,
            2 => Fault::ReturnsMore,
            _ => Fault::None,
        };
        Self {
            image,
            fault,
            left: random.u32(..12),
            latency: if random.bool() { 0 } else { random.u64(100..4_000) },
            piece: match random.u32(..4) {
                0 => random.usize(1_000..30_000),
                1 => 64 << 10,
                _ => usize::MAX,
            },
            hangs: random.u32(..8).saturating_sub(5),
            limit: None,
            random: random.fork(),
        }
    }

    /// A good source, as fast as memory.
    pub fn good(image: &'static Image) -> Self {
        let random = Rng::with_seed(image.size);
        let (fault, piece) = (Fault::None, usize::MAX);
        Self { image, random, fault, left: 0, latency: 0, piece, hangs: 0, limit: None }
    }
}

impl RangeSource for Source {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.limit.is_some_and(|limit| offset + buffer.len() as u64 > limit) {
            let length = buffer.len();
            return Err(io::Error::other(format!("called for {length} bytes at {offset}, beyond {:?}", self.limit)));
        }
        if self.random.u32(..40) == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let hangs = self.hangs > 0 && self.random.u32(..12) == 0;
        self.hangs -= u32::from(hangs);
        let micros = if hangs { self.random.u64(250_000..700_000) } else { self.random.u64(..=self.latency) };
        // A sleep is right here: it is the source's latency.
        thread::sleep(Duration::from_micros(micros));
        if self.left == 0 && self.fault != Fault::None {
            match self.fault {
                Fault::Fails => return Err(io::Error::other("a planned failure")),
                Fault::EndsEarly => return Ok(0),
                _ => return Ok(buffer.len() + 1),
            }
        }
        self.left = self.left.saturating_sub(1);
        let left = usize::try_from(self.image.size.saturating_sub(offset)).unwrap();
        let length = left.min(buffer.len()).min(self.piece);
        self.image.fill(offset, &mut buffer[..length]);
        Ok(length)
    }
}

/// The image from its beginning, for a tee.
pub struct Sequential {
    pub source: Source,
    pub position: u64,
}

impl io::Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read_at(self.position, buffer)?;
        self.position += length as u64;
        Ok(length)
    }
}
