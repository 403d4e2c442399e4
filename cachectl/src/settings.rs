//! Which cache is meant, and how it is opened: from arguments, `IMAGE_CACHE_DIR`, and the configuration file, in this order.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::cli::{Driver, Global};
use crate::exit::{Exit, Failure};
use crate::units::{parse_duration, parse_size};

/// Where the configuration is, unless an argument names another file.
pub const FILE: &str = "/etc/image-cache.toml";

/// What stays free: bytes, or percent of the file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// Bytes.
    pub bytes: u64,
    /// Percent of the file system.
    pub percent: u32,
}

impl Floor {
    /// Parses `10G`, `5%`, or both: `10G,5%`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut floor = Self::default();
        for part in text.split(',') {
            match part.trim().strip_suffix('%') {
                Some(percent) => {
                    let parsed = percent.trim().parse().ok().filter(|percent| *percent <= 100);
                    floor.percent =
                        parsed.ok_or_else(|| format!("{part:?} is no number of percent from 0% to 100%"))?;
                }
                None => floor.bytes = parse_size(part)?,
            }
        }
        Ok(floor)
    }
}

/// The settings of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The cache's directory.
    pub directory: PathBuf,
    /// The driver; `None`: the directory's own.
    pub driver: Option<Driver>,
    /// The name of the SQLite index; `None`: the directory's own.
    pub database: Option<String>,
    /// The limit to which `prune` evicts, if the directory has no hard one.
    pub max_size: Option<u64>,
    /// What stays free on the file system.
    pub min_free: Floor,
    /// How long a writer may write nothing before it counts as stalled.
    pub stall_time: Option<Duration>,
    /// The formats that an image may have, as `raw,qcow2`; `None`: all, without an inspection.
    pub formats: Option<String>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    directory: Option<PathBuf>,
    driver: Option<Driver>,
    database: Option<String>,
    #[serde(deserialize_with = "size")]
    max_size: Option<u64>,
    #[serde(deserialize_with = "floor")]
    min_free: Option<Floor>,
    #[serde(deserialize_with = "duration")]
    stall_time: Option<Duration>,
    formats: Option<String>,
}

impl Settings {
    /// Reads the configuration file, and combines it with the arguments.
    pub fn load(global: &Global) -> Result<Self, Failure> {
        let file = read(global)?;
        let named = global.directory.clone();
        let Some(directory) = named.or_else(|| file.directory.clone()) else {
            return Err(Failure::usage("no directory is given")
                .hint(format!("Give it as -C DIRECTORY, in IMAGE_CACHE_DIR, or as 'directory' in {FILE}.")));
        };
        // The limit of one cache must not prune another one.
        let is_of_file = file.directory.as_ref().is_none_or(|of_file| is_same(of_file, &directory));
        let file = if is_of_file { file } else { File::default() };
        Ok(Self {
            directory,
            driver: global.driver.or(file.driver),
            database: file.database,
            max_size: file.max_size,
            min_free: file.min_free.unwrap_or_default(),
            stall_time: file.stall_time,
            formats: file.formats,
        })
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A file that is not there is empty, unless an argument names it.
fn read(global: &Global) -> Result<File, Failure> {
    let path = global.config.as_deref().unwrap_or(Path::new(FILE));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && global.config.is_none() => return Ok(File::default()),
        Err(error) => return Err(Failure::io(&format!("read the configuration '{}'", path.display()), &error)),
    };
    toml::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the configuration '{}': {}", path.display(), error.message()))
            .hint(error.to_string().trim_end().to_owned())
    })
}

fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map(Some).map_err(serde::de::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    parsed(deserializer, parse_size)
}

fn floor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Floor>, D::Error> {
    parsed(deserializer, Floor::parse)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parsed(deserializer, parse_duration)
}
