//! The rules that hold for every cache directory, whatever happened before: a kill, a fault, a power cut, a race, damage.
//!
//! They need no knowledge of what happened, so each rule is stated once, here. Each sweep adds the rules that only its own
//! knowledge allows, and says at the top of its checker what that knowledge is.

#![allow(dead_code, reason = "each sweep uses a part")]

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use image_cache::{CachedImage, Error, ImageCache, Log, Options, QueuedImage, Writer};
use md5::{Digest as _, Md5};
use rustix::fs::OFlags;
use sha2::Sha256;

/// The files of the SQLite driver's index. They are no images.
pub const INDEX_FILES: [&str; 4] = ["cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal"];

/// Those of them that stay when the last handle is closed.
pub const CLOSED_INDEX_FILES: [&str; 2] = ["cache.db", "cache.db-journal"];

/// What a rule returns: the violation, in a sentence.
pub type CheckResult<T = ()> = Result<T, String>;

/// The messages that a log received.
pub type Messages = Arc<Mutex<Vec<String>>>;

pub fn check(holds: bool, violation: impl FnOnce() -> String) -> CheckResult {
    if holds { Ok(()) } else { Err(violation()) }
}

/// Names the step that failed.
pub fn context<T, E: Display>(step: &str, result: Result<T, E>) -> CheckResult<T> {
    result.map_err(|error| format!("{step}: {error}"))
}

pub fn recording_log() -> (Log, Messages) {
    let messages = Messages::default();
    let sink = Arc::clone(&messages);
    (Log::new(move |_, message| sink.lock().unwrap().push(message.to_owned())), messages)
}

/// Returns the directory's images after comparing listing, files and cache size.
pub fn check_listing(directory: &Path, cache: &ImageCache) -> CheckResult<Vec<CachedImage>> {
    let listed: Vec<_> = context("list_cached", cache.list_cached())?.collect();
    let sizes: BTreeMap<_, _> = listed.iter().map(|image| (image.image_id.clone(), image.size)).collect();
    check(sizes.len() == listed.len(), || format!("an image is listed twice: {listed:?}"))?;
    let files = image_files(directory)?;
    check(sizes == files, || format!("the listing is {sizes:?}, the files are {files:?}"))?;
    let (size, sum) = (context("cache_size", cache.cache_size())?, files.values().sum::<u64>());
    check(size == sum, || format!("the cache size is {size}, the files have {sum} bytes"))?;
    Ok(listed)
}

/// What a listing has beside what images take up on the disk, which the file system changes: it writes blocks later, and moves attributes
/// into blocks and back.
fn lasting(listed: &[CachedImage]) -> Vec<CachedImage> {
    listed.iter().map(|image| CachedImage { allocated: 0, ..image.clone() }).collect()
}

/// An image's bytes have the size and the digest that the listing has.
pub fn check_image(image: &CachedImage, bytes: &[u8]) -> CheckResult {
    let (id, length) = (&image.image_id, bytes.len());
    check(image.size == length as u64, || format!("'{id}' has {length} bytes, and is listed with {}", image.size))?;
    let Some(listed) = &image.digest else { return Ok(()) };
    let crc = format!("crc64nvme:{:016x}", crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes));
    let digests = [crc, format!("md5:{}", md5_hex(bytes)), format!("sha256:{}", sha256_hex(bytes))];
    check(digests.contains(listed), || format!("'{id}' is listed with {listed}, its bytes have {digests:?}"))
}

/// No image is queued and cached; each listed entry is queued; the list has its order. Returns the list.
pub fn check_queue(cache: &ImageCache) -> CheckResult<Vec<QueuedImage>> {
    let queue = context("list_queued", cache.list_queued())?;
    for id in queue.iter().map(|image| &image.image_id) {
        check(!context("is_cached", cache.is_cached(id))?, || format!("'{id}' is cached and queued"))?;
        check(context("is_queued", cache.is_queued(id))?, || format!("'{id}' is listed as queued, and is not"))?;
    }
    check(queue.is_sorted_by_key(|image| image.queued), || format!("the queue is not in its order: {queue:?}"))?;
    Ok(queue)
}

/// An open after a recovery finds nothing to repair: it lists the same, and logs nothing. Closes the cache.
pub fn check_second_open(directory: &Path, options: &Options, before: &[CachedImage]) -> CheckResult {
    let (log, messages) = recording_log();
    let cache = context("the second open", ImageCache::open(directory, options.clone().log(log)))?;
    let listed = check_listing(directory, &cache).map_err(|what| format!("at the second open: {what}"))?;
    check(lasting(&listed) == lasting(before), || {
        format!("the second open lists {listed:#?}, the first one listed {before:#?}")
    })?;
    drop(cache);
    let messages = messages.lock().unwrap();
    check(messages.is_empty(), || format!("the second open logs {messages:?}"))
}

/// No earlier writer blocks the image: returns a writer for it, or `None` where it is cached.
pub fn begin_unless_cached(cache: &ImageCache, id: &str) -> CheckResult<Option<Writer>> {
    let is_cached = context("is_cached", cache.is_cached(id))?;
    match cache.begin_write(id) {
        Ok(writer) if !is_cached => Ok(Some(writer)),
        Err(Error::AlreadyCached(_)) if is_cached => Ok(None),
        Ok(_) => Err(format!("begin_write of '{id}' succeeds, though it is cached")),
        Err(error) => Err(format!("begin_write of '{id}' (cached: {is_cached}): {error}")),
    }
}

/// A clean with stall time 0 removes every incomplete and every invalid file.
pub fn check_clean(directory: &Path, cache: &ImageCache) -> CheckResult {
    context("clean", cache.clean(Some(Duration::ZERO)))?;
    for subdirectory in ["incomplete", "invalid"] {
        let left = file_names(&directory.join(subdirectory))?;
        check(left.is_empty(), || format!("{left:?} stay in {subdirectory}/ after a clean"))?;
    }
    Ok(())
}

/// The files under images' names, with their sizes.
pub fn image_files(directory: &Path) -> CheckResult<BTreeMap<String, u64>> {
    let names = file_names(directory)?.into_iter().filter(|name| !INDEX_FILES.contains(&name.as_str()));
    names
        .map(|name| {
            let size = context(&name, fs::metadata(directory.join(&name)))?.len();
            Ok((name, size))
        })
        .collect()
}

/// The names of a directory's regular files, sorted. A directory that does not exist has none.
pub fn file_names(directory: &Path) -> CheckResult<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => context(&directory.to_string_lossy(), entries)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = context(&directory.to_string_lossy(), entry)?;
        if context(&directory.to_string_lossy(), entry.file_type())?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a file and leaves its atime: the cache's access order is part of what is compared.
pub fn read_without_atime(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut options = File::options();
    options.read(true).custom_flags(i32::try_from(OFlags::NOATIME.bits()).expect("a flag of open"));
    options.open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}
