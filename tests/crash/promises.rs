//! Checks every promise on the directory that an operation left.
//!
//! `common/checks.rs` has the rules that need no history; `expected.rs` has what this operation may and must leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use image_cache::{CachedImage, Error, ImageCache, LimitMode};

use crate::checks::{
    CLOSED_INDEX_FILES, CheckResult, begin_unless_cached, check, check_clean, check_image, check_listing, check_queue,
    check_second_open, context, file_names, image_files, read_without_atime,
};
use crate::configuration::Configuration;
use crate::expected::Expected;
use crate::fixture::{QUEUED, bytes_of, write_image};
use crate::operations::{ANOTHER, HOLDER};
use crate::state::State;

/// What was checked already: the same directory keeps the same promises.
#[derive(Default)]
pub struct Checked(Mutex<BTreeSet<(State, Expected)>>);

impl Checked {
    pub fn is_new(&self, state: State, expected: &Expected) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((state, expected.clone()))
    }
}

/// Opens the cache in `directory` and checks every promise; the checks end with an empty cache. `fixture` is the directory
/// before the operation, `scratch` an empty directory.
pub fn check_all(
    directory: &Path,
    fixture: &Path,
    scratch: &Path,
    configuration: Configuration,
    expected: &Expected,
) -> CheckResult {
    check_images_of(directory)?;
    let found = image_files(directory)?;
    check_opens(directory, fixture, scratch, configuration, expected, &found)?;
    check_in_use(directory, configuration, expected)?;
    check_emptied(directory, configuration, expected)
}

/// The first open finds what it must find, and the second open changes nothing.
fn check_opens(
    directory: &Path,
    fixture: &Path,
    scratch: &Path,
    configuration: Configuration,
    expected: &Expected,
    found: &BTreeMap<String, u64>,
) -> CheckResult {
    let listed = check_first_open(directory, configuration, expected, found)?;
    check_names(directory, expected)?;
    let state = |step| {
        let state = State::of(directory, fixture, scratch).map(State::without_index_internals);
        context(step, state)
    };
    let after_first = state("the state after the first open")?;
    check_second_open(directory, &configuration.options(), &listed)?;
    let after_second = state("the state after the second open")?;
    check(after_first == after_second, || {
        format!("the second open changed something:\n{after_first:#?}\n{after_second:#?}")
    })
}

fn check_first_open(
    directory: &Path,
    configuration: Configuration,
    expected: &Expected,
    found: &BTreeMap<String, u64>,
) -> CheckResult<Vec<CachedImage>> {
    // A hard limit would be in the way of the checks.
    let options = configuration.options().limit_mode(LimitMode::Soft);
    let cache = context("the first open", ImageCache::open(directory, options))?;
    let listed = check_images(directory, &cache)?;
    let is_listed = |id: &str| listed.iter().any(|image| image.image_id == id);
    for id in found.keys().map(String::as_str).chain(expected.cached.iter().copied()) {
        let may_go = expected.unsynced.contains(id);
        check(may_go || is_listed(id), || format!("'{id}' was lost"))?;
    }
    for image in &listed {
        let id = &image.image_id[..];
        check(expected.may_be_cached.contains(id), || format!("'{id}' is cached"))?;
        let (least, most) = expected.hits.get(id).copied().unwrap_or_default();
        check((least..=most).contains(&image.hits), || {
            format!("'{id}' has {} hits, not {least} to {most}", image.hits)
        })?;
    }
    for image in &listed {
        let (id, is_pinned) = (&image.image_id[..], image.pinned_until != 0);
        check(!is_pinned || expected.may_be_pinned.contains(id), || format!("'{id}' is pinned"))?;
        check(is_pinned || !expected.pinned.contains(id), || format!("'{id}' is not pinned any more"))?;
        if is_pinned {
            let deleted = cache.delete_cached_image(id);
            let is_refused = matches!(deleted, Err(Error::Pinned { .. }));
            check(is_refused, || format!("deleting the pinned '{id}': {deleted:?}"))?;
        }
    }
    let size = listed.iter().map(|image| image.size).sum::<u64>();
    check(expected.limit.is_none_or(|limit| size <= limit), || format!("{size} bytes are more than the limit"))?;
    check_expected_queue(&cache, is_listed, expected)?;
    Ok(listed)
}

/// Listing, files and sizes agree, and every image has its own bytes.
fn check_images(directory: &Path, cache: &ImageCache) -> CheckResult<Vec<CachedImage>> {
    let listed = check_listing(directory, cache)?;
    check_bytes(directory, listed.iter().map(|image| &image.image_id))?;
    for image in &listed {
        check_image(image, &bytes_of(&image.image_id))?;
    }
    Ok(listed)
}

fn check_expected_queue(cache: &ImageCache, is_cached: impl Fn(&str) -> bool, expected: &Expected) -> CheckResult {
    let queue = check_queue(cache)?;
    let queued: Vec<_> = queue.iter().map(|image| image.image_id.as_str()).collect();
    for id in &queued {
        check(expected.may_be_queued.contains(id), || format!("'{id}' is queued"))?;
    }
    for id in &expected.queued {
        check(queued.contains(id), || format!("'{id}' is not queued any more"))?;
    }
    // An image stays queued when its writer dies.
    for id in expected.may_be_queued.iter().filter(|id| QUEUED.contains(id) && expected.written.contains(*id)) {
        check(queued.contains(id) || is_cached(id), || format!("'{id}' is neither queued nor cached"))?;
    }
    Ok(())
}

/// The directory has no file beyond images, the index, and what an interrupted writer left.
fn check_names(directory: &Path, expected: &Expected) -> CheckResult {
    for subdirectory in ["incomplete", "invalid"] {
        for name in file_names(&directory.join(subdirectory))? {
            let is_known = expected.written.contains(&name[..]);
            check(is_known && !expected.is_cleaned, || format!("there is a file '{name}' in {subdirectory}/"))?;
        }
    }
    for name in file_names(directory)? {
        let is_known = expected.may_be_cached.contains(&name[..]) || CLOSED_INDEX_FILES.contains(&name.as_str());
        check(is_known, || format!("a file '{name}' is left"))?;
    }
    let journal = fs::read(directory.join(CLOSED_INDEX_FILES[1])).unwrap_or_default();
    check(journal.first().is_none_or(|first| *first == 0), || "a transaction of the index is unfinished".to_owned())
}

/// What was interrupted can be cached at once, and every image can be read.
fn check_in_use(directory: &Path, configuration: Configuration, expected: &Expected) -> CheckResult {
    let cache = context("the third open", ImageCache::open(directory, configuration.options()))?;
    for id in expected.written.iter().copied().chain(["another"]) {
        if let Some(writer) = begin_unless_cached(&cache, id)? {
            context(&format!("caching '{id}'"), write_image(writer, id))?;
        }
        check(!context("is_queued", cache.is_queued(id))?, || format!("'{id}' is cached and still queued"))?;
    }
    for image in check_images(directory, &cache)? {
        let id = &image.image_id[..];
        let mut bytes = Vec::new();
        let mut reader = context("open_for_read", cache.open_for_read(id))?;
        context("reading", reader.read_to_end(&mut bytes))?;
        check(bytes == bytes_of(id), || format!("wrong bytes are served as '{id}'"))?;
        drop(reader);
        let least = expected.hits.get(id).map_or(0, |(least, _)| *least);
        check(context("hit_count", cache.hit_count(id))? > least, || format!("the hit of '{id}' was not counted"))?;
    }
    Ok(())
}

/// Clean, prune and the queue's deletion remove every file but the index.
fn check_emptied(directory: &Path, configuration: Configuration, expected: &Expected) -> CheckResult {
    let cache = context("the last open", ImageCache::open(directory, configuration.options().max_size(0)))?;
    check_clean(directory, &cache)?;
    for id in &expected.may_be_pinned {
        context("unpin", cache.unpin(id, HOLDER).and_then(|()| cache.unpin(id, ANOTHER)))?;
    }
    context("prune", cache.prune())?;
    check(context("cache_size", cache.cache_size())? == 0, || "a prune to 0 bytes leaves images".to_owned())?;
    context("delete_all_queued", cache.delete_all_queued_images())?;
    drop(cache);
    for subdirectory in ["incomplete", "invalid", "queue", ".image_cache/streams", ".image_cache/pins"] {
        let left = file_names(&directory.join(subdirectory))?;
        check(left.is_empty(), || format!("{left:?} stay in {subdirectory}/"))?;
    }
    let left: Vec<_> =
        file_names(directory)?.into_iter().filter(|name| !CLOSED_INDEX_FILES.contains(&name.as_str())).collect();
    check(left.is_empty(), || format!("{left:?} stay"))
}

/// Every file under an image's name has all bytes of that image.
pub fn check_images_of(directory: &Path) -> CheckResult {
    check_bytes(directory, image_files(directory)?.keys())
}

fn check_bytes<'a>(directory: &Path, ids: impl IntoIterator<Item = &'a String>) -> CheckResult {
    for id in ids {
        let bytes = context(id, read_without_atime(&directory.join(id)))?;
        check(bytes == bytes_of(id), || format!("'{id}' has {} wrong bytes under its final name", bytes.len()))?;
    }
    Ok(())
}
