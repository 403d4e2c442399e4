//! How a cache is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::Formats;
use crate::index::driver::{DriverChoice, DriverRequest};
use crate::index::sqlite::files::{DEFAULT_DATABASE, MAX_DATABASE_NAME, is_beside_default};
use crate::inspector::Inspector;
use crate::log::Log;
use crate::store::floor::{Floor, Least};
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

/// What the maximum size is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitMode {
    /// A prune evicts down to it. Until then, the cache may have more bytes. Each handle has its own.
    Soft,
    /// The files of images never take up more on the disk. It is the directory's, for all handles, and is kept.
    Hard,
}

/// What an image must pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inspection {
    /// `None`: every format.
    pub formats: Option<Formats>,
    pub inspector: Option<Inspector>,
}

impl Inspection {
    /// Whether there is anything to pass.
    pub fn is_set(&self) -> bool {
        self.formats.is_some() || self.inspector.is_some()
    }
}

/// How a cache is opened. The defaults are Glance's where it has one.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) driver: DriverRequest,
    pub(crate) max_size: u64,
    /// Whether it was set, or is the default.
    pub(crate) has_max_size: bool,
    /// `None`: the directory's.
    pub(crate) limit_mode: Option<LimitMode>,
    pub(crate) floor: Floor,
    pub(crate) max_pinned: u32,
    pub(crate) stall_time: Duration,
    pub(crate) database: OsString,
    pub(crate) durability: Durability,
    pub(crate) streaming: bool,
    pub(crate) sparse: bool,
    pub(crate) inspection: Inspection,
    pub(crate) log: Log,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            driver: DriverRequest::default(),
            max_size: 10 << 30,
            has_max_size: false,
            limit_mode: None,
            floor: Floor::default(),
            max_pinned: 50,
            stall_time: Duration::from_secs(24 * 60 * 60),
            database: DEFAULT_DATABASE.into(),
            durability: Durability::default(),
            streaming: false,
            sparse: false,
            inspection: Inspection::default(),
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
        self.has_max_size = true;
        self
    }

    /// Whether the maximum size is never exceeded. Without this option, a directory with a hard limit keeps it, and a new one has a soft
    /// limit.
    ///
    /// With [`LimitMode::Hard`], the maximum size of these options becomes the limit of the directory, for all its handles, also those that
    /// are open; without a maximum size, a hard limit stays as it is. Images are evicted for what is written.
    #[must_use]
    pub fn limit_mode(mut self, mode: LimitMode) -> Self {
        self.limit_mode = Some(mode);
        self
    }

    /// What stays free on the file system: so many bytes, and so many percent of its size. Images are evicted for what is written, and
    /// nothing is cached below that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than 100 percent.
    pub fn min_free(mut self, bytes: u64, percent: u32) -> Result<Self> {
        self.floor.bytes = least(bytes, percent)?;
        Ok(self)
    }

    /// How many inodes stay free on the file system: as [`Self::min_free`]. A file system without a fixed number of inodes has enough.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than 100 percent.
    pub fn min_free_inodes(mut self, inodes: u64, percent: u32) -> Result<Self> {
        self.floor.inodes = least(inodes, percent)?;
        Ok(self)
    }

    /// How much of the maximum size can be pinned, in per cent. Default 50.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above 100.
    pub fn max_pinned(mut self, percent: u32) -> Result<Self> {
        if percent > 100 {
            return Err(Error::InvalidArgument(format!("{percent} % of the maximum size cannot be pinned")));
        }
        self.max_pinned = percent;
        Ok(self)
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

    /// Whether runs of zeros in what writers and tees write become holes, which take up no room: each 64 KiB of a chunk that are
    /// zeros, at an offset that is a multiple of 64 KiB. Off by default.
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }

    /// Which formats an image may have to be cached: names that commas separate, of `raw`, `qcow2`, `vmdk`, `vhd`, `vhdx` and `iso`.
    ///
    /// An image is inspected before it is published, after its size and digests were checked. One that is in another format, or is not
    /// self-contained, is refused: [`Error::Refused`]. Default: nothing is inspected. `docs/safe-images.md` has the rules.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that is none of these.
    pub fn formats(mut self, names: &str) -> Result<Self> {
        self.inspection.formats = Some(Formats::parse(names)?);
        Ok(self)
    }

    /// Images of every format are cached, without a check: the default.
    #[must_use]
    pub fn every_format(mut self) -> Self {
        self.inspection.formats = None;
        self
    }

    /// A function that inspects each image before it is published, after the formats were checked. `None`: the default.
    #[must_use]
    pub fn inspector(mut self, inspector: impl Into<Option<Inspector>>) -> Self {
        self.inspection.inspector = inspector.into();
        self
    }

    /// The log function.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }
}

fn least(number: u64, percent: u32) -> Result<Least> {
    if percent > 100 {
        return Err(Error::InvalidArgument(format!("{percent} percent cannot stay free: the most is 100")));
    }
    Ok(Least { number, percent })
}
