//! The workload: two workers in one process use one cache at random, each with its own handle and images; both prune
//! and delete all. A worker reports each action before and after it, and waits for a reply.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use image_cache::{
    Algorithm, Copied, DriverChoice, Durability, Error, ImageCache, ImportOptions, LimitMode, Options, Result,
    StreamRole,
};

use crate::checks::md5_hex;
use crate::content::{self, Version};
use crate::events::{Action, Event};
use crate::session::{self, Durabilities, driver_of};
use crate::streams::{self, Fetched};
use crate::volume::Volume;

const WORKERS: usize = 2;
const IMAGES: usize = 4;
/// So small that prune has something to evict.
const MAX_SIZE: u64 = 300_000;

/// The least hard limit: all images fit.
const HARD_LIMIT: u64 = 1 << 30;

/// Its number in `statfs`.
const XFS: i64 = 0x5846_5342;

/// Who pins images, and for how long.
const PINNER: &str = "workload";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The ids that only this worker uses.
fn ids(worker: usize) -> impl Iterator<Item = String> {
    (0..IMAGES).map(move |number| format!("{worker}-{number}")).chain(streams::ids(worker))
}

/// The cache's directory on a volume.
pub fn cache_directory(volume: &Path) -> PathBuf {
    volume.join("cache")
}

/// At times, while the workload waits: writes some of the cache's files back.
pub fn write_back_sometimes(volume: &Volume, random: &mut fastrand::Rng) -> io::Result<()> {
    if random.u8(0..12) != 0 {
        return Ok(());
    }
    let directory = match random.u8(0..6) {
        0 => "cache/incomplete",
        1 => "cache/.image_cache/streams",
        _ => "cache",
    };
    volume.write_back(directory, random)
}

/// What both workers share.
struct Workload {
    volume: PathBuf,
    driver: DriverChoice,
    durabilities: Durabilities,
    generation: u64,
    /// Held from the report of an event to the reply.
    reporting: Mutex<()>,
}

/// Runs until it is killed, with the arguments of `Session::start`.
pub fn run(arguments: &[String]) -> ! {
    let [volume, driver, durabilities, generation, seed] = arguments else { panic!("{arguments:?}") };
    let seed: u64 = seed.parse().expect("a seed");
    let workload = Workload {
        volume: volume.into(),
        driver: driver_of(driver),
        durabilities: Durabilities::ALL.into_iter().find(|known| known.name() == *durabilities).expect("durabilities"),
        generation: generation.parse().expect("a generation"),
        reporting: Mutex::new(()),
    };
    workload.report_found();
    thread::scope(|scope| {
        for number in 0..WORKERS {
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number as u64));
            let workload = &workload;
            scope.spawn(move || {
                let cache = workload.open(number, &mut random);
                Worker { workload, number, random, cache, committed: BTreeMap::new(), writers: 0 }.run()
            });
        }
    });
    std::process::exit(0)
}

impl Workload {
    fn report(&self, event: &Event) {
        let _reporting = self.reporting.lock().expect("no worker panics while it reports");
        session::report(event);
    }

    /// Performs the operation between its two events. Only a cut makes it fail; then the worker ends.
    fn perform<T>(&self, worker: usize, action: Action, operation: impl FnOnce() -> Result<T>) -> T {
        let name = format!("{action}");
        self.report(&Event::Begin(worker, action));
        match operation() {
            Ok(value) => {
                self.report(&Event::End(worker));
                value
            }
            Err(error) => {
                self.report(&Event::Failed(worker, format!("{name}: {error}")));
                std::process::exit(0)
            }
        }
    }

    /// Every second workload sets one.
    fn has_hard_limit(&self) -> bool {
        self.generation % 2 == 1
    }

    fn open(&self, worker: usize, random: &mut fastrand::Rng) -> (ImageCache, Durability) {
        let durability = match self.durabilities {
            Durabilities::Full => Durability::Full,
            Durabilities::Both if random.bool() => Durability::Full,
            Durabilities::None | Durabilities::Both => Durability::None,
        };
        let options = Options::new().driver(self.driver).max_size(MAX_SIZE).durability(durability);
        let directory = cache_directory(&self.volume);
        let cache = self.perform(worker, other("open"), || ImageCache::open(directory, options));
        (cache, durability)
    }

    /// Another program's sync. The file system then writes all names, the cache's included, and only the synced file's
    /// contents.
    fn sync_elsewhere(&self, worker: usize) {
        let path = self.volume.join(format!("synced-{worker}"));
        self.perform(worker, other("sync_elsewhere"), || {
            let written = fs::write(&path, b"another program's").and_then(|()| File::open(&path)?.sync_all());
            // Like every failed action it ends the worker.
            written.map_err(|error| Error::InvalidArgument(format!("sync_elsewhere: {error}")))
        });
    }

    /// Reports the images at the start. They come from the disk, so an earlier workload's promises apply.
    fn report_found(&self) {
        if self.has_hard_limit() {
            let options = Options::new().driver(self.driver).limit_mode(LimitMode::Hard).max_size(HARD_LIMIT);
            let directory = cache_directory(&self.volume);
            drop(self.perform(0, Action::Limit { bytes: HARD_LIMIT }, || ImageCache::open(directory, options)));
        }
        let (cache, _) = self.open(0, &mut fastrand::Rng::with_seed(0));
        let ids: Vec<_> = (0..WORKERS).flat_map(ids).collect();
        let images =
            self.perform(0, other("read_all"), || ids.iter().map(|id| read(&cache, id)).collect::<Result<Vec<_>>>());
        for (id, found) in ids.into_iter().zip(images) {
            match found.map(|bytes| content::verify(&id, &bytes)).transpose() {
                Ok(version) => self.report(&Event::Found(id, version)),
                Err(what) => self.report(&Event::Wrong(format!("{id}: {what}"))),
            }
        }
        self.perform(0, other("close_again"), || {
            drop(cache);
            Ok(())
        });
    }
}

struct Worker<'a> {
    workload: &'a Workload,
    number: usize,
    random: fastrand::Rng,
    cache: (ImageCache, Durability),
    /// The versions that it committed and did not delete; a prune may have evicted them.
    committed: BTreeMap<String, Version>,
    /// How many writers it began.
    writers: u64,
}

impl Worker<'_> {
    fn run(mut self) -> ! {
        loop {
            let id = self.random.choice(ids(self.number).collect::<Vec<_>>()).expect("one of them");
            match self.random.u8(0..100) {
                0..50 if streams::is_streamed(&id) => self.stream(&id),
                0..50 => self.write(&id),
                50..62 => {
                    self.perform(Action::Remove { id: id.clone() }, |cache| {
                        unless_pinned(cache.delete_cached_image(&id))
                    });
                    self.committed.remove(&id);
                }
                62..72 => self.read(&id),
                72..75 => self.pin(&id),
                75 => self.perform(Action::Unpin { id: id.clone() }, |cache| cache.unpin(&id, PINNER)),
                76..81 => drop(self.perform(Action::RemoveAny, |cache| cache.prune_to(MAX_SIZE))),
                81 => {
                    self.perform(Action::RemoveAny, |cache| unless_pinned(cache.delete_all_cached_images().map(drop)));
                }
                82..86 => drop(self.perform(other("queue"), |cache| cache.queue_image(&id))),
                86..88 => self.perform(other("dequeue"), |cache| cache.delete_queued_image(&id)),
                88..91 => drop(self.perform(other("list"), ImageCache::list_cached)),
                91..93 => drop(self.perform(other("clean"), |cache| cache.clean(None))),
                93..95 => self.workload.sync_elsewhere(self.number),
                95 if self.number == 0 && self.workload.has_hard_limit() => {
                    let bytes = HARD_LIMIT + self.random.u64(1..1000);
                    self.perform(Action::Limit { bytes }, |cache| cache.set_max_size(bytes));
                }
                _ => self = self.reopen(),
            }
        }
    }

    fn perform<T>(&self, action: Action, operation: impl FnOnce(&ImageCache) -> Result<T>) -> T {
        self.workload.perform(self.number, action, || operation(&self.cache.0))
    }

    /// Imports a file of the same file system: on XFS, its blocks are shared.
    fn import(&mut self, id: &str) {
        // Nobody else caches this worker's images.
        if self.perform(other("is_cached"), |cache| cache.is_cached(id)) {
            return;
        }
        self.writers += 1;
        let version = Version::new(self.workload.generation, self.number as u64, self.writers, true);
        let path = self.workload.volume.join(format!("source-{}", self.number));
        let file = self.perform(other("source"), |_| {
            let written = fs::write(&path, version.bytes(id)).and_then(|()| File::open(&path));
            written.map_err(|error| Error::Unsupported(error.to_string()))
        });
        let durable = self.cache.1 == Durability::Full;
        let copied = self.perform(Action::Commit { id: id.to_owned(), version, durable }, |cache| {
            cache.import(id, &file, &ImportOptions::default(), |_, _| ControlFlow::Continue(()))
        });
        let is_xfs = rustix::fs::fstatfs(&file).is_ok_and(|status| status.f_type == XFS);
        if is_xfs && copied != Copied::Reflink {
            self.workload.report(&Event::Wrong(format!("{id}: its blocks are not shared on XFS")));
        }
        self.committed.insert(id.to_owned(), version);
    }

    fn write(&mut self, id: &str) {
        if self.random.u8(0..3) == 0 {
            return self.import(id);
        }
        let writer = self.perform(other("begin"), |cache| match cache.begin_write(id) {
            Err(Error::AlreadyCached(_)) => Ok(None),
            begun => begun.map(Some),
        });
        let Some(mut writer) = writer else { return };
        self.writers += 1;
        let is_committed = self.random.u8(0..8) != 0;
        let version = Version::new(self.workload.generation, self.number as u64, self.writers, is_committed);
        let bytes = version.bytes(id);
        if self.random.u8(0..4) == 0 {
            writer.expect_digest(Algorithm::Md5, &md5_hex(&bytes)).expect("nothing was written yet");
        }
        let length = if is_committed { bytes.len() } else { self.random.usize(0..=bytes.len()) };
        let mut rest = &bytes[..length];
        while !rest.is_empty() {
            let length = if self.random.bool() { rest.len() } else { self.random.usize(1..=rest.len()) };
            let (chunk, others) = rest.split_at(length);
            self.perform(other("write"), |_| writer.write_chunk(chunk));
            rest = others;
        }
        if !is_committed {
            self.perform(other("abort"), |_| {
                writer.abort("the workload aborts");
                Ok(())
            });
            return;
        }
        let durable = self.cache.1 == Durability::Full;
        self.perform(Action::Commit { id: id.to_owned(), version, durable }, |_| writer.commit());
        self.committed.insert(id.to_owned(), version);
    }

    /// Streams an image, to its end or to some byte before. With an expected size, the close is the end.
    fn stream(&mut self, id: &str) {
        let version = streams::version(id);
        let bytes = version.bytes(id);
        // A few calls for each image, since each is an event.
        let pieces = [(); 2].map(|()| self.random.usize(bytes.len() / 8..=bytes.len()).max(1));
        let source = Fetched::new().source(bytes.clone(), pieces[0]);
        let mut stream = self.perform(other("stream"), |cache| cache.stream(id, source));
        stream.expect_digest(Algorithm::Md5, &md5_hex(&bytes)).expect("nothing was read yet");
        let ends_at_close = self.random.bool();
        if ends_at_close {
            stream.expect_size(bytes.len() as u64).expect("nothing was read yet");
        }
        let last = if self.random.u8(0..3) == 0 { self.random.usize(0..=bytes.len()) } else { bytes.len() };
        let (mut position, mut buffer) = (0, vec![0; pieces[1]]);
        while position < last {
            let length = self.perform(other("stream_read"), |_| stream.read(&mut buffer));
            if length == 0 || bytes.get(position..position + length) != Some(&buffer[..length]) {
                let what = format!("{id}: {length} wrong bytes were streamed at {position}");
                return self.workload.report(&Event::Wrong(what));
            }
            position += length;
        }
        if stream.role() == StreamRole::Alone {
            return self.workload.report(&Event::Wrong(format!("{id}: its stream was alone")));
        }
        let is_published = position == bytes.len() && stream.role() != StreamRole::Cached;
        let durable = self.cache.1 == Durability::Full;
        let action =
            if is_published { Action::Commit { id: id.to_owned(), version, durable } } else { other("stream_close") };
        self.perform(action, |_| {
            let read = if position < bytes.len() || ends_at_close { Ok(0) } else { stream.read(&mut buffer) };
            drop(stream);
            read.map(drop)
        });
        if is_published {
            self.committed.insert(id.to_owned(), version);
        }
    }

    /// The promise counts from the report that follows. An image that is not cached, and one that does not fit, are not pinned.
    fn pin(&self, id: &str) {
        let is_pinned = self.perform(other("pin"), |cache| match cache.pin(id, PINNER, Some(DAY)) {
            Ok(()) => Ok(true),
            Err(Error::NotFound { .. } | Error::PinnedFull { .. }) => Ok(false),
            Err(error) => Err(error),
        });
        if is_pinned {
            let durable = self.cache.1 == Durability::Full;
            self.perform(Action::Pin { id: id.to_owned(), durable }, |_| Ok(()));
        }
    }

    fn read(&mut self, id: &str) {
        let Some(bytes) = self.perform(other("read"), |cache| read(cache, id)) else {
            self.committed.remove(id);
            return;
        };
        let right = match (content::verify(id, &bytes), self.committed.get(id)) {
            (Ok(version), Some(committed)) if version == *committed => Ok(()),
            (Ok(version), Some(committed)) => {
                Err(format!("{id} is version {version}, and version {committed} was committed"))
            }
            (Ok(_), None) => Ok(()),
            (Err(what), _) => Err(format!("{id}: {what}")),
        };
        if let Err(what) = right {
            self.workload.report(&Event::Wrong(what));
        }
    }

    fn reopen(self) -> Self {
        let Self { workload, number, mut random, cache, committed, writers } = self;
        workload.perform(number, Action::Close, || {
            drop(cache);
            Ok(())
        });
        // At times so long that the other worker closes its handle too: the last close ends the index's log.
        for _ in 0..random.u8(0..30) {
            match random.u8(0..8) {
                0 => workload.sync_elsewhere(number),
                _ => workload.perform(number, other("wait"), || Ok(())),
            }
        }
        let cache = workload.open(number, &mut random);
        Self { workload, number, random, cache, committed, writers }
    }
}

/// Pinned images stay.
fn unless_pinned(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(Error::Pinned { .. }) => Ok(()),
        deleted => deleted,
    }
}

fn other(what: &str) -> Action {
    Action::Other(what.to_owned())
}

/// The bytes of an image; `None` where it is not cached.
pub fn read(cache: &ImageCache, id: &str) -> Result<Option<Vec<u8>>> {
    let mut reader = match cache.open_for_read(id) {
        Err(Error::NotFound { .. }) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    let outcome = reader.read_to_end(&mut bytes);
    outcome.map(|_| Some(bytes)).map_err(|error| Error::InvalidArgument(format!("reading: {error}")))
}
