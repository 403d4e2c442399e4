//! A child process of the stress: four threads run random operations on both caches. It ends with its standard input,
//! or is killed at a random point of a thread: the moments at which a kill matters are short. Each operation is checked
//! where it happens (its error, and every byte that it serves) and recorded for the checkers.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use image_cache::{Algorithm, DriverChoice, Error, ImageCache, Reader};

use crate::caches::{AT_ONCE, StressCache, ViolationLog, stress_caches};
use crate::checks::{md5_hex, sha256_hex};
use crate::content::{self, Version};
use crate::history::{Begun, Recorder};
use crate::points::kill_at_random_point;

pub const THREADS: u64 = 4;

/// About how many points a thread passes before its process is killed.
const POINTS: u32 = 8000;

/// How many readers a thread keeps open during other operations.
const MAX_READERS: usize = 3;

/// Runs the child process, by its directory, driver and number.
pub fn run(directory: &Path, driver: DriverChoice, process: u64) {
    let violations = ViolationLog::new(&directory.join(format!("violations/{process}")));
    let stress_caches = stress_caches(directory, driver, process, &violations);
    let caches = stress_caches.each_ref().map(|target| ImageCache::open(&target.path, target.options.clone()));
    let [Some(kept), Some(pruned)] = caches.map(|cache| violations.expect("open", cache, &[])) else { return };
    let caches = [kept, pruned];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let recorder = Recorder::new(&directory.join(format!("history/{process}-{thread}")));
            let random = Rng::with_seed(process * THREADS + thread);
            let (stress_caches, caches, is_over, violations) = (&stress_caches, &caches, &is_over, &violations);
            scope.spawn(move || {
                kill_at_random_point(Rng::with_seed(!(process * THREADS + thread)), POINTS);
                let mut worker = Worker {
                    stress_caches,
                    caches,
                    violations,
                    recorder,
                    random,
                    process,
                    thread,
                    turn: 0,
                    readers: Vec::new(),
                };
                while !is_over.load(Ordering::Relaxed) {
                    worker.step();
                }
                while !worker.readers.is_empty() {
                    worker.close_a_reader();
                }
            });
        }
        // The parent closes it, or has died.
        io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
}

struct Worker<'a> {
    stress_caches: &'a [StressCache; 2],
    caches: &'a [ImageCache; 2],
    violations: &'a ViolationLog,
    recorder: Recorder,
    random: Rng,
    process: u64,
    thread: u64,
    turn: u64,
    readers: Vec<OpenReader>,
}

/// A reader that is open.
struct OpenReader {
    begun: Begun,
    reader: Reader,
    image_id: String,
}

impl<'a> Worker<'a> {
    fn step(&mut self) {
        let which = self.random.usize(..2);
        let (target, cache) = (&self.stress_caches[which], &self.caches[which]);
        let number = self.random.usize(..target.ids.len());
        let image_id = target.ids[number].as_str();
        match self.random.u32(..100) {
            0..25 => self.open_a_reader(target, cache, image_id),
            25..40 => self.close_a_reader(),
            40..56 => self.write(target, cache, image_id),
            56..62 => self.tee(target, cache, image_id),
            62..72 if number >= target.steady => self.delete(target, cache, image_id),
            72..77 if target.is_pruned => self.empty(target, cache),
            77..83 => self.queue(target, cache, image_id),
            83..86 => self.prefetch(target, cache),
            86..89 => self.clean(target, cache),
            89..91 => self.open_another_handle(target, image_id),
            _ => self.query(target, cache, image_id),
        }
    }

    fn next_version(&mut self, is_committed: bool) -> Version {
        self.turn += 1;
        Version::new(self.process, self.thread, self.turn, is_committed)
    }

    /// Records an operation that is only counted.
    fn simply<T>(
        &mut self,
        action: &'static str,
        image: &str,
        expected: &[&str],
        operation: impl FnOnce() -> Result<T, Error>,
        count: impl FnOnce(&T) -> u64,
    ) -> Option<T> {
        let begun = self.recorder.begin(action, image, None);
        let result = self.violations.expect(action, operation(), expected);
        self.recorder.end(&begun, None, result.is_some(), result.as_ref().map_or(0, count));
        result
    }

    fn write(&mut self, target: &StressCache, cache: &ImageCache, image_id: &str) {
        let Some(mut writer) = self.simply(
            "begin_write",
            target.name,
            &["AlreadyCached", "BeingCached"],
            || cache.begin_write(image_id),
            |_| 0,
        ) else {
            return;
        };
        // Some abort, some close early, some expect another digest.
        let ending = self.random.u32(..20);
        let version = self.next_version(ending > 3);
        let bytes = version.bytes(image_id);
        match (ending, self.random.u32(..3)) {
            (2, _) => writer.expect_digest(Algorithm::Md5, &md5_hex(b"something else")).unwrap(),
            (3.., 0) => writer.expect_digest(Algorithm::Md5, &md5_hex(&bytes)).unwrap(),
            (3.., 1) => writer.expect_digest(Algorithm::Sha256, &sha256_hex(&bytes)).unwrap(),
            _ => writer.expect_size(bytes.len() as u64).unwrap(),
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(self.random.usize(1..=rest.len()));
            rest = more;
            // After a clean removed the file, the commit fails as well.
            self.violations.expect("write_chunk", writer.write_chunk(chunk), target.losses);
        }
        let begun = self.recorder.begin("commit", &name(target, image_id), Some(version));
        let succeeded = match ending {
            0 | 3 => {
                writer.abort("the stress aborts");
                false
            }
            1 => {
                drop(writer);
                false
            }
            2 => match writer.commit() {
                Err(Error::DigestMismatch { .. }) => false,
                result => self.violations.expect("commit of other bytes", result, target.losses).is_some(),
            },
            _ => self.violations.expect("commit", writer.commit(), target.losses).is_some(),
        };
        self.recorder.end(&begun, Some(version), succeeded, bytes.len() as u64);
    }

    /// The tee delivers every byte, whether the image is cached or not.
    fn tee(&mut self, target: &StressCache, cache: &ImageCache, image_id: &str) {
        let version = self.next_version(true);
        let bytes = version.bytes(image_id);
        let begun = self.recorder.begin("commit", &name(target, image_id), Some(version));
        let Some(mut tee) = self.violations.expect("tee", cache.tee(image_id, bytes.as_slice()), &[]) else { return };
        let mut delivered = Vec::new();
        if let Err(error) = tee.read_to_end(&mut delivered) {
            self.violations.add(&format!("a tee failed its reader: {error}"));
        }
        if delivered != bytes {
            self.violations.add(&format!("a tee of {image_id} delivered other bytes than its source's"));
        }
        self.recorder.end(&begun, Some(version), tee.is_caching(), bytes.len() as u64);
    }

    fn open_a_reader(&mut self, target: &StressCache, cache: &ImageCache, image_id: &str) {
        if self.readers.len() == MAX_READERS {
            return self.close_a_reader();
        }
        let begun = self.recorder.begin("read", &name(target, image_id), None);
        match self.violations.expect("open_for_read", cache.open_for_read(image_id), &["NotFound"]) {
            Some(reader) => {
                self.recorder.opened(&begun);
                self.readers.push(OpenReader { begun, reader, image_id: image_id.to_owned() });
            }
            None => self.recorder.end(&begun, None, false, 0),
        }
    }

    /// Reads all of an image, which may be deleted by now, and closes the reader.
    fn close_a_reader(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let OpenReader { begun, mut reader, image_id } =
            self.readers.swap_remove(self.random.usize(..self.readers.len()));
        // In pieces, by either function.
        let in_order = self.random.bool();
        let mut bytes = vec![0; usize::try_from(reader.size()).unwrap() + 1];
        let mut length = 0;
        while length < bytes.len() {
            let end = bytes.len().min(length + self.random.usize(1..=100_000));
            let part = &mut bytes[length..end];
            let read = if in_order { reader.read(part) } else { reader.read_at(length as u64, part) };
            match self.violations.expect("read", read, &[]) {
                Some(0) | None => break,
                Some(read) => length += read,
            }
        }
        match content::verify(&image_id, &bytes[..length]) {
            Ok(version) => {
                self.recorder.closing(&begun, version, length);
                drop(reader);
                self.recorder.end(&begun, Some(version), true, length as u64);
            }
            Err(violation) => self.violations.add(&format!("{image_id}: {violation}")),
        }
    }

    fn delete(&mut self, target: &StressCache, cache: &ImageCache, image_id: &str) {
        self.simply("delete", &name(target, image_id), &[], || cache.delete_cached_image(image_id), |()| 0);
    }

    fn empty(&mut self, target: &StressCache, cache: &ImageCache) {
        if self.random.u32(..8) == 0 {
            self.simply("delete_all", target.name, &[], || cache.delete_all_cached_images(), |images| *images);
        } else {
            self.simply("prune", target.name, &[], || cache.prune(), |pruned| pruned.images);
        }
    }

    fn queue(&mut self, target: &StressCache, cache: &ImageCache, image_id: &str) {
        match self.random.u32(..10) {
            0 => {
                self.simply("dequeue_all", target.name, &[], || cache.delete_all_queued_images(), |images| *images);
            }
            1 => {
                self.simply("dequeue", target.name, &[], || cache.delete_queued_image(image_id), |()| 0);
            }
            _ => {
                self.simply("queue", target.name, &[], || cache.queue_image(image_id), |queued| u64::from(*queued));
            }
        }
    }

    fn prefetch(&mut self, target: &StressCache, cache: &ImageCache) {
        let mut commits = Vec::new();
        let fetch = self.recorder.begin("prefetch", target.name, None);
        let prefetched = cache.prefetch(|image_id, writer| {
            let version = self.next_version(true);
            let begun = self.recorder.begin("commit", &name(target, image_id), Some(version));
            commits.push((begun, version));
            writer.write_chunk(&version.bytes(image_id))
        });
        let prefetched = self.violations.expect("prefetch", prefetched, &[]);
        self.recorder.end(&fetch, None, prefetched.is_some(), commits.len() as u64);
        let Some(prefetched) = prefetched else { return };
        if prefetched.fetched + prefetched.failed != commits.len() as u64
            || prefetched.failed > 0 && target.losses.is_empty()
        {
            self.violations.add(&format!("{} fetches are counted as {prefetched:?}", commits.len()));
        }
        // Where one fetch lost its file, the record does not say which: all of them may be published.
        if prefetched.failed == 0 {
            for (begun, version) in commits {
                self.recorder.end(&begun, Some(version), true, version.length() as u64);
            }
        }
    }

    fn clean(&mut self, target: &StressCache, cache: &ImageCache) {
        let stall_time = if target.is_pruned && self.random.bool() { AT_ONCE } else { None };
        self.simply("clean", target.name, &[], || cache.clean(stall_time), |files| *files);
    }

    /// An open and a close that are neither the first nor the last one meet all other operations.
    fn open_another_handle(&mut self, target: &'a StressCache, image_id: &str) {
        let options = target.options.clone();
        let opened = self.simply("open", target.name, &[], || ImageCache::open(&target.path, options), |_| 0);
        let Some(another) = opened else { return };
        let readers = self.readers.len();
        self.open_a_reader(target, &another, image_id);
        if let Some(reader) = self.readers.get(readers) {
            self.recorder.outlives(&reader.begun);
        }
        self.query(target, &another, image_id);
        self.simply(
            "close",
            target.name,
            &[],
            || {
                drop(another);
                Ok(())
            },
            |()| 0,
        );
    }

    fn query(&mut self, target: &StressCache, cache: &ImageCache, image_id: &str) {
        let most = target.ids.len() as u64;
        let number = self.random.u32(..9);
        let is_main = self.caches.iter().any(|main| std::ptr::eq(main, cache));
        let action = if is_main && number == 7 { "query_hits" } else { "query" };
        let begun = self.recorder.begin(action, target.name, None);
        let answered = match number {
            0 => cache.is_cached(image_id).map(|_| true),
            1 => cache.is_being_cached(image_id).map(|_| true),
            2 => cache.is_queued(image_id).map(|_| true),
            3 => cache.is_cacheable(image_id).map(|_| true),
            4 => cache.cache_size().map(|bytes| bytes <= most * 301_000),
            5 => cache.hit_count(image_id).map(|_| true),
            6 => cache.list_queued().map(|queued| queued.len() as u64 <= most),
            7 => cache.list_cached().map(|mut listed| {
                listed.len() as u64 <= most && listed.all(|image| target.ids.contains(&image.image_id))
            }),
            _ => match cache.image_size(image_id) {
                Err(Error::NotFound { .. }) => Ok(true),
                length => length.map(|length| length <= 301_000),
            },
        };
        let is_right = self.violations.expect("a query", answered, &[]);
        if is_right == Some(false) {
            self.violations.add(&format!("the result of query {number} cannot be true"));
        }
        self.recorder.end(&begun, None, is_right.is_some(), 0);
    }
}

/// An image's name in the history.
fn name(target: &StressCache, image_id: &str) -> String {
    format!("{}/{image_id}", target.name)
}
