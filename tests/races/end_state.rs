//! Checks what is left when all processes have ended.
//!
//! `common/checks.rs` has the rules that need no history. This checker adds what only it knows: which versions were read how
//! often, and which processes were killed. `history_checker.rs` compares what was served with the order of all operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use image_cache::{CachedImage, ImageCache};

use crate::checks::{
    CheckResult, begin_unless_cached, check, check_clean, check_image, check_listing, check_queue, check_second_open,
    context, read_without_atime,
};
use crate::common::{Scratch, cache_image, files};
use crate::content::{self, Version};
use crate::history::Operation;
use crate::history_checker::Violations;

/// What a cache was left with, in numbers.
#[derive(Debug, Default)]
pub struct EndState {
    pub images: usize,
    pub bytes: u64,
    pub hits: u64,
    pub incomplete: usize,
}

/// Checks one cache, whose history names its images `<name>/<id>`. Only killed processes may leave incomplete files.
pub fn check_end_state(
    name: &str,
    scratch: &Scratch,
    ids: &[String],
    history: &[Operation],
    killed: &BTreeSet<u64>,
) -> (Violations, EndState) {
    let mut violations = Vec::new();
    let mut end_state = EndState::default();
    let directory = scratch.path();
    end_state.incomplete = check_incomplete(name, &directory, killed, &mut violations);
    let mut note = |result: CheckResult| violations.extend(result.err().map(|what| format!("{name}: {what}")));

    let cache = scratch.open();
    let listed = check_listing(&directory, &cache);
    note(listed.as_ref().map(drop).map_err(Clone::clone));
    let listed = listed.unwrap_or_default();
    end_state.images = listed.len();
    end_state.bytes = listed.iter().map(|image| image.size).sum();
    let hits = hits_by_version(history, killed);
    for image in &listed {
        match check_version(name, &directory, image, &hits) {
            Ok(counted) => end_state.hits += counted,
            Err(violation) => note(Err(format!("{}: {violation}", image.image_id))),
        }
    }
    note(check_queue(&cache).map(drop));
    drop(cache);
    note(check_second_open(&directory, &scratch.options, &listed));
    note(check_writing(&directory, &scratch.open(), ids));
    (violations, end_state)
}

/// Returns how many incomplete files there are.
fn check_incomplete(name: &str, directory: &Path, killed: &BTreeSet<u64>, violations: &mut Violations) -> usize {
    let incomplete = files(&directory.join("incomplete"));
    for id in &incomplete {
        let bytes = fs::read(directory.join("incomplete").join(id)).unwrap();
        if let Some(version) = content::claimed_version(&bytes)
            && !killed.contains(&version.process())
        {
            violations.push(format!("{name}/{id}: a writer that was not killed left it incomplete"));
        }
    }
    if killed.is_empty() && !incomplete.is_empty() {
        violations.push(format!("{name}: {incomplete:?} are incomplete, and no process was killed"));
    }
    incomplete.len()
}

/// The least and the most hits of each version. A killed process may lose the hits since its last query for hits.
fn hits_by_version<'a>(history: &'a [Operation], killed: &BTreeSet<u64>) -> BTreeMap<(&'a str, Version), (u64, u64)> {
    let mut queries: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    for query in history.iter().filter(|operation| operation.succeeded && operation.action == "query_hits") {
        let last = queries.entry((query.process, &query.image)).or_default();
        *last = query.begun.max(*last);
    }
    let mut hits: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for read in history.iter().filter(|operation| operation.action == "read" && operation.closing) {
        let Some(version) = read.version else { continue };
        let (cache, _) = read.image.split_once('/').unwrap();
        let written_until = match queries.get(&(read.process, cache)) {
            _ if !killed.contains(&read.process) => u64::MAX,
            query => query.copied().unwrap_or(0),
        };
        let (least, most) = hits.entry((read.image.as_str(), version)).or_default();
        *least += u64::from(!read.outlives && read.ended.is_some_and(|ended| ended < written_until));
        *most += 1;
    }
    hits
}

/// The file is one committed version, and its hits are those of its readers. Returns the least number of hits.
fn check_version(
    name: &str,
    directory: &Path,
    image: &CachedImage,
    hits: &BTreeMap<(&str, Version), (u64, u64)>,
) -> CheckResult<u64> {
    // Not through the cache: that would count as an access.
    let bytes = context("reading", read_without_atime(&directory.join(&image.image_id)))?;
    check_image(image, &bytes)?;
    let version = content::verify(&image.image_id, &bytes)?;
    let key = format!("{name}/{}", image.image_id);
    let (least, most) = hits.get(&(key.as_str(), version)).copied().unwrap_or_default();
    check((least..=most).contains(&image.hits), || {
        format!("{} hits of version {version}, not {least} to {most}", image.hits)
    })?;
    Ok(least)
}

/// No leftover blocks a new writer, and a clean removes all leftovers.
fn check_writing(directory: &Path, cache: &ImageCache, ids: &[String]) -> CheckResult {
    for id in ids {
        begin_unless_cached(cache, id)?;
    }
    check_clean(directory, cache)?;
    context("delete_all", cache.delete_all_cached_images())?;
    for id in ids {
        cache_image(cache, id, b"new");
    }
    let size = context("cache_size", cache.cache_size())?;
    check(size == 3 * ids.len() as u64, || format!("after all images were cached again the cache size is {size}"))
}
