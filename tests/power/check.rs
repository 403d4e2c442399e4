//! Checks the cache on a volume after a cut.
//!
//! `common/checks.rs` has the rules that need no history. This checker adds what only it knows: which versions each image may
//! have by the commits that the workload acknowledged before the cut (`promises.rs`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use image_cache::{CachedImage, DriverChoice, Error, ImageCache, Options, VerifyOptions};
use rusqlite::{Connection, OpenFlags};

use crate::checks::{
    CheckResult, begin_unless_cached, check, check_clean, check_image, check_listing, check_queue, check_second_open,
    context, file_names, recording_log,
};
use crate::content::{self, Version};
use crate::events::{Action, Event};
use crate::promises::Promises;
use crate::streams::check_streams;
use crate::workload::{cache_directory, read};

/// The version of each image that is cached.
type Versions = BTreeMap<String, Version>;

/// The image that each check caches and deletes.
const PROBE: (&str, Version) = ("probe", Version(1));

/// What one check counted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Found {
    /// Images that the promises require, and that were there.
    pub kept: usize,
    /// Other images that were there, whole.
    pub whole: usize,
    /// Images that were dropped for their marks.
    pub dropped: usize,
    /// Fetches of streams that could be resumed.
    pub resumable: usize,
}

/// Opens the cache on a volume after a cut and checks everything.
pub fn check_volume(volume: &Path, driver: DriverChoice, promises: &mut Promises) -> CheckResult<Found> {
    let directory = cache_directory(volume);
    let (log, logged) = recording_log();
    let options = Options::new().driver(driver);
    let outcome = check_first_open(&directory, &options.clone().log(log), promises).and_then(|(found, first)| {
        check_second_open(&directory, &options, &first.listed)?;
        let cache = context("the third open", ImageCache::open(&directory, options))?;
        let versions = check_versions(&directory, &cache)?;
        check(versions == first.versions, || {
            format!("{versions:?} at the third open, {:?} at the first", first.versions)
        })?;
        drop(cache);
        if driver == DriverChoice::Sqlite {
            check_index(&directory, &first.listed)?;
        }
        Ok(found)
    });
    let logged = logged.lock().unwrap();
    let dropped = logged.iter().find_map(|message| {
        message.split(": ").nth(1)?.strip_suffix(" images that were not synced were dropped")?.parse().ok()
    });
    match outcome {
        Ok(found) => Ok(Found { dropped: dropped.unwrap_or(0), ..found }),
        Err(violation) => Err(format!("{violation}\nThe log of the first open: {logged:#?}")),
    }
}

/// What the first open showed, when it closed.
struct FirstOpen {
    listed: Vec<CachedImage>,
    versions: Versions,
}

/// The first open recovers what the cut left.
fn check_first_open(directory: &Path, options: &Options, promises: &mut Promises) -> CheckResult<(Found, FirstOpen)> {
    let cache = context("the first open", ImageCache::open(directory, options.clone()))?;
    let required = promises.required();
    let mut versions = check_versions(directory, &cache)?;
    let ids: Vec<_> = promises.ids().map(str::to_owned).collect();
    for id in &ids {
        promises.found(id, versions.get(id).copied())?;
    }
    for id in versions.keys() {
        check(ids.contains(id), || format!("image '{id}' was never written"))?;
    }
    check_pins(&cache, promises)?;
    let usage = context("usage", cache.usage())?;
    promises.found_limit(usage.is_hard.then_some(usage.limit))?;
    // What was not flushed is lost.
    context("statistics", cache.statistics())?;
    check_digests(&cache, versions.len())?;
    let resumable = check_streams(directory, &cache, promises)?;
    for id in &ids {
        if let Some(writer) = begin_unless_cached(&cache, id)? {
            writer.abort("it was only tried");
        }
    }
    check_usable(directory, &cache, promises)?;
    let found = Found { kept: required, whole: versions.len() - required, dropped: 0, resumable };
    versions.remove(PROBE.0);
    Ok((found, FirstOpen { listed: check_listing(directory, &cache)?, versions }))
}

/// Pinned images that are there are still pinned.
fn check_pins(cache: &ImageCache, promises: &mut Promises) -> CheckResult {
    let ids: Vec<_> = promises.pinned().map(str::to_owned).collect();
    for id in ids {
        match cache.get_image(&id) {
            Ok(image) => check(image.pinned_until > 0, || {
                format!("image '{id}' is not pinned any more\n{}", promises.history_of(&id))
            })?,
            Err(Error::NotFound { .. }) => promises.forget_pin(&id),
            Err(error) => return Err(format!("get_image: {error}")),
        }
    }
    Ok(())
}

/// Each image has the digest of its commit.
fn check_digests(cache: &ImageCache, images: usize) -> CheckResult {
    let verified = cache.verify(None, &VerifyOptions::default(), |_, _, _| ControlFlow::Continue(()));
    let verified = context("verify", verified)?;
    check(verified.verified == images as u64, || format!("{images} images, of which verify says {verified:?}"))
}

/// The version of each image: every byte is right.
fn check_versions(directory: &Path, cache: &ImageCache) -> CheckResult<Versions> {
    let mut versions = Versions::new();
    for image in check_listing(directory, cache)? {
        let id = &image.image_id;
        let bytes = context("reading", read(cache, id))?;
        let bytes = bytes.ok_or_else(|| format!("image '{id}' is listed, and cannot be opened"))?;
        check_image(&image, &bytes)?;
        let version = content::verify(id, &bytes).map_err(|what| format!("image '{id}': {what}"))?;
        versions.insert(image.image_id, version);
    }
    Ok(versions)
}

/// After the close SQLite finds no defect in the index, and its rows are the images.
fn check_index(directory: &Path, listed: &[CachedImage]) -> CheckResult {
    // Immutable: other opens create files beside the database, which changes the directory's mtime.
    let address = format!("file:{}?immutable=1", directory.join("cache.db").display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let index = context("the index", Connection::open_with_flags(address, flags))?;
    let integrity: rusqlite::Result<String> = index.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    let integrity = context("integrity_check", integrity)?;
    let mut select = context("the index", index.prepare("SELECT image_id FROM cached_images ORDER BY image_id"))?;
    let rows = select.query_map([], |row| row.get(0)).and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>);
    let rows = context("the index", rows)?;
    check(integrity == "ok", || format!("the index is '{integrity}'"))?;
    let is_same = rows.iter().eq(listed.iter().map(|image| &image.image_id));
    check(is_same, || format!("the index has the rows {rows:?} for the images {listed:?}"))
}

/// The cache works: an image is cached and deleted, and what the cut left can be cleaned away.
fn check_usable(directory: &Path, cache: &ImageCache, promises: &mut Promises) -> CheckResult {
    // The next cut may bring the probe back, since deletions are not synced.
    let (id, version) = (PROBE.0.to_owned(), PROBE.1);
    let events = [
        Event::Begin(0, Action::Commit { id: id.clone(), version, durable: true }),
        Event::End(0),
        Event::Begin(0, Action::Remove { id }),
        Event::End(0),
    ];
    events.iter().try_for_each(|event| promises.record(event))?;
    check_probe(directory, cache)?;
    check_clean(directory, cache)?;
    let records = file_names(&directory.join(".image_cache/streams"))?;
    check(records.is_empty(), || format!("the records {records:?} of streams stay after a clean"))?;
    check_queue(cache).map(drop)
}

fn check_probe(directory: &Path, cache: &ImageCache) -> CheckResult {
    let (id, version) = PROBE;
    context("delete", cache.delete_cached_image(id))?;
    let before = check_listing(directory, cache)?.len();
    let bytes = version.bytes(id);
    let mut writer = context("begin_write", cache.begin_write(id))?;
    context("write_chunk", writer.write_chunk(&bytes))?;
    context("commit", writer.commit())?;
    check(check_listing(directory, cache)?.len() == before + 1, || "the new image is not listed".to_owned())?;
    let is_as_written = context("reading", read(cache, id))? == Some(bytes);
    check(is_as_written, || "the bytes read are not the bytes written".to_owned())?;
    context("delete", cache.delete_cached_image(id))?;
    check(context("reading", read(cache, id))?.is_none(), || "a deleted image is served".to_owned())?;
    check(check_listing(directory, cache)?.len() == before, || "a deleted image is listed".to_owned())
}
