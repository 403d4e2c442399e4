//! Helpers of several tests: scratch caches of either driver, and one-line calls for images.

#![allow(dead_code, reason = "each test uses a part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use image_cache::{DriverChoice, Durability, ImageCache, Log, Options};
use tempfile::TempDir;

pub const DRIVERS: [DriverChoice; 2] = [DriverChoice::Sqlite, DriverChoice::Xattr];

/// A temporary directory, and the options of the cache in it.
pub struct Scratch {
    path: PathBuf,
    _directory: Option<TempDir>,
    pub options: Options,
    pub messages: Arc<Mutex<Vec<String>>>,
}

impl Scratch {
    pub fn new(driver: DriverChoice) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("cache"), _directory: Some(directory), ..Self::at(PathBuf::new(), driver) }
    }

    /// A cache in a directory that the caller owns.
    pub fn at(path: PathBuf, driver: DriverChoice) -> Self {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&messages);
        let log = Log::new(move |_, message| sink.lock().unwrap().push(message.to_owned()));
        let options = Options::new().driver(driver).durability(Durability::None).log(log);
        Self { path, _directory: None, options, messages }
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn open(&self) -> ImageCache {
        self.open_with(self.options.clone())
    }

    pub fn open_with(&self, options: Options) -> ImageCache {
        ImageCache::open(self.path(), options).unwrap()
    }

    pub fn logged(&self, part: &str) -> bool {
        self.messages.lock().unwrap().iter().any(|message| message.contains(part))
    }

    /// Connects to the index as another program does. No cache of this process may have it open.
    pub fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file("cache.db")).unwrap()
    }
}

pub fn cache_image(cache: &ImageCache, image_id: &str, data: &[u8]) {
    let mut writer = cache.begin_write(image_id).unwrap();
    writer.write_chunk(data).unwrap();
    writer.commit().unwrap();
}

pub fn read_image(cache: &ImageCache, image_id: &str) -> Vec<u8> {
    let mut data = Vec::new();
    std::io::Read::read_to_end(&mut cache.open_for_read(image_id).unwrap(), &mut data).unwrap();
    data
}

pub fn ids(cache: &ImageCache) -> Vec<String> {
    cache.list_cached().unwrap().map(|image| image.image_id).collect()
}

/// The names of the regular files in a directory.
pub fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Takes the cache lock, as a process that is stopped within a call has it. Closing the file releases it.
pub fn take_cache_lock(directory: &Path) -> File {
    use nix::fcntl::{FcntlArg, fcntl};
    let file = File::options().read(true).write(true).open(directory.join(".image_cache/lock")).unwrap();
    let lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK.try_into().unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    file
}

/// Creates the incomplete file of a dead writer, which has the sticky bit.
pub fn leave_by_dead_writer(path: &Path, data: &[u8]) {
    std::fs::write(path, data).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o1644)).unwrap();
}

/// Sets a file's modification time to `age` ago.
pub fn age(path: &Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}
