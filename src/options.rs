//! How a cache is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::index::driver::{DriverChoice, DriverRequest};
use crate::index::sqlite::files::{DEFAULT_DATABASE, MAX_DATABASE_NAME, is_beside_default};
use crate::log::Log;
use crate::store::layout::SUBDIRECTORIES;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// For nothing: the kernel writes the image back later. The first open after a restart of the host drops images that were
    /// committed before it by a cache that was not closed: it is unknown whether their bytes reached the disk.
    None,
    /// For the disk: after commit returned, the image survives a power cut.
    #[default]
    Full,
}

/// How a cache is opened. The defaults are Glance's where it has one.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) driver: DriverRequest,
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
            driver: DriverRequest::default(),
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
        self.driver.choice = driver;
        self
    }

    /// Whether a directory may be opened with another driver, or another name of the database, than it was used with. Hits and times
    /// of access are lost then; the former index stays as a file, and counts as an image. Without it, such an open is refused.
    #[must_use]
    pub fn change_driver(mut self, change: bool) -> Self {
        self.driver.may_change = change;
        self
    }

    /// The size that [`crate::ImageCache::prune`] prunes to, in bytes. 0 is a valid limit.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// How long a writer may write nothing before it counts as stalled.
    #[must_use]
    pub fn stall_time(mut self, stall_time: Duration) -> Self {
        self.stall_time = stall_time;
        self
    }

    /// The name of the SQLite index in the cache's directory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is no bare file name, is too long, or is the name of one of the cache's subdirectories
    /// or of a file that SQLite creates beside `cache.db`.
    pub fn database(mut self, file_name: impl AsRef<OsStr>) -> Result<Self> {
        let name = file_name.as_ref();
        let bytes = name.as_bytes();
        let why = if bytes.is_empty() {
            "it is empty"
        } else if bytes.contains(&b'/') || bytes.contains(&0) || bytes == b"." || bytes == b".." {
            "it is no bare file name"
        } else if bytes.len() > MAX_DATABASE_NAME {
            "it is too long"
        } else if SUBDIRECTORIES.iter().any(|name| name.as_bytes() == bytes) {
            "it is one of the cache's subdirectories"
        } else if is_beside_default(bytes) {
            "it is a file beside the default index"
        } else {
            name.clone_into(&mut self.database);
            return Ok(self);
        };
        // A text of any length may be given.
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_DATABASE_NAME)]);
        Err(Error::InvalidArgument(format!("cannot name the database: {why}: '{shown}'")))
    }

    /// What a commit waits for.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Whether written bytes are dropped from the page cache as they reach the disk, so that a large image does not displace other
    /// pages. For images that are not read soon: the first reader of such an image waits for the disk. Writing is as fast as the
    /// disk, with either durability.
    #[must_use]
    pub fn streaming(mut self, streaming: bool) -> Self {
        self.streaming = streaming;
        self
    }

    /// The log function.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }
}
