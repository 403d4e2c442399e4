//! The checker of what is left when all processes have ended: whether the directory, the index and the history agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use image_cache::{CachedImage, Error, ImageCache};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::common::{Scratch, cache_image, files};
use crate::content::{self, Version};
use crate::history::Operation;
use crate::history_checker::Complaints;

/// What a cache was left with, in numbers.
#[derive(Debug, Default)]
pub struct EndState {
    pub images: usize,
    pub bytes: u64,
    pub hits: u64,
    pub incomplete: usize,
}

/// Judges one cache, whose history names its images `<name>/<id>`. Only killed processes may have left incomplete files.
pub fn check_end_state(
    name: &str,
    scratch: &Scratch,
    ids: &[String],
    history: &[Operation],
    killed: &BTreeSet<u64>,
) -> (Complaints, EndState) {
    let mut complaints = Vec::new();
    let mut end_state = EndState::default();
    let directory = scratch.path();

    let left_by_writers = files(&directory.join("incomplete"));
    end_state.incomplete = left_by_writers.len();
    for id in &left_by_writers {
        let bytes = fs::read(directory.join("incomplete").join(id)).unwrap();
        if let Some(version) = content::claimed_version(&bytes)
            && !killed.contains(&version.process())
        {
            complaints.push(format!("{name}/{id}: its writer, which nobody killed, left it incomplete"));
        }
    }
    if killed.is_empty() && !left_by_writers.is_empty() {
        complaints.push(format!("{name}: incomplete are {left_by_writers:?}, and nobody was killed"));
    }

    let cache = scratch.open();
    let listed: Vec<_> = cache.list_cached().unwrap().collect();
    check_totals(name, &cache, &directory, &listed, &mut complaints);
    end_state.images = listed.len();
    end_state.bytes = listed.iter().map(|image| image.size).sum();
    let hits = hits_by_version(history, killed);
    for image in &listed {
        let key = format!("{name}/{}", image.image_id);
        match check_image(&key, &directory, image, &hits) {
            Ok(counted) => end_state.hits += counted,
            Err(complaint) => complaints.push(format!("{key}: {complaint}")),
        }
    }
    drop(cache);

    let messages = scratch.messages.lock().unwrap().len();
    let cache = scratch.open();
    if cache.list_cached().unwrap().collect::<Vec<_>>() != listed {
        complaints.push(format!("{name}: the second open changed what is listed"));
    }
    if let Some(message) = scratch.messages.lock().unwrap().get(messages) {
        complaints.push(format!("{name}: the second open found something to do: {message}"));
    }
    check_writing(name, &cache, &directory, ids, &mut complaints);
    (complaints, end_state)
}

/// Files, list and totals are the same.
fn check_totals(name: &str, cache: &ImageCache, directory: &Path, listed: &[CachedImage], complaints: &mut Complaints) {
    let size_of = |id: &String| fs::metadata(directory.join(id)).unwrap().len();
    let is_image = |file: &String| !file.starts_with("cache.db");
    let of_files: Vec<_> = files(directory).into_iter().filter(is_image).map(|id| (size_of(&id), id)).collect();
    let of_list: Vec<_> = listed.iter().map(|image| (image.size, image.image_id.clone())).collect();
    if of_files != of_list {
        complaints.push(format!("{name}: the files are {of_files:?}, listed are {of_list:?}"));
    }
    let (total, sum) = (cache.cache_size().unwrap(), of_files.iter().map(|(size, _)| size).sum::<u64>());
    if total != sum {
        complaints.push(format!("{name}: the cache's size is {total}, the files have {sum} bytes"));
    }
}

/// Of each version, how many readers must have been counted, and how many may have. A process that was killed may have
/// taken with it what closed since it was asked for hits last.
fn hits_by_version<'a>(history: &'a [Operation], killed: &BTreeSet<u64>) -> BTreeMap<(&'a str, Version), (u64, u64)> {
    let mut asked: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    for ask in history.iter().filter(|operation| operation.succeeded && operation.action == "query_hits") {
        let last = asked.entry((ask.process, &ask.image)).or_default();
        *last = ask.begun.max(*last);
    }
    let mut hits: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for read in history.iter().filter(|operation| operation.action == "read" && operation.closing) {
        let Some(version) = read.version else { continue };
        let (cache, _) = read.image.split_once('/').unwrap();
        let written_until = match asked.get(&(read.process, cache)) {
            _ if !killed.contains(&read.process) => u64::MAX,
            asked => asked.copied().unwrap_or(0),
        };
        let (least, most) = hits.entry((read.image.as_str(), version)).or_default();
        *least += u64::from(read.ended.is_some_and(|ended| ended < written_until));
        *most += 1;
    }
    hits
}

/// The file is whole, its digest is its bytes', and its hits are those of its readers. Returns how many.
fn check_image(
    key: &str,
    directory: &Path,
    image: &CachedImage,
    hits: &BTreeMap<(&str, Version), (u64, u64)>,
) -> Result<u64, String> {
    // Not through the cache, where it would be a use, and without leaving an access time.
    let file = File::options().read(true).custom_flags(libc::O_NOATIME).open(directory.join(&image.image_id));
    let mut bytes = Vec::new();
    file.and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    let version = content::verify(&image.image_id, &bytes)?;
    let (least, most) = hits.get(&(key, version)).copied().unwrap_or_default();
    if image.hits < least || image.hits > most {
        return Err(format!("{} hits of version {version}, not {least} to {most}", image.hits));
    }
    let digests = [None, Some(format!("md5:{}", md5(&bytes))), Some(format!("sha256:{}", sha256(&bytes)))];
    if !digests.contains(&image.digest) {
        return Err(format!("it has not the digest {:?}", image.digest));
    }
    Ok(least)
}

/// Nothing that anybody left is in the way of a new writer, and `clean` takes all of it away.
fn check_writing(name: &str, cache: &ImageCache, directory: &Path, ids: &[String], complaints: &mut Complaints) {
    for id in ids {
        match cache.begin_write(id) {
            Ok(writer) => drop(writer),
            Err(Error::AlreadyCached(_)) if cache.is_cached(id).unwrap() => {}
            Err(error) => complaints.push(format!("{name}/{id} cannot be written: {error}")),
        }
    }
    cache.clean(Some(std::time::Duration::ZERO)).unwrap();
    for folder in ["incomplete", "invalid"] {
        let left = files(&directory.join(folder));
        if !left.is_empty() {
            complaints.push(format!("{name}: after a clean {folder} still has {left:?}"));
        }
    }
    cache.delete_all_cached_images().unwrap();
    for id in ids {
        cache_image(cache, id, b"new");
    }
    let size = cache.cache_size().unwrap();
    if size != 3 * ids.len() as u64 {
        complaints.push(format!("{name}: with all images cached anew the cache's size is {size}"));
    }
}

/// In hexadecimal digits.
pub fn md5(bytes: &[u8]) -> String {
    hexadecimal(&Md5::digest(bytes))
}

/// In hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
