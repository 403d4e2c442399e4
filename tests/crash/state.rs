//! The state of a cache's directory, in a form that can be compared: everything that the next process can see, without
//! what differs from run to run. Of times only the order counts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::checks::{INDEX_FILES, read_without_atime};

const LOCK_FILE: &str = ".image_cache/lock";
/// Where the lock file has the fingerprint of the index at its last close (docs/on-disk-format.md).
const FINGERPRINT: Range<usize> = 16..24;

/// The attribute that marks an image that may not be on the disk, and the directory of such images.
const UNSYNCED: &str = "user.image_cache.unsynced";

/// The records of pins, and their length in bytes.
const PINS: &str = ".image_cache/pins/";
const PIN: usize = 512;

/// The records of streams.
const STREAMS: &str = ".image_cache/streams/";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// By path below the directory; directories end with a slash.
    files: BTreeMap<String, FileState>,
    /// Names in the order of time: queued files by mtime, cached files by atime.
    queue: Vec<String>,
    accesses: Vec<String>,
    index: Option<IndexState>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FileState {
    /// Empty for the index's files: `IndexState` has what they hold.
    contents: Vec<u8>,
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct IndexState {
    /// The lengths of its files.
    lengths: Vec<Option<u64>>,
    /// Which pages of the database differ from the fixture's: a checkpoint may be half done.
    changed_pages: Vec<bool>,
    /// What SQLite reads from it.
    contents: Result<Rows, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rows {
    /// Id, size, hits, checksum, and whether the file has the row's mtime; in access order.
    images: Vec<(String, i64, i64, Option<String>, bool)>,
    totals: (i64, i64),
    has_stamp: bool,
    /// Whether the directory's mtime is the stamp.
    stamp_matches: bool,
}

impl State {
    /// The state of `directory`. `fixture` holds the database before the operation. `scratch` is an empty directory for
    /// a copy of the index: reading changes it.
    pub fn of(directory: &Path, fixture: &Path, scratch: &Path) -> io::Result<Self> {
        let mut state = Self { files: BTreeMap::new(), queue: Vec::new(), accesses: Vec::new(), index: None };
        if !directory.exists() {
            return Ok(state);
        }
        state.add(directory, "")?;
        state.number_random_words();
        state.compare_fingerprint(directory);
        state.queue = by_time(&directory.join("queue"), |metadata| (metadata.mtime(), metadata.mtime_nsec()))?;
        state.accesses = by_time(directory, |metadata| (metadata.atime(), metadata.atime_nsec()))?;
        if directory.join(INDEX_FILES[0]).exists() {
            state.index = Some(IndexState::of(directory, fixture, scratch)?);
        }
        Ok(state)
    }

    /// Without what SQLite may change from open to open.
    pub fn without_index_internals(mut self) -> Self {
        self.files.retain(|name, _| !INDEX_FILES.contains(&name.as_str()));
        if let Some(index) = &mut self.index {
            index.lengths.clear();
            index.changed_pages.clear();
        }
        self
    }

    /// The marks of unsynced images have random words: of these only counts which are equal.
    fn number_random_words(&mut self) {
        let mut known = Vec::new();
        for attribute in self.files.values_mut().filter_map(|file| file.attributes.get_mut(UNSYNCED)) {
            // After the boot and the mount.
            let words = attribute.split(' ').enumerate().map(|(at, word)| {
                let random = word.strip_prefix("closed-").unwrap_or(word);
                if at < 2 || random.is_empty() {
                    return word.to_owned();
                }
                let number = known.iter().position(|other| other == random).unwrap_or_else(|| {
                    known.push(random.to_owned());
                    known.len() - 1
                });
                word.replace(random, &format!("#{number}"))
            });
            *attribute = words.collect::<Vec<_>>().join(" ");
        }
    }

    /// The fingerprint has the index's inode and ctime, which differ from run to run. What counts is whether there is one, and
    /// whether the index has been changed since it was written.
    fn compare_fingerprint(&mut self, directory: &Path) {
        let Some(lock) = self.files.get_mut(LOCK_FILE) else { return };
        let Some(fingerprint) = lock.contents.get_mut(FINGERPRINT) else { return };
        if fingerprint.iter().any(|byte| *byte != 0) {
            let metadata = |name| fs::metadata(directory.join(name)).ok();
            let changed = metadata(INDEX_FILES[0]).map(|index| (index.ctime(), index.ctime_nsec()));
            let written = metadata(LOCK_FILE).map(|lock| (lock.mtime(), lock.mtime_nsec()));
            fingerprint.fill(if changed <= written { 1 } else { 2 });
        }
    }

    fn add(&mut self, directory: &Path, prefix: &str) -> io::Result<()> {
        self.files.insert(prefix.to_owned(), FileState { contents: Vec::new(), attributes: attributes(directory)? });
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
            if path.is_dir() {
                self.add(&path, &format!("{name}/"))?;
                continue;
            }
            let is_index = INDEX_FILES.contains(&name.as_str());
            let mut contents = if is_index { Vec::new() } else { read_without_atime(&path)? };
            if prefix == PINS {
                // Of each record: whether there is one. They have times.
                contents = contents.chunks(PIN).map(|pin| u8::from(pin.iter().any(|byte| *byte != 0))).collect();
            }
            if prefix == STREAMS {
                make_comparable(&mut contents, &path);
            }
            self.files.insert(name, FileState { contents, attributes: attributes(&path)? });
        }
        Ok(())
    }
}

/// Of a stream's record: whether it is the incomplete file's, in place of its inode; without times and process.
fn make_comparable(record: &mut [u8], path: &Path) {
    const INODE: usize = 8;
    const OTHERS: [usize; 3] = [16, 32, 40];
    let directory = path.ancestors().nth(3).unwrap_or(path);
    let incomplete = directory.join("incomplete").join(path.file_name().unwrap_or_default());
    let inode = fs::metadata(incomplete).map_or(0, |metadata| metadata.ino());
    if let Some(place) = record.get_mut(INODE..INODE + 8) {
        let is_the_files = *place == inode.to_le_bytes()[..];
        place.copy_from_slice(&u64::from(is_the_files).to_le_bytes());
    }
    for at in OTHERS {
        if let Some(place) = record.get_mut(at..at + 8) {
            place.fill(0);
        }
    }
}

fn attributes(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    for name in xattr::list(path)? {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        // A reason names a path, which differs from run to run.
        let value = if name == "user.error" { String::new() } else { String::from_utf8_lossy(&value).into_owned() };
        attributes.insert(name.to_string_lossy().into_owned(), value);
    }
    Ok(attributes)
}

fn by_time(directory: &Path, time: fn(&fs::Metadata) -> (i64, i64)) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    if directory.exists() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let metadata = entry.metadata()?;
            if metadata.is_file() && !INDEX_FILES.contains(&name.as_str()) {
                names.push((time(&metadata), name));
            }
        }
    }
    names.sort();
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

impl IndexState {
    fn of(directory: &Path, fixture: &Path, scratch: &Path) -> io::Result<Self> {
        const PAGE: usize = 4096;
        let lengths =
            INDEX_FILES.iter().map(|name| fs::metadata(directory.join(name)).ok().map(|metadata| metadata.len()));
        let database = fs::read(directory.join(INDEX_FILES[0]))?;
        let before = fs::read(fixture.join(INDEX_FILES[0])).unwrap_or_default();
        let changed_pages = database
            .chunks(PAGE)
            .enumerate()
            .map(|(number, page)| before.chunks(PAGE).nth(number) != Some(page))
            .collect();
        for name in INDEX_FILES {
            // Without the shared memory: the next process rebuilds it.
            if name != INDEX_FILES[2] && directory.join(name).exists() {
                fs::copy(directory.join(name), scratch.join(name))?;
            }
        }
        let contents = rows(directory, &scratch.join(INDEX_FILES[0])).map_err(|error| error.to_string());
        for name in INDEX_FILES {
            let _ = fs::remove_file(scratch.join(name));
        }
        Ok(Self { lengths: lengths.collect(), changed_pages, contents })
    }
}

fn rows(directory: &Path, database: &Path) -> rusqlite::Result<Rows> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut select = connection.prepare(
        "SELECT image_id, size, hits, checksum, last_modified FROM cached_images ORDER BY last_accessed, image_id",
    )?;
    let images = select.query_map([], |row| {
        let id: String = row.get(0)?;
        let modified: f64 = row.get(4)?;
        let metadata = fs::metadata(directory.join(&id)).ok();
        let has_files_time = metadata.is_some_and(|metadata| {
            #[allow(clippy::cast_precision_loss, reason = "to the microsecond")]
            let time = metadata.mtime() as f64 + metadata.mtime_nsec() as f64 / 1e9;
            (time - modified).abs() < 1e-6
        });
        Ok((id, row.get(1)?, row.get(2)?, row.get(3)?, has_files_time))
    })?;
    let images = images.collect::<rusqlite::Result<_>>()?;
    let (totals, stamp) = connection.query_row("SELECT images, bytes, seal FROM image_cache_state", [], |row| {
        Ok(((row.get(0)?, row.get(1)?), row.get::<_, Option<i64>>(2)?))
    })?;
    let time = fs::metadata(directory).ok().map(|metadata| metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec());
    Ok(Rows { images, totals, has_stamp: stamp.is_some(), stamp_matches: stamp.is_some() && stamp == time })
}
