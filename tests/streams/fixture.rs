//! A store whose images are functions of the offset, and sources that read from it and count.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_cache::{ImageCache, RangeSource, Result, Stream};

/// The shortest piece that a stream fetches, in bytes.
pub const SHORTEST: u64 = 64 << 10;

/// The byte of the image at an offset.
pub fn byte_at(offset: u64) -> u8 {
    offset.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0]
}

pub fn content(size: u64) -> Vec<u8> {
    (0..size).map(byte_at).collect()
}

/// SHA-256 of [`content`].
pub fn sha256(size: u64) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(content(size));
    digest.iter().fold(String::new(), |mut text, byte| {
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
        for (place, byte) in buffer[..length].iter_mut().zip(offset..) {
            *place = byte_at(byte);
        }
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
    let wrong = (0..size).zip(bytes).find(|(offset, byte)| byte_at(*offset) != **byte);
    assert!(wrong.is_none(), "the first wrong byte is at {:?}", wrong.map(|(offset, _)| offset));
}

/// Streams an image to its end.
pub fn stream_whole(cache: &ImageCache, id: &str, store: &Arc<Store>) {
    let mut stream = cache.stream(id, store.source()).unwrap();
    assert_whole(&read_all(&mut stream, 50_000).unwrap(), store.size);
}
