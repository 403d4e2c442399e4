//! What is found after a cut, against what was promised before it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use image_cache::{CachedImage, DriverChoice, Error, ImageCache, Log, Options};
use rusqlite::{Connection, OpenFlags};

use crate::content;
use crate::events::{Action, Event};
use crate::promises::Promises;
use crate::workload::{cache_directory, read};

/// The version of each image that is there.
type Versions = BTreeMap<String, u64>;

/// An image that comes and goes with every check.
const PASSING: &str = "passing";

/// What a check found to count.
#[derive(Debug, Default, Clone, Copy)]
pub struct Found {
    /// Images that had to be there, and were.
    pub kept: usize,
    /// Other images that were there and check_image.
    pub check_image: usize,
    /// Images that were dropped for their marks.
    pub dropped: usize,
}

/// Opens the cache on a volume after a cut and looks at everything; an error says what is wrong.
pub fn check(volume: &Path, driver: DriverChoice, promises: &mut Promises) -> Result<Found, String> {
    let directory = cache_directory(volume);
    let logged = Arc::new(Mutex::new(Vec::new()));
    let log = Log::new({
        let logged = Arc::clone(&logged);
        move |_, message| logged.lock().unwrap().push(message.to_owned())
    });
    let options = Options::new().driver(driver).log(log);
    let outcome = check_first_open(&directory, &options, promises).and_then(|(found, listed)| {
        let dropped = logged.lock().unwrap().iter().find_map(|message| {
            message.split(": ").nth(1)?.strip_suffix(" images that were not synced before were dropped")?.parse().ok()
        });
        logged.lock().unwrap().clear();
        check_second_open(&directory, &options, &listed)?;
        if driver == DriverChoice::Sqlite {
            check_index(&directory, &listed)?;
        }
        match &logged.lock().unwrap()[..] {
            [] => Ok(Found { dropped: dropped.unwrap_or(0), ..found }),
            messages => Err(format!("the second opening mended something: {messages:?}")),
        }
    });
    outcome.map_err(|what| format!("{what}\nThe log: {:#?}", logged.lock().unwrap()))
}

/// The first opening, which recovers what the cut left.
fn check_first_open(directory: &Path, options: &Options, promises: &mut Promises) -> Result<(Found, Versions), String> {
    let cache = ImageCache::open(directory, options.clone()).map_err(|error| format!("opening: {error}"))?;
    let required = promises.required();
    let mut listed = check_listing(directory, &cache)?;
    let ids: Vec<_> = promises.ids().map(str::to_owned).collect();
    for id in &ids {
        promises.found(id, listed.get(id).copied())?;
    }
    if let Some(id) = listed.keys().find(|id| !ids.contains(id)) {
        return Err(format!("image '{id}' is from nowhere"));
    }
    for id in &ids {
        check_writable(&cache, id, listed.contains_key(id)).map_err(|error| format!("writing '{id}': {error}"))?;
    }
    check_usable(&cache, promises)?.map_err(|error| format!("using the cache: {error}"))?;
    let found = Found { kept: required, check_image: listed.len() - required, dropped: 0 };
    listed.remove(PASSING);
    Ok((found, listed))
}

/// The second opening, which has nothing to mend.
fn check_second_open(directory: &Path, options: &Options, before: &Versions) -> Result<(), String> {
    let cache = ImageCache::open(directory, options.clone()).map_err(|error| format!("opening again: {error}"))?;
    let listed = check_listing(directory, &cache)?;
    if listed == *before { Ok(()) } else { Err(format!("at the second opening {listed:?}, before it {before:?}")) }
}

/// SQLite finds no defect in the index of a cache that is closed, and its rows are the images.
fn check_index(directory: &Path, listed: &Versions) -> Result<(), String> {
    let failed = |error: rusqlite::Error| format!("the index: {error}");
    // Immutable: looking must not make files beside it, which would change the directory's time.
    let address = format!("file:{}?immutable=1", directory.join("cache.db").display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let index = Connection::open_with_flags(address, flags).map_err(failed)?;
    let verdict: String = index.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
    let mut select = index.prepare("SELECT image_id FROM cached_images ORDER BY image_id").map_err(failed)?;
    let rows = select.query_map([], |row| row.get(0)).and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>);
    let rows = rows.map_err(failed)?;
    if verdict == "ok" && rows.iter().eq(listed.keys()) {
        Ok(())
    } else {
        Err(format!("the index is '{verdict}', and has the rows {rows:?} for the images {:?}", listed.keys()))
    }
}

/// The version of each image. List, files and size agree, and all bytes and digests are right.
fn check_listing(directory: &Path, cache: &ImageCache) -> Result<Versions, String> {
    let failed = |error: Error| error.to_string();
    let list: Vec<_> = cache.list_cached().map_err(failed)?.collect();
    let names: Vec<_> = list.iter().map(|image| image.image_id.clone()).collect();
    let files = image_files(directory).map_err(|error| error.to_string())?;
    if names != files {
        return Err(format!("listed are {names:?}, and the files are {files:?}"));
    }
    let size = cache.cache_size().map_err(failed)?;
    let sum: u64 = list.iter().map(|image| image.size).sum();
    if size != sum {
        return Err(format!("the images have {sum} bytes, and the cache {size}"));
    }
    list.iter().map(|image| Ok((image.image_id.clone(), check_image(cache, image)?))).collect()
}

fn check_image(cache: &ImageCache, image: &CachedImage) -> Result<u64, String> {
    let id = &image.image_id;
    let bytes = read(cache, id).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("image '{id}' is listed, and cannot be opened"))?;
    if image.size != bytes.len() as u64 {
        return Err(format!("image '{id}' has {} bytes, and is listed with {}", bytes.len(), image.size));
    }
    if image.digest.as_ref().is_some_and(|digest| *digest != content::digest(&bytes)) {
        return Err(format!("image '{id}' is listed with another one's digest"));
    }
    content::identify(id, &bytes).map_err(|what| format!("image '{id}': {what}"))
}

/// The files that stand under images' names, by name.
fn image_files(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && !name.starts_with("cache.db") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// No writer that the cut ended blocks its image.
fn check_writable(cache: &ImageCache, id: &str, is_cached: bool) -> Result<(), Error> {
    match cache.begin_write(id) {
        Ok(writer) if !is_cached => {
            writer.abort("it was only tried");
            Ok(())
        }
        Err(Error::AlreadyCached(_)) if is_cached => Ok(()),
        Ok(_) => Err(Error::InvalidArgument("a cached image was begun".to_owned())),
        Err(error) => Err(error),
    }
}

/// The cache goes on: an image comes and goes (and may come back with the next cut, as deletions are not synced), and what
/// was left lying about can be cleaned away.
fn check_usable(cache: &ImageCache, promises: &mut Promises) -> Result<Result<(), Error>, String> {
    let (id, version) = (PASSING, 1);
    let events = [
        Event::Begin(0, Action::Commit { id: id.to_owned(), version, durable: true }),
        Event::End(0),
        Event::Begin(0, Action::Remove { id: id.to_owned() }),
        Event::End(0),
    ];
    events.iter().try_for_each(|event| promises.record(event))?;
    Ok(cache_and_delete(cache, id, version))
}

fn cache_and_delete(cache: &ImageCache, id: &str, version: u64) -> Result<(), Error> {
    cache.delete_cached_image(id)?;
    let before = cache.cache_size()?;
    let bytes = content::of(id, version);
    let mut writer = cache.begin_write(id)?;
    writer.write_chunk(&bytes)?;
    writer.commit()?;
    let as_written = read(cache, id)? == Some(bytes);
    cache.delete_cached_image(id)?;
    cache.clean(None)?;
    for image in cache.list_queued()? {
        if cache.is_cached(&image.image_id)? {
            return Err(Error::InvalidArgument(format!("'{}' is cached, and queued", image.image_id)));
        }
    }
    let is_gone = read(cache, id)?.is_none();
    let is_right = as_written && is_gone && cache.cache_size()? == before;
    if is_right { Ok(()) } else { Err(Error::InvalidArgument("what was written is not what was read".to_owned())) }
}
