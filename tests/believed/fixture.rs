//! What the kinds share: trials for each driver, scratch caches, and the comparison of a cache with its directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Failed, Trial};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tempfile::TempDir;

use crate::c::{Cache, SQLITE, Settings, XATTR};

pub const DRIVERS: [i32; 2] = [SQLITE, XATTR];
/// The length of each image of a fixture, unless a test says otherwise.
pub const LENGTH: u64 = 1000;
const DAY: i64 = 86_400;
pub const YEAR: i64 = 365 * DAY;

/// A trial's body. It returns why it cannot run here, or nothing.
pub type Test = fn(&Scratch) -> Result<Option<String>, Failed>;

pub const DONE: Result<Option<String>, Failed> = Ok(None);

fn driver_name(driver: i32) -> &'static str {
    if driver == SQLITE { "sqlite" } else { "xattr" }
}

/// A trial for each driver given.
pub fn trials(kind: &str, drivers: &[i32], tests: &[(&'static str, Test)]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (case, test) in tests.iter().copied() {
        for driver in drivers.iter().copied() {
            let name = format!("{kind}::{case}::{}", driver_name(driver));
            trials.push(trial(name.clone(), move || test(&Scratch::new(driver))));
        }
    }
    trials
}

/// A trial that prints why it is ignored.
pub fn trial(name: String, test: impl FnOnce() -> Result<Option<String>, Failed> + Send + 'static) -> Trial {
    let shown = name.clone();
    Trial::ignorable_test(name, move || {
        Ok(test()?.map_or(Completion::Completed, |reason| {
            eprintln!("{shown} is ignored: {reason}");
            Completion::ignored_with(reason)
        }))
    })
}

/// A cache in a temporary directory.
pub struct Scratch {
    root: TempDir,
    pub driver: i32,
}

impl Scratch {
    pub fn new(driver: i32) -> Self {
        Self { root: tempfile::tempdir().unwrap(), driver }
    }

    /// In memory, where there is a file system for that with extended attributes: for tests with many files.
    pub fn in_memory(driver: i32) -> Self {
        let root = tempfile::tempdir_in("/dev/shm").ok().filter(|root| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(root.path(), "user.probe", b"", flags).is_ok()
        });
        root.map_or_else(|| Self::new(driver), |root| Self { root, driver })
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn path(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn settings(&self) -> Settings {
        Settings::new(self.driver)
    }

    pub fn open(&self) -> Cache {
        self.settings().open(&self.path()).unwrap()
    }

    /// A closed cache with these images, of [`LENGTH`] bytes each, the first one least recently used.
    pub fn fill(&self, ids: &[&str]) {
        fill(&self.settings(), &self.path(), ids);
    }
}

/// As [`Scratch::fill`].
pub fn fill(settings: &Settings, directory: &Path, ids: &[&str]) {
    let cache = settings.open(directory).unwrap();
    for id in ids {
        cache.put(id, &bytes(id, LENGTH)).unwrap();
    }
    for id in ids {
        cache.read(id).unwrap();
    }
}

/// An image's bytes.
pub fn bytes(id: &str, length: u64) -> Vec<u8> {
    id.bytes().cycle().take(usize::try_from(length).unwrap()).collect()
}

/// The images that a directory has: regular files that are not hidden, and no database of ours.
pub fn files(directory: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names
        .filter(|name| !name.starts_with('.') && !name.starts_with("cache.db"))
        .filter_map(|name| {
            let stat = fs::symlink_metadata(directory.join(&name)).ok()?;
            stat.is_file().then_some((name, stat.len()))
        })
        .collect()
}

/// What a cache lists and counts is what its directory has; otherwise how they differ.
pub fn compare(cache: &Cache, directory: &Path) -> Result<(), String> {
    let files = files(directory);
    let listed = cache.sizes().map_err(|failure| format!("list_cached: {failure}"))?;
    if listed != files {
        let without = |some: &BTreeMap<String, u64>, others: &BTreeMap<String, u64>| {
            let different = some.iter().filter(|(id, length)| others.get(*id) != Some(length));
            different.map(|(id, length)| (id.clone(), *length)).collect::<BTreeMap<_, _>>()
        };
        let (phantoms, orphans) = (without(&listed, &files), without(&files, &listed));
        return Err(format!("listed and not there are {phantoms:?}, there and not listed are {orphans:?}"));
    }
    let size = cache.cache_size().map_err(|failure| format!("get_cache_size: {failure}"))?;
    let sum: u64 = files.values().sum();
    if size != sum {
        return Err(format!("the cache size is {size}, the files have {sum} bytes"));
    }
    for (id, length) in &files {
        let asked = cache.image_size(id).map_err(|failure| format!("get_image_size of {id}: {failure}"))?;
        let cached = cache.is_cached(id).map_err(|failure| format!("is_cached of {id}: {failure}"))?;
        if asked != *length || !cached {
            return Err(format!("{id} has {length} bytes; its size is {asked}, cached is {cached}"));
        }
    }
    Ok(())
}

/// Runs a command, which must succeed. Returns its output.
pub fn run(command: &mut Command) -> Result<String, Failed> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output =
        command.env("PATH", path).stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(shown);
    }
    Err(format!("{command:?}: {}: {shown}{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// Why a tool cannot be used here; `None` when it is there.
pub fn missing_tool(tool: &str) -> Option<String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found = path.split(':').any(|directory| Path::new(directory).join(tool).exists());
    (!found).then(|| format!("{tool} is missing; scripts/install-tools.sh installs it"))
}

/// Why something needs another user; `None` for root.
pub fn missing_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "only root may do this".to_owned())
}

/// Access and modification time of a file.
#[derive(Debug)]
pub struct Times(PathBuf, Timestamps);

impl Times {
    pub fn of(path: &Path) -> Option<Self> {
        let stat = rustix::fs::lstat(path).ok()?;
        let last_access = Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec };
        let last_modification = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec };
        Some(Self(path.to_owned(), Timestamps { last_access, last_modification }))
    }

    pub fn restore(&self) {
        utimensat(CWD, &self.0, &self.1, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Sets both times of a file to so many seconds from now.
pub fn set_times(path: &Path, seconds: i64) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let time = Timespec { tv_sec: now + seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes a change, and gives the directory and its database their former times again.
pub fn unnoticed(directory: &Path, change: impl FnOnce()) {
    let names = ["", "cache.db", "cache.db-journal", "cache.db-wal", "cache.db-shm", ".image_cache"];
    let times: Vec<_> = names.iter().filter_map(|name| Times::of(&directory.join(name))).collect();
    change();
    times.iter().rev().for_each(Times::restore);
}

/// The value of an extended attribute; `None` when the file has none.
pub fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

pub fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// The mark of an image that was published without a sync.
pub const MARK: &str = "user.image_cache.unsynced";

/// Makes the host look as if it restarted since: each mark, on a file or in one of ours, is of another boot.
pub fn pretend_restart(directory: &Path) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim();
    let other = "00000000-0000-4000-8000-000000000000";
    let own = directory.join(".image_cache");
    let files = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    for path in [directory.to_owned(), own.clone()].into_iter().chain(files(directory)).chain(files(&own)) {
        if let Some(mark) = attribute(&path, MARK) {
            let mark = String::from_utf8(mark).unwrap();
            set_attribute(&path, MARK, mark.replace(boot, other).as_bytes());
        }
    }
    for path in files(&own).iter().filter(|path| path.is_file()) {
        let text = fs::read(path).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains(boot) {
            fs::write(path, text.replace(boot, other)).unwrap();
        }
    }
}

/// The names of a directory's files that have the mark.
pub fn marked(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let marked = files.filter(|entry| attribute(&entry.path(), MARK).is_some());
    marked.map(|entry| String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned()).collect()
}
