//! Streams of short images in the workload, and after a cut. They are never synced before they are published, so the next mount trusts
//! none of their bytes.
//!
//! Each image has one version: the sources of all participants return the same bytes.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image_cache::{Algorithm, ImageCache, RangeSource, StreamRole};

use crate::checks::{CheckResult, check, context, md5_hex};
use crate::content::{self, Version};
use crate::events::{Action, Event};
use crate::promises::Promises;

const IMAGES: u64 = 2;

/// The ids of a worker's streams.
pub fn ids(worker: usize) -> impl Iterator<Item = String> {
    (0..IMAGES).map(move |number| format!("{worker}-streamed-{number}"))
}

pub fn is_streamed(id: &str) -> bool {
    id.contains("-streamed-")
}

/// The only version of such an image.
pub fn version(id: &str) -> Version {
    let mut numbers = id.split("-streamed-").filter_map(|number| number.parse().ok());
    let mut next = || numbers.next().unwrap_or_default();
    Version::new(0, next(), next(), true)
}

/// What a source was called for.
#[derive(Debug)]
pub struct Fetched {
    /// The first offset; `u64::MAX` before the first call.
    pub first: AtomicU64,
    pub bytes: AtomicU64,
}

impl Fetched {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { first: AtomicU64::new(u64::MAX), bytes: AtomicU64::new(0) })
    }

    /// A source that returns these bytes, at most so many at once.
    pub fn source(self: &Arc<Self>, bytes: Vec<u8>, piece: usize) -> impl RangeSource + Send + use<> {
        let fetched = Arc::clone(self);
        move |offset: u64, buffer: &mut [u8]| -> io::Result<usize> {
            let left = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
            let length = left.len().min(buffer.len()).min(piece);
            buffer[..length].copy_from_slice(&left[..length]);
            fetched.first.fetch_min(offset, Ordering::Relaxed);
            fetched.bytes.fetch_add(length as u64, Ordering::Relaxed);
            Ok(length)
        }
    }
}

/// After a cut: streams each image of both workers that is not cached, and deletes it again. Returns how many fetches could be resumed.
pub fn check_streams(directory: &Path, cache: &ImageCache, promises: &mut Promises) -> CheckResult<usize> {
    let mut resumable = 0;
    for id in (0..2).flat_map(ids) {
        if context("is_cached", cache.is_cached(&id))? {
            continue;
        }
        let has_bytes = |name: &Path| fs::metadata(name.join(&id)).is_ok_and(|metadata| metadata.len() > 0);
        let names = [".image_cache/streams", "incomplete"].map(|name| directory.join(name));
        resumable += usize::from(names.iter().all(|name| has_bytes(name)));
        let commit = Action::Commit { id: id.clone(), version: version(&id), durable: true };
        for event in [Event::Begin(0, commit), Event::End(0)] {
            promises.record(&event)?;
        }
        stream_again(cache, &id).map_err(|what| format!("a stream of '{id}' after the cut: {what}"))?;
        promises.record(&Event::Begin(0, Action::Remove { id: id.clone() }))?;
        context("delete", cache.delete_cached_image(&id))?;
        promises.record(&Event::End(0))?;
    }
    Ok(resumable)
}

fn stream_again(cache: &ImageCache, id: &str) -> CheckResult {
    const PIECE: usize = 20_000;
    let (fetched, bytes) = (Fetched::new(), version(id).bytes(id));
    let mut stream = context("stream", cache.stream(id, fetched.source(bytes.clone(), PIECE)))?;
    context("expect_digest", stream.expect_digest(Algorithm::Md5, &md5_hex(&bytes)))?;
    let (mut received, mut buffer) = (Vec::new(), vec![0; PIECE]);
    loop {
        match context("reading", stream.read(&mut buffer))? {
            0 => break,
            length => received.extend_from_slice(&buffer[..length]),
        }
    }
    content::verify(id, &received)?;
    let (first, count) = (fetched.first.load(Ordering::Relaxed), fetched.bytes.load(Ordering::Relaxed));
    check(first == 0 && count == bytes.len() as u64, || {
        format!("it fetched {count} bytes of {} from {first} on, and none was synced", bytes.len())
    })?;
    check(stream.role() != StreamRole::Alone, || "it was alone".to_owned())?;
    drop(stream);
    check(context("is_cached", cache.is_cached(id))?, || "its image is not cached".to_owned())
}
