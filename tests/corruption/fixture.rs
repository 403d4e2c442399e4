//! A sound cache that each case of a sweep starts with, and the checks after the case has damaged it.
//!
//! `common/checks.rs` has the rules that need no history. This checker adds what only it knows: the damage was done to the
//! index alone, so the images are exactly those of the fixture. A damaged row may hold a wrong, well-formed digest, which the
//! library cannot recognise: digests are compared with the fixture's, not with the bytes.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use image_cache::{Algorithm, CachedImage, DriverChoice, Durability, Error, ImageCache, Log, LogLevel, Options};
use tempfile::TempDir;

use crate::checks::{CheckResult, INDEX_FILES, check, check_listing, check_second_open, context, md5_hex};

/// The image that each case caches.
const FRESH: &str = "fresh";

/// A cache's directory, and everything in it when a case begins.
pub struct Fixture {
    root: TempDir,
    /// Bytes and mtime of each image.
    images: BTreeMap<String, (Vec<u8>, SystemTime)>,
    /// The listing of these images.
    pub listed: Vec<CachedImage>,
    /// The index's files.
    pub index: BTreeMap<&'static str, Vec<u8>>,
    /// The mtimes of the directory and of the database.
    times: [SystemTime; 2],
    /// Whether the cases write hits and digests, whose loss the log need not mention.
    pub is_edited: bool,
    messages: Arc<Mutex<Vec<(LogLevel, String)>>>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing was lost.
    Unharmed,
    /// The index was repaired; hits and digests may be lost.
    Repaired,
    /// The database was refused, as one of a newer version.
    Refused,
}

impl Fixture {
    /// Creates a cache of so many images. `prepare` runs on the database before the cache opens it.
    pub fn new(images: usize, prepare: &str) -> Self {
        // In memory where possible: thousands of cases sync.
        let memory = Path::new("/dev/shm");
        let root = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap();
        let mut fixture = Self {
            root,
            images: BTreeMap::new(),
            listed: Vec::new(),
            index: BTreeMap::new(),
            times: [SystemTime::UNIX_EPOCH; 2],
            is_edited: false,
            messages: Arc::default(),
        };
        // Without them, a database without tables makes no cache.
        for name in ["", "incomplete", "invalid", "queue"] {
            fs::create_dir(fixture.path().join(name)).unwrap();
        }
        rusqlite::Connection::open(fixture.file("cache.db")).unwrap().execute_batch(prepare).unwrap();
        {
            let cache = fixture.open(u64::MAX).unwrap();
            for number in 0..images {
                let id = format!("{number:04}-d94f-49cd-a114-e12490b328d9");
                let bytes = id.repeat(1 + number % 5).into_bytes();
                let mut writer = cache.begin_write(&id).unwrap();
                if number % 2 == 0 {
                    writer.expect_digest(Algorithm::Md5, &md5_hex(&bytes)).unwrap();
                }
                writer.write_chunk(&bytes).unwrap();
                writer.commit().unwrap();
                for _ in 0..=number % 3 {
                    drop(cache.open_for_read(&id).unwrap());
                }
                let modified = fs::metadata(fixture.file(&id)).unwrap().modified().unwrap();
                fixture.images.insert(id, (bytes, modified));
            }
            fixture.listed = cache.list_cached().unwrap().collect();
        }
        fixture.keep();
        fixture
    }

    /// Makes the present index and times the ones that each case begins with.
    pub fn keep(&mut self) {
        self.times = [".", "cache.db"].map(|name| fs::metadata(self.file(name)).unwrap().modified().unwrap());
        let read = |name: &&'static str| Some((*name, fs::read(self.file(name)).ok()?));
        self.index = INDEX_FILES.iter().filter_map(read).collect();
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Restores everything, with `bytes` in one of the index's files.
    pub fn restore_with(&self, name: &str, bytes: &[u8]) {
        for index_file in INDEX_FILES {
            let placed = if index_file == name { Some(bytes) } else { self.index.get(index_file).map(Vec::as_slice) };
            match placed {
                Some(bytes) => fs::write(self.file(index_file), bytes).unwrap(),
                None => drop(fs::remove_file(self.file(index_file))),
            }
        }
        for (id, (bytes, modified)) in &self.images {
            if !self.file(id).exists() {
                fs::write(self.file(id), bytes).unwrap();
                set_modified(&self.file(id), *modified);
            }
        }
        let _ = fs::remove_file(self.file(FRESH));
        set_modified(&self.path(), self.times[0]);
        // A program that writes into the index sets its mtime to now, as `fs::write` did.
        if self.index.get(name).is_some_and(|original| original == bytes) {
            set_modified(&self.file("cache.db"), self.times[1]);
        }
        self.messages.lock().unwrap().clear();
    }

    pub fn open(&self, max_size: u64) -> image_cache::Result<ImageCache> {
        let sink = Arc::clone(&self.messages);
        let log = Log::new(move |level, message| sink.lock().unwrap().push((level, message.to_owned())));
        ImageCache::open(self.path(), options(max_size).log(log))
    }

    pub fn messages(&self) -> Vec<(LogLevel, String)> {
        std::mem::take(&mut *self.messages.lock().unwrap())
    }

    /// Opens the cache and checks everything that must hold, whatever the index's files hold.
    pub fn check(&self, may_refuse: bool) -> Result<Outcome, String> {
        let cache = match self.open(u64::MAX) {
            Ok(cache) => cache,
            Err(Error::Unsupported(message)) if may_refuse && message.contains("newer") => {
                self.has_all_files()?;
                return Ok(Outcome::Refused);
            }
            Err(error) => return Err(format!("refused: {error}")),
        };
        let mut opened = self.messages();
        let message_count = opened.len();
        // The comparison with the directory is no repair.
        opened.retain(|(_, message)| is_repair(message));
        let mut expected: BTreeMap<_, _> = self.bytes().collect();
        let listed = self.check_images(&cache, &expected)?;
        let lost = listed
            .iter()
            .zip(&self.listed)
            .any(|(now, before)| (now.hits, &now.digest) != (before.hits, &before.digest));
        if lost && !self.is_edited && message_count == 0 && self.messages().is_empty() {
            return Err("hits or digests were lost, and the log says nothing".to_owned());
        }
        for (id, bytes) in &expected {
            if &read(&cache, id)?[..] != *bytes {
                return Err(format!("image {id} has other bytes"));
            }
        }
        let mut writer = cache.begin_write(FRESH).map_err(text)?;
        writer.write_chunk(b"fresh bytes").map_err(text)?;
        writer.commit().map_err(text)?;
        expected.insert(FRESH, b"fresh bytes");
        let listed = self.check_images(&cache, &expected)?;
        drop(cache);
        self.messages();

        let limit = expected.values().map(|bytes| bytes.len() as u64).sum::<u64>() / 2;
        check_second_open(&self.path(), &options(limit), &listed)?;
        let cache = context("the third open", self.open(limit))?;
        self.check_images(&cache, &expected)?;
        context("prune", cache.prune())?;
        let size = context("cache_size", cache.cache_size())?;
        check(size <= limit, || format!("{size} bytes are left by a prune to {limit}"))?;
        expected.retain(|id, _| self.file(id).exists());
        self.check_images(&cache, &expected)?;
        drop(cache);
        let messages = self.messages();
        let is_quiet = messages.iter().all(|(level, _)| *level > LogLevel::Warning);
        check(is_quiet, || format!("after the repair the log has {messages:?}"))?;
        Ok(if lost || !opened.is_empty() { Outcome::Repaired } else { Outcome::Unharmed })
    }

    /// Listing, files and cache size agree, the images are the expected ones, and each has the hits that the listing has.
    pub fn check_images(&self, cache: &ImageCache, expected: &BTreeMap<&str, &[u8]>) -> CheckResult<Vec<CachedImage>> {
        let listed = check_listing(&self.path(), cache)?;
        let sizes: Vec<_> = listed.iter().map(|image| (image.image_id.as_str(), image.size)).collect();
        let is_expected = sizes.iter().copied().eq(expected.iter().map(|(id, bytes)| (*id, bytes.len() as u64)));
        check(is_expected, || format!("the listing has {sizes:?}, not {:?}", expected.keys()))?;
        for image in &listed {
            let hits = context("hit_count", cache.hit_count(&image.image_id))?;
            check(hits == image.hits, || format!("'{}' has {hits} hits, and is listed otherwise", image.image_id))?;
        }
        Ok(listed)
    }

    /// The images' ids and bytes.
    pub fn bytes(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.images.iter().map(|(id, (bytes, _))| (id.as_str(), &bytes[..]))
    }

    pub fn has_all_files(&self) -> Result<(), String> {
        match self.images.iter().find(|(id, (bytes, _))| fs::read(self.file(id)).ok().as_ref() != Some(bytes)) {
            Some((id, _)) => Err(format!("the file of image {id} is gone or has changed")),
            None => Ok(()),
        }
    }
}

fn is_repair(message: &str) -> bool {
    !message.contains("compared with the directory")
}

fn options(max_size: u64) -> Options {
    Options::new().driver(DriverChoice::Sqlite).durability(Durability::None).max_size(max_size)
}

pub fn read(cache: &ImageCache, id: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = cache.open_for_read(id).map_err(text)?;
    std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

pub fn set_modified(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: Error) -> String {
    error.to_string()
}
