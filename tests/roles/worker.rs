//! A thread of a child process: it chooses its next role at random. Every byte and every failure is checked where it appears.

use std::time::Duration;

use fastrand::Rng;
use image_cache::{Error, ImageCache};

use crate::child::Process;
use crate::images::{Image, images};
use crate::sources::{Fault, Sequential, Source};
use crate::streaming::OpenStream;

/// How many streams a thread has open side by side. It reads from one at a time: the others' consumers are away.
const STREAMS: usize = 3;

/// The longest read, in bytes.
const LONGEST_READ: usize = 2 << 20;

pub struct Worker<'a> {
    pub process: &'a Process,
    pub random: Rng,
    thread: usize,
    actions: u64,
    streams: Vec<OpenStream>,
    buffer: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub fn new(process: &'a Process, thread: usize, seed: u64) -> Self {
        // Resident from the beginning, so that it does not count as growth.
        let (random, buffer) = (Rng::with_seed(seed), vec![1; LONGEST_READ]);
        Self { process, random, thread, actions: 0, streams: Vec::new(), buffer }
    }

    /// Performs one action.
    pub fn act(&mut self) {
        let image = &images()[self.random.usize(..images().len())];
        let process = self.process;
        let handles = process.handles.read().unwrap();
        let Some(cache) = handles.get(self.random.usize(..handles.len().max(1))) else { return };
        match self.random.u32(..100) {
            0..18 if self.streams.len() < STREAMS => {
                self.note("open a stream", image);
                let stream = OpenStream::open(cache, image, &mut self.random);
                self.streams.extend(stream.map_err(|violation| self.process.violations.add(&violation)).ok());
            }
            0..55 => self.advance_a_stream(),
            55..63 => self.read(cache, image),
            63..69 => self.write(cache, image),
            69..73 => self.tee(cache, image),
            73..76 => self.prefetch(cache, image),
            76..79 => {
                self.note("wait for", image);
                let waited = cache.wait_cached(&image.id, Duration::from_millis(self.random.u64(..200)));
                self.expect("wait_cached", waited, |error| matches!(error, Error::TimedOut { .. }));
            }
            79..91 => {
                self.note("delete", image);
                self.expect("delete", cache.delete_cached_image(&image.id), |_| false);
            }
            91..93 => {
                self.note("prune", image);
                self.expect("prune", cache.prune(), |_| false);
            }
            93..95 => {
                self.note("clean", image);
                let stall_time = (self.random.u32(..8) == 0).then_some(Duration::ZERO);
                self.expect("clean", cache.clean(stall_time), |_| false);
            }
            _ => self.query(cache, image),
        }
    }

    /// Ends what is open: some streams are read to the end before.
    pub fn close_all(&mut self) {
        while let Some(mut stream) = self.streams.pop() {
            if self.random.bool() {
                let image = stream.image;
                self.note("read to the end", image);
                while self.advance(&mut stream) {}
            }
        }
        self.actions += 1;
        self.process.doing.note(self.thread, self.actions, "wait at the gate");
    }

    fn note(&mut self, action: &str, image: &Image) {
        self.actions += 1;
        self.process.doing.note(self.thread, self.actions, &format!("{action} {}", image.id));
    }

    fn expect<T>(&self, what: &str, result: Result<T, Error>, is_expected: impl Fn(&Error) -> bool) -> Option<T> {
        self.process.violations.expect(what, result, is_expected)
    }

    fn verify(&self, what: &str, verified: Result<(), String>) {
        if let Err(violation) = verified {
            self.process.violations.add(&format!("{what}: {violation}"));
        }
    }

    /// From 1 byte to the longest read: as many short ones as long ones, by their logarithm.
    fn read_size(&mut self) -> usize {
        let longest = 1_usize << self.random.u32(0..22);
        self.random.usize(1..=longest.min(LONGEST_READ))
    }

    fn advance_a_stream(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let mut stream = self.streams.swap_remove(self.random.usize(..self.streams.len()));
        self.note("read from a stream of", stream.image);
        let reads = self.random.u32(..40);
        let is_open = (0..reads).all(|_| self.advance(&mut stream));
        // Some are closed early.
        if is_open && self.random.u32(..12) > 0 {
            self.streams.push(stream);
        } else if is_open {
            self.process.ends.note(stream.role(), "closed early");
        }
    }

    /// One read of a stream. False when it has ended.
    fn advance(&mut self, stream: &mut OpenStream) -> bool {
        let length = self.read_size();
        let advanced = if self.random.u32(..6) == 0 {
            let offset = self.random.u64(..stream.image.size + 10_000);
            stream.read_at(offset, &mut self.buffer[..length])
        } else {
            stream.read(&mut self.buffer[..length])
        };
        match advanced {
            Ok(None) => true,
            Ok(Some(how)) => {
                self.process.ends.note(stream.role(), how);
                false
            }
            Err(violation) => {
                self.process.violations.add(&violation);
                false
            }
        }
    }

    fn read(&mut self, cache: &ImageCache, image: &'static Image) {
        self.note("read", image);
        let opened = self.expect("open_for_read", cache.open_for_read(&image.id), is_not_found);
        let Some(mut reader) = opened else { return };
        let mut position = 0;
        loop {
            let size = self.read_size().max(4096);
            let read = reader.read(&mut self.buffer[..size]);
            let length = self.expect("read", read, |_| false);
            let Some(length @ 1..) = length else { break };
            self.verify("a reader", image.verify(position, &self.buffer[..length]));
            position += length as u64;
        }
        if position != image.size {
            self.verify("a reader", Err(format!("'{}' ends after {position} bytes", image.id)));
        }
    }

    /// A writer: some abort, some close early, some have too few bytes, some are slow.
    fn write(&mut self, cache: &ImageCache, image: &'static Image) {
        self.note("write", image);
        let begun = self.expect("begin_write", cache.begin_write(&image.id), is_taken);
        let Some(mut writer) = begun else { return };
        let ending = self.random.u32(..6);
        self.expect("expect_size", writer.expect_size(image.size), |_| false);
        if self.random.bool() {
            let expected = writer.expect_digest(image_cache::Algorithm::Sha256, image.sha256());
            self.expect("expect_digest", expected, |_| false);
        }
        let end = if ending == 0 { image.size } else { self.random.u64(..=image.size) };
        let latency = Duration::from_micros(self.random.u64(..2000));
        let mut position = 0;
        while position < end {
            let most = usize::try_from(end - position).unwrap();
            let length = self.random.usize(1..=300_000).min(most);
            image.fill(position, &mut self.buffer[..length]);
            let written = writer.write_chunk(&self.buffer[..length]);
            if self.expect("write_chunk", written, is_lost).is_none() {
                return;
            }
            std::thread::sleep(latency);
            position += length as u64;
        }
        match ending {
            1 => writer.abort("a planned abort"),
            2 => drop(writer),
            _ => {
                let is_short = end < image.size;
                let is_expected = |error: &Error| is_lost(error) || is_short && is_short_size(error);
                if self.expect("commit", writer.commit(), is_expected).is_some() && is_short {
                    self.verify("commit", Err(format!("'{}' is published with {end} bytes", image.id)));
                }
            }
        }
    }

    fn tee(&mut self, cache: &ImageCache, image: &'static Image) {
        self.note("tee", image);
        let source = Source::random(image, &mut self.random);
        let fault = source.fault;
        let size = image.size;
        let Some(mut tee) = self.expect("tee", cache.tee(&image.id, Sequential { source, position: 0 }), |_| false)
        else {
            return;
        };
        self.expect("expect_size", tee.expect_size(size), |_| false);
        let is_closed_early = self.random.u32(..8) == 0;
        let mut position = 0;
        while !is_closed_early || position * 2 < size {
            let length = self.read_size().max(2000);
            let read = tee.read(&mut self.buffer[..length]);
            let is_expected = |error: &Error| match error {
                Error::Source { .. } => matches!(fault, Fault::Fails | Fault::ReturnsMore),
                error => fault == Fault::EndsEarly && is_short_size(error),
            };
            match self.expect("a tee's read", read, is_expected) {
                Some(length @ 1..) => {
                    self.verify("a tee", image.verify(position, &self.buffer[..length]));
                    position += length as u64;
                }
                Some(0) if position != size => {
                    return self.verify("a tee", Err(format!("'{}' ends after {position} bytes", image.id)));
                }
                _ => return,
            }
        }
    }

    fn prefetch(&mut self, cache: &ImageCache, image: &'static Image) {
        self.note("prefetch", image);
        self.expect("queue_image", cache.queue_image(&image.id), |_| false);
        let fails = self.random.u32(..5) == 0;
        let fetched = cache.prefetch(|id, writer| {
            if fails {
                return Err(Error::Internal("a planned failure".to_owned()));
            }
            let image = images().iter().find(|image| image.id == id).unwrap();
            writer.write_chunk(&image.bytes())
        });
        self.expect("prefetch", fetched, |_| false);
    }

    fn query(&mut self, cache: &ImageCache, image: &'static Image) {
        self.note("query", image);
        let id = &image.id;
        match self.random.u32(..8) {
            0 => drop(self.expect("is_cached", cache.is_cached(id), |_| false)),
            1 => drop(self.expect("is_being_cached", cache.is_being_cached(id), |_| false)),
            2 => drop(self.expect("hit_count", cache.hit_count(id), |_| false)),
            3 => drop(self.expect("list_queued", cache.list_queued(), |_| false)),
            4 => drop(self.expect("delete_queued_image", cache.delete_queued_image(id), |_| false)),
            5 => drop(self.expect("cache_size", cache.cache_size(), |_| false)),
            6 => {
                let size = self.expect("image_size", cache.image_size(id), is_not_found);
                if size.is_some_and(|size| size != image.size) {
                    self.verify("image_size", Err(format!("'{id}' has {size:?} bytes")));
                }
            }
            _ => {
                let listed = self.expect("list_cached", cache.list_cached(), |_| false);
                for listed in listed.into_iter().flatten() {
                    let known = images().iter().find(|image| image.id == listed.image_id);
                    if known.is_none_or(|image| image.size != listed.size) {
                        self.verify("list_cached", Err(format!("{listed:?}")));
                    }
                }
            }
        }
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. })
}

fn is_taken(error: &Error) -> bool {
    matches!(error, Error::AlreadyCached(_) | Error::BeingCached(_))
}

/// Another process cleans with stall time 0.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Lost { .. })
}

fn is_short_size(error: &Error) -> bool {
    matches!(error, Error::SizeMismatch { .. })
}
