//! The work of the comparison, for caches with a Rust API. `glance.py` does the same.

use std::path::Path;

use anyhow::Result;

use crate::bench::{Sizes, in_binary, with_commas};
use crate::caches::name_of;
use crate::content::random_bytes;
use crate::measure::{latencies, quantile, seconds};
use crate::peers::Figures;
use crate::quantity::Quantity;
use crate::rows::growth::{HIT, IS_CACHED, LIST, PRUNE, SIZE};

/// The amount of work.
pub struct Work {
    /// Numbers of images, ascending. Fewer than in the rows, since the peers' cost grows with them.
    pub counts: Vec<usize>,
    pub stream: usize,
}

impl Work {
    pub fn of(sizes: &Sizes) -> Self {
        let counts = if sizes.counts.len() > 2 { vec![1_000, 4_000, 16_000] } else { vec![500, 2_000] };
        Self { counts, stream: sizes.stream }
    }
}

/// A cache with a Rust API. It does not sync, since Glance never does.
pub trait Peer {
    fn cache(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    fn hit(&mut self, name: &str) -> Result<()>;
    fn is_cached(&mut self, name: &str) -> Result<bool>;
    /// The size of all images; `None` if the cache has no such operation.
    fn size(&mut self) -> Result<Option<u64>>;
    fn list(&mut self) -> Result<usize>;
    /// Evicts the least recently used images until so many bytes are left. Returns the seconds; `None` if the cache has no
    /// such operation.
    fn prune(&mut self, down_to: u64) -> Result<Option<f64>>;
    /// Writes a large image, with its MD5 expected if the cache can check it. Returns the seconds.
    fn write(&mut self, name: &str, piece: &[u8], length: usize) -> Result<f64>;
    /// Reads a large image. Returns the seconds.
    fn read(&mut self, name: &str, length: usize) -> Result<f64>;
}

/// Figures, and points of curves: operation, images, seconds.
pub struct Measured {
    pub figures: Figures,
    pub points: Vec<(String, usize, f64)>,
}

/// The name of a figure that does not depend on the number of images.
pub const COMMIT: &str = "cache 1 KiB";
/// The size of a large image's chunks.
pub const PIECE: usize = 64 << 10;

/// The name of a figure for so many images.
pub fn name_at(operation: &str, images: usize) -> String {
    format!("{operation}, {} images", with_commas(images))
}

pub fn name_of_write(length: usize) -> String {
    format!("write {} in {} chunks, MD5", in_binary(length), in_binary(PIECE))
}

pub fn name_of_read(length: usize) -> String {
    format!("read {}", in_binary(length))
}

pub fn measure<P: Peer>(
    who: &str,
    work: &Work,
    directory: &Path,
    open: &dyn Fn(&Path) -> Result<P>,
) -> Result<Measured> {
    const OPERATIONS: usize = 2000;
    let bytes = [0x5A; 1024];
    let mut measured = Measured::new(who);
    for (index, &count) in work.counts.iter().enumerate() {
        let mut peer = open(&directory.with_extension(count.to_string()))?;
        let commits = latencies(count, |number| peer.cache(&name_of(number), &bytes))?;
        if index == 0 {
            measured.figures.figures.push((COMMIT.to_owned(), Quantity::seconds(quantile(&commits, 0.5))));
        }
        let hits = latencies(OPERATIONS, |number| peer.hit(&name_of(number % count)))?;
        measured.add(HIT, count, quantile(&hits, 0.5));
        let queries = latencies(OPERATIONS, |number| {
            anyhow::ensure!(peer.is_cached(&name_of(number % count))?);
            Ok(())
        })?;
        measured.add(IS_CACHED, count, quantile(&queries, 0.5));
        let (took, size) = seconds(|| peer.size())?;
        if size.is_some() {
            measured.add(SIZE, count, took);
        }
        let (took, listed) = seconds(|| peer.list())?;
        anyhow::ensure!(listed == count, "{listed} images were listed");
        measured.add(LIST, count, took / count as f64);
        if let Some(took) = peer.prune((count / 2 * bytes.len()) as u64)? {
            measured.add(PRUNE, count, took / (count - count / 2) as f64);
        }
    }
    let mut peer = open(&directory.with_extension("large"))?;
    let piece = random_bytes(PIECE);
    let speed = |seconds: f64| Quantity::bytes_per_second(work.stream as f64 / seconds);
    let took = peer.write("large", &piece, work.stream)?;
    measured.figures.figures.push((name_of_write(work.stream), speed(took)));
    let took = peer.read("large", work.stream)?;
    measured.figures.figures.push((name_of_read(work.stream), speed(took)));
    Ok(measured)
}

impl Measured {
    pub fn new(who: &str) -> Self {
        Self { figures: Figures { who: who.to_owned(), figures: Vec::new() }, points: Vec::new() }
    }

    pub fn add(&mut self, operation: &str, images: usize, seconds: f64) {
        self.figures.figures.push((name_at(operation, images), Quantity::seconds(seconds)));
        self.points.push((operation.to_owned(), images, seconds));
    }
}
