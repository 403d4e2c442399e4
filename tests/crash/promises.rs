//! FaultKind must hold of a cache whatever happened to the processes that used it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use image_cache::{CachedImage, Error, ImageCache};

use crate::fixture::{CACHED, Configuration, DEAD, FAILED, Fixture, QUEUED, bytes_of, cache_image, read_quietly};
use crate::operations::{Effect, LIMIT, Operation, Outcome};
use crate::state::{INDEX_FILES, State};

/// FaultKind is wrong, in a sentence.
pub type CheckResult = Result<(), String>;

/// FaultKind may be, and what must be, after an operation that was interrupted, or was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    cached: BTreeSet<&'static str>,
    may_be_cached: BTreeSet<&'static str>,
    queued: BTreeSet<&'static str>,
    may_be_queued: BTreeSet<&'static str>,
    /// Of each image that stays, from and to.
    hits: BTreeMap<&'static str, (u64, u64)>,
    /// Whose fetch was interrupted.
    written: BTreeSet<&'static str>,
    /// Whose file may stand under its final name and not survive the next open.
    unsynced: BTreeSet<&'static str>,
    /// FaultKind must be in `incomplete/` and `invalid/`, as far as nobody cleaned.
    is_cleaned: bool,
    /// The size that the cache has at the most.
    limit: Option<u64>,
}

impl Expected {
    /// Before anything happens.
    pub fn of_fixture(fixture: Fixture) -> Self {
        let mut expected = Self::default();
        if fixture == Fixture::Empty {
            return expected;
        }
        for (id, hits) in CACHED {
            expected.hits.insert(id, (if fixture == Fixture::Damaged { 0 } else { hits }, hits));
            expected.cached.insert(id);
        }
        expected.queued.extend(QUEUED);
        expected.written.extend([DEAD, FAILED]);
        if fixture == Fixture::Crashed {
            expected.cached.remove("oldest");
            expected.cached.insert("adopted");
            expected.hits.insert("adopted", (0, 0));
        }
        if fixture == Fixture::Restarted {
            expected.unsynced.insert("oldest");
        }
        expected.may_be_cached = expected.cached.clone();
        expected.may_be_queued = expected.queued.clone();
        expected
    }

    /// After an operation that was interrupted, or failed, or reported success (`returned`).
    pub fn after(operation: &Operation, returned: bool) -> Self {
        let mut expected = Self::of_fixture(operation.fixture);
        for effect in operation.effects {
            expected.apply(*effect);
            if returned {
                expected.complete(*effect);
            }
        }
        expected
    }

    /// And after another one, which was interrupted.
    pub fn add<'a>(&mut self, effects: impl IntoIterator<Item = &'a Effect>) {
        effects.into_iter().for_each(|effect| self.apply(*effect));
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Caches(id) => {
                self.may_be_cached.insert(id);
                self.queued.remove(id);
                self.written.insert(id);
                self.hits.insert(id, (0, 0));
            }
            Effect::Writes(id) => drop(self.written.insert(id)),
            Effect::Deletes(id) | Effect::Evicts(id) => drop(self.cached.remove(id)),
            Effect::Enqueues(id) => drop(self.may_be_queued.insert(id)),
            Effect::Dequeues(id) => drop(self.queued.remove(id)),
            Effect::Reads(id) | Effect::ReadsOnly(id) => self.hits.entry(id).or_default().1 += 1,
            Effect::Cleans => {}
        }
    }

    fn complete(&mut self, effect: Effect) {
        match effect {
            Effect::Caches(id) => {
                self.cached.insert(id);
                self.may_be_queued.remove(id);
            }
            Effect::Writes(_) | Effect::ReadsOnly(_) => {}
            Effect::Deletes(id) | Effect::Evicts(id) => drop(self.may_be_cached.remove(id)),
            Effect::Enqueues(id) => drop(self.queued.insert(id)),
            Effect::Dequeues(id) => drop(self.may_be_queued.remove(id)),
            Effect::Reads(id) => self.hits.entry(id).or_default().0 += 1,
            Effect::Cleans => self.is_cleaned = true,
        }
    }

    /// An image whose sync failed is gone: that is right.
    pub fn without(mut self, id: &str) -> Self {
        self.cached.remove(id);
        self
    }

    /// The image was published, and cannot be taken back.
    pub fn or_not_withdrawn(mut self, operation: &Operation) -> Self {
        self.may_be_cached
            .extend(operation.effects.iter().filter(|effect| effect.is_caching()).map(|effect| effect.id()));
        self
    }

    /// After an operation in which something failed, and which said what came of it (`None`: an error).
    pub fn after_report(operation: &Operation, outcome: Option<Outcome>) -> Self {
        let mut expected = Self::of_fixture(operation.fixture);
        expected.add(operation.effects);
        if operation.fixture == Fixture::Restarted {
            // FaultKind cannot be told from a torn image is dropped like one.
            expected.cached.clear();
        }
        for effect in operation.effects {
            match (effect, outcome) {
                // A reader never fails for a hit that cannot be counted.
                (Effect::Reads(_) | Effect::ReadsOnly(_), _) => {}
                // Another image is evicted in workspace of one that cannot be.
                (Effect::Evicts(_), outcome) => {
                    expected.cached.clear();
                    expected.limit = (outcome == Some(Outcome::Done)).then_some(LIMIT);
                }
                (effect, Some(Outcome::Done)) => expected.complete(*effect),
                // A commit that failed has published nothing. (Of two images that are prefetched, one may fail.)
                (Effect::Caches(id), _) if operation.caches_one() => drop(expected.may_be_cached.remove(id)),
                _ => {}
            }
        }
        expected
    }
}

/// FaultKind was checked already: the same directory keeps the same promises.
#[derive(Default)]
pub struct Checked(Mutex<BTreeSet<(State, Expected)>>);

impl Checked {
    pub fn is_new(&self, state: State, expected: &Expected) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((state, expected.clone()))
    }
}

fn check(is_so: bool, violation: impl FnOnce() -> String) -> CheckResult {
    if is_so { Ok(()) } else { Err(violation()) }
}

fn context<T>(what: &str, result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

/// Opens the cache in `directory`, and checks every promise. `fixture` is the directory before the operation, `scratch` an empty
/// subdirectory. Nothing is left of what was in the directory.
pub fn check_all(
    directory: &Path,
    fixture: &Path,
    scratch: &Path,
    configuration: Configuration,
    expected: &Expected,
) -> CheckResult {
    let found = cached_files(directory)?;
    check_as_it_is(directory, fixture, scratch, configuration, expected, &found)?;
    check_in_use(directory, configuration, expected)?;
    check_that_all_can_go(directory, configuration)
}

/// FaultKind stands there, before anything is changed, and that opening does not change it from the second time on.
fn check_as_it_is(
    directory: &Path,
    fixture: &Path,
    scratch: &Path,
    configuration: Configuration,
    expected: &Expected,
    found: &BTreeMap<String, u64>,
) -> CheckResult {
    {
        let cache = context("opening", ImageCache::open(directory, configuration.options()))?;
        let listed = check_listing(directory, &cache)?;
        for id in found.keys().map(String::as_str).chain(expected.cached.iter().copied()) {
            let may_go = expected.unsynced.contains(id);
            check(may_go || listed.contains_key(id), || format!("'{id}' was lost"))?;
        }
        for (id, image) in &listed {
            check(expected.may_be_cached.contains(&id[..]), || format!("'{id}' is cached"))?;
            let (least, most) = expected.hits.get(&id[..]).copied().unwrap_or_default();
            check((least..=most).contains(&image.hits), || {
                format!("'{id}' has {} hits, between {least} and {most} are true", image.hits)
            })?;
        }
        let size = listed.values().map(|image| image.size).sum::<u64>();
        check(expected.limit.is_none_or(|limit| size <= limit), || format!("{size} bytes are more than the limit"))?;
        check_queue(&cache, &listed, expected)?;
    }
    check_names(directory, expected)?;
    let state = |what| {
        State::of(directory, fixture, scratch)
            .map(State::without_index_internals)
            .map_err(|error| format!("{what}: {error}"))
    };
    let after_first = state("the state after the first open")?;
    drop(context("opening again", ImageCache::open(directory, configuration.options()))?);
    let after_second = state("the state after the second open")?;
    check(after_first == after_second, || {
        format!("the second open changed something:\n{after_first:#?}\n{after_second:#?}")
    })
}

/// That what is listed is what the directory has, whole, and that the sizes are right.
fn check_listing(directory: &Path, cache: &ImageCache) -> Result<BTreeMap<String, CachedImage>, String> {
    let listed = context("listing", cache.list_cached())?;
    let listed: BTreeMap<_, _> = listed.into_iter().map(|image| (image.image_id.clone(), image)).collect();
    let sizes: BTreeMap<_, _> = listed.iter().map(|(id, image)| (id.clone(), image.size)).collect();
    let files = cached_files(directory)?;
    check(sizes == files, || format!("listed are {sizes:?}, in the directory are {files:?}"))?;
    let size = context("the size", cache.cache_size())?;
    let sum = files.values().sum::<u64>();
    check(size == sum, || format!("the size is {size}, the files have {sum}"))?;
    Ok(listed)
}

fn check_queue(cache: &ImageCache, listed: &BTreeMap<String, CachedImage>, expected: &Expected) -> CheckResult {
    let queue = context("the queue", cache.list_queued())?;
    let queued: Vec<_> = queue.iter().map(|image| image.image_id.as_str()).collect();
    for id in &queued {
        check(expected.may_be_queued.contains(id), || format!("'{id}' is queued"))?;
        check(!listed.contains_key(*id), || format!("'{id}' is cached and queued"))?;
        check(context("is queued", cache.is_queued(id))?, || {
            format!("'{id}' is in the queue's list, and is not queued")
        })?;
    }
    for id in &expected.queued {
        check(queued.contains(id), || format!("'{id}' is not queued any more"))?;
    }
    // An image that was being cached when its writer died stays queued.
    for id in expected.may_be_queued.iter().filter(|id| QUEUED.contains(id) && expected.written.contains(*id)) {
        check(queued.contains(id) || listed.contains_key(*id), || format!("'{id}' is neither queued nor cached"))?;
    }
    let in_order = queue.is_sorted_by_key(|image| image.queued);
    check(in_order, || format!("the queue is not in its order: {queue:?}"))
}

/// Nothing stands anywhere that nobody put there.
fn check_names(directory: &Path, expected: &Expected) -> CheckResult {
    for subdirectory in ["incomplete", "invalid"] {
        for name in names(&directory.join(subdirectory))? {
            let is_known = expected.written.contains(&name[..]);
            check(is_known && !expected.is_cleaned, || format!("there is a file '{name}' in {subdirectory}/"))?;
        }
    }
    for name in names(directory)? {
        let is_known = expected.may_be_cached.contains(&name[..]) || name == INDEX_FILES[0];
        check(is_known, || format!("a file '{name}' is left"))?;
    }
    Ok(())
}

/// Nothing is stuck: what was interrupted can be cached at once, and everything can be read.
fn check_in_use(directory: &Path, configuration: Configuration, expected: &Expected) -> CheckResult {
    let cache = context("opening a third time", ImageCache::open(directory, configuration.options()))?;
    for id in expected.written.iter().copied().chain(["another"]) {
        let is_there = context("is cached", cache.is_cached(id))?;
        match cache_image(&cache, id) {
            Ok(()) if !is_there => {}
            Err(Error::AlreadyCached(_)) if is_there => {}
            other => return Err(format!("caching '{id}' (cached: {is_there}): {other:?}")),
        }
        check(!context("is queued", cache.is_queued(id))?, || format!("'{id}' is cached and still queued"))?;
    }
    for id in check_listing(directory, &cache)?.into_keys() {
        let mut bytes = Vec::new();
        let mut reader = context("reading", cache.open_for_read(&id))?;
        reader.read_to_end(&mut bytes).map_err(|error| format!("reading '{id}': {error}"))?;
        check(bytes == bytes_of(&id), || format!("wrong bytes are served as '{id}'"))?;
        drop(reader);
        let least = expected.hits.get(&id[..]).map_or(0, |(least, _)| *least);
        check(context("hits", cache.hit_count(&id))? > least, || format!("the hit of '{id}' was not counted"))?;
    }
    Ok(())
}

/// No file takes space for ever.
fn check_that_all_can_go(directory: &Path, configuration: Configuration) -> CheckResult {
    let cache = context("opening at last", ImageCache::open(directory, configuration.options().max_size(0)))?;
    context("cleaning", cache.clean(Some(Duration::ZERO)))?;
    context("pruning", cache.prune())?;
    check(context("the size", cache.cache_size())? == 0, || "the cache cannot be pruned to nothing".to_owned())?;
    context("emptying the queue", cache.delete_all_queued_images())?;
    drop(cache);
    for subdirectory in ["incomplete", "invalid", "queue"] {
        let left = names(&directory.join(subdirectory))?;
        check(left.is_empty(), || format!("{left:?} stay in {subdirectory}/"))?;
    }
    let left: Vec<_> = names(directory)?.into_iter().filter(|name| name != INDEX_FILES[0]).collect();
    check(left.is_empty(), || format!("{left:?} stay"))
}

/// The files under final names, with their sizes. Each has to be whole: this looks at the bytes themselves.
fn cached_files(directory: &Path) -> Result<BTreeMap<String, u64>, String> {
    let mut files = BTreeMap::new();
    for name in names(directory)? {
        if INDEX_FILES.contains(&name.as_str()) {
            continue;
        }
        let bytes = read_quietly(&directory.join(&name)).map_err(|error| format!("'{name}': {error}"))?;
        check(bytes == bytes_of(&name), || format!("'{name}' has {} wrong bytes under its final name", bytes.len()))?;
        files.insert(name, bytes.len() as u64);
    }
    Ok(files)
}

/// The names of the regular files in a subdirectory; none, if it is not there.
fn names(subdirectory: &Path) -> Result<Vec<String>, String> {
    if !subdirectory.exists() {
        return Ok(Vec::new());
    }
    let failed = |error| format!("{}: {error}", subdirectory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(subdirectory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
