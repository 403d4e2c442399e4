//! A store whose images are functions of the offset, and sources that read from it and count.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use image_cache::{ImageCache, RangeSource, Result, Stream};

/// The shortest piece that a stream fetches, in bytes.
pub const SHORTEST: u64 = 64 << 10;

/// The image repeats these bytes. Their number is a prime, so that no shift by a piece is the same.
const PERIOD: usize = 65_521;

fn period() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut random = fastrand::Rng::with_seed(1);
        std::iter::repeat_with(|| random.u8(..)).take(PERIOD).collect::<Vec<_>>().repeat(2)
    })
}

/// Fills a buffer with the image's bytes at an offset.
pub fn fill(buffer: &mut [u8], offset: u64) {
    let mut at = usize::try_from(offset % PERIOD as u64).unwrap();
    for piece in buffer.chunks_mut(PERIOD) {
        piece.copy_from_slice(&period()[at..at + piece.len()]);
        at = (at + piece.len()) % PERIOD;
    }
}

pub fn content(size: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(size).unwrap()];
    fill(&mut content, 0);
    content
}

/// The digest of an image with [`content`] of which none was expected.
pub fn computed(size: u64) -> String {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &content(size));
    format!("crc64nvme:{crc:016x}")
}

/// SHA-256 of [`content`].
pub fn sha256(size: u64) -> String {
    hex::<sha2::Sha256>(&content(size))
}

pub fn hex<D: sha2::Digest>(content: &[u8]) -> String {
    D::digest(content).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// What the sources of one store have been asked for.
#[derive(Debug, Default)]
pub struct Store {
    pub size: u64,
    /// How long a call takes.
    pub latency: Duration,
    /// The most that a call returns, in bytes.
    pub piece: usize,
    pub bytes: AtomicU64,
    pub calls: AtomicU64,
    /// Each piece that was returned: offset and length.
    pub pieces: Mutex<Vec<(u64, usize)>>,
}

impl Store {
    pub fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { size, piece: 64 << 10, ..Self::default() })
    }

    pub fn slow(size: u64, latency: Duration) -> Arc<Self> {
        Arc::new(Self { size, piece: 16 << 10, latency, ..Self::default() })
    }

    pub fn source(self: &Arc<Self>) -> Source {
        Source(Arc::clone(self))
    }

    pub fn fetched(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

pub struct Source(Arc<Store>);

impl RangeSource for Source {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let store = &self.0;
        std::thread::sleep(store.latency);
        let length = usize::try_from(store.size.saturating_sub(offset)).unwrap().min(buffer.len()).min(store.piece);
        fill(&mut buffer[..length], offset);
        store.calls.fetch_add(1, Ordering::SeqCst);
        store.bytes.fetch_add(length as u64, Ordering::SeqCst);
        store.pieces.lock().unwrap().push((offset, length));
        Ok(length)
    }
}

/// Reads a stream to its end, in pieces of that many bytes.
pub fn read_all<S: RangeSource>(stream: &mut Stream<S>, piece: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; piece];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(all),
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Compares without printing megabytes.
pub fn assert_whole(bytes: &[u8], size: u64) {
    assert_eq!(bytes.len() as u64, size);
    let mut expected = vec![0; PERIOD];
    for (piece, offset) in bytes.chunks(PERIOD).zip((0..).step_by(PERIOD)) {
        let expected = &mut expected[..piece.len()];
        fill(expected, offset);
        assert!(*expected == *piece, "a byte is wrong in the {PERIOD} from {offset} on");
    }
}

/// Streams an image to its end.
pub fn stream_whole(cache: &ImageCache, id: &str, store: &Arc<Store>) {
    let mut stream = cache.stream(id, store.source()).unwrap();
    assert_whole(&read_all(&mut stream, 50_000).unwrap(), store.size);
}
