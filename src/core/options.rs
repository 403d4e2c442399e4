//! How a cache is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::core::image_id::DATABASE_SUFFIXES;
use crate::core::layout;
use crate::core::log::Log;
use crate::error::{Error, Result};

/// The index's file, where none is named.
pub(crate) const DEFAULT_DATABASE: &str = "cache.db";

/// The longest name of a database: `-journal` must still fit behind it.
const LONGEST_DATABASE: usize = 255 - "-journal".len();

/// Whether a name is that of a file that SQLite makes beside the default index.
fn is_beside_default(name: &[u8]) -> bool {
    let suffix = name.strip_prefix(DEFAULT_DATABASE.as_bytes()).unwrap_or_default();
    !suffix.is_empty() && DATABASE_SUFFIXES.iter().any(|known| known.as_bytes() == suffix)
}

/// Where hits, last use and digests are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// In a SQLite database in the cache's directory.
    #[default]
    Sqlite,
    /// In extended attributes of the image files; opening fails where the file system has none.
    Xattr,
    /// In extended attributes, or in SQLite where the file system has none; the log says so.
    XattrOrSqlite,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// For nothing: the kernel writes the image back when it likes. An image that was committed since the host
    /// started, and whose cache was not closed afterwards, is dropped at the first open after a restart of the host,
    /// since nobody can tell whether its bytes reached the disk.
    None,
    /// For the disk: once commit returned, the image is there after a power cut.
    #[default]
    Full,
}

/// How a cache is opened; the default values are those of Glance where it has one.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) driver: DriverChoice,
    pub(crate) max_size: u64,
    pub(crate) stall_time: Duration,
    pub(crate) database: OsString,
    pub(crate) durability: Durability,
    pub(crate) streaming: bool,
    pub(crate) log: Log,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: DriverChoice::default(),
            max_size: 10 << 30,
            stall_time: Duration::from_hours(24),
            database: DEFAULT_DATABASE.into(),
            durability: Durability::default(),
            streaming: false,
            log: Log::default(),
        }
    }
}

impl Options {
    /// The default options: SQLite, 10 GiB, 24 hours, `cache.db`, full durability, no streaming, no log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where metadata is kept.
    #[must_use]
    pub fn driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// The size that [`crate::ImageCache::prune`] prunes to, in bytes; 0 is a valid limit.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// How long a writer may write nothing before its image counts as stalled.
    #[must_use]
    pub fn stall_time(mut self, stall_time: Duration) -> Self {
        self.stall_time = stall_time;
        self
    }

    /// The name of the SQLite index in the cache's directory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is no bare file name, is too long, or is the name of one of the cache's folders or of
    /// a file that SQLite makes beside `cache.db`.
    pub fn database(mut self, file_name: impl AsRef<OsStr>) -> Result<Self> {
        let name = file_name.as_ref();
        let bytes = name.as_bytes();
        let why = if bytes.is_empty() {
            "it is empty"
        } else if bytes.contains(&b'/') || bytes.contains(&0) || bytes == b"." || bytes == b".." {
            "it is no bare file name"
        } else if bytes.len() > LONGEST_DATABASE {
            "it is too long"
        } else if layout::FOLDERS.iter().any(|folder| folder.as_bytes() == bytes) {
            "it is one of the cache's folders"
        } else if is_beside_default(bytes) {
            "it is a file beside the default index"
        } else {
            name.clone_into(&mut self.database);
            return Ok(self);
        };
        Err(Error::InvalidArgument(format!("{} cannot name the database: {why}", name.display())))
    }

    /// What a commit waits for.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether what writers, tees and prefetches write is dropped from the page cache as it gets to the disk, so that a large
    /// image does not push out of memory what others use. For images that are not read soon: whoever reads one then waits for
    /// the disk. Writing is as fast as the disk, with either durability.
    #[must_use]
    pub fn streaming(mut self, streaming: bool) -> Self {
        self.streaming = streaming;
        self
    }

    /// Where messages go.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }
}
