//! FaultKind stands in a cache's directory before an operation, and the images' bytes, which everybody knows by their ids.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use image_cache::{Algorithm, DriverChoice, Durability, ImageCache, Options};
use md5::{Digest as _, Md5};
use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, utimensat};

/// The images that are cached in every fixture but the empty one, least recently used first, with their hits.
pub const CACHED: [(&str, u64); 3] = [("oldest", 0), ("older", 1), ("kept", 2)];
/// The images that are queued in every fixture but the empty one, oldest first.
pub const QUEUED: [&str; 2] = ["queued", "queued-next"];
/// An image with an incomplete file whose writer died.
pub const DEAD: &str = "dead";
/// An image whose fetch failed.
pub const FAILED: &str = "failed";

/// The mark of a file that was published in another start of the host.
const ANOTHER_START: &[u8] = b"00000000-0000-0000-0000-000000000000 1";

/// FaultKind a cache's directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixture {
    /// There is no directory.
    Empty,
    /// Images cached, queued, failed, and left by a dead writer.
    Usual,
    /// The same after a crash: a file that the index does not know, one less than it knows, and one in the queue that is cached.
    Crashed,
    /// The same after a power cut: `oldest` was not synced before.
    Restarted,
    /// The same with an index full of rubbish.
    Damaged,
}

/// How a cache is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    pub driver: DriverChoice,
    pub durability: Durability,
}

impl Configuration {
    pub const ALL: [Self; 4] = [
        Self { driver: DriverChoice::Sqlite, durability: Durability::Full },
        Self { driver: DriverChoice::Sqlite, durability: Durability::None },
        Self { driver: DriverChoice::Xattr, durability: Durability::Full },
        Self { driver: DriverChoice::Xattr, durability: Durability::None },
    ];

    pub fn options(self) -> Options {
        Options::new().driver(self.driver).durability(self.durability)
    }

    pub fn driver_name(self) -> &'static str {
        if self.driver == DriverChoice::Sqlite { "sqlite" } else { "xattr" }
    }

    pub fn durability_name(self) -> &'static str {
        if self.durability == Durability::Full { "full" } else { "none" }
    }

    pub fn is_sqlite(self) -> bool {
        self.driver == DriverChoice::Sqlite
    }
}

/// The bytes of an image: others for each id, in length as well.
pub fn bytes_of(id: &str) -> Vec<u8> {
    let seed = id.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    let length = 3000 + seed % 3000;
    (0..length).map(|at| (seed.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

pub fn md5_of(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Caches an image, with its digest.
pub fn cache_image(cache: &ImageCache, id: &str) -> image_cache::Result<()> {
    let bytes = bytes_of(id);
    let mut writer = cache.begin_write(id)?;
    writer.expect_digest(Algorithm::Md5, &md5_of(&bytes))?;
    writer.write_chunk(&bytes)?;
    writer.commit()
}

impl Fixture {
    /// Makes the directory.
    pub fn build(self, directory: &Path, configuration: Configuration) {
        if self == Self::Empty {
            return;
        }
        let cache = ImageCache::open(directory, configuration.options()).unwrap();
        for (id, _) in CACHED {
            cache_image(&cache, id).unwrap();
        }
        for (id, hits) in CACHED {
            for _ in 0..hits {
                drop(cache.open_for_read(id).unwrap());
            }
        }
        for id in QUEUED {
            assert!(cache.queue_image(id).unwrap());
        }
        drop(cache);
        fs::write(directory.join("incomplete").join(DEAD), &bytes_of(DEAD)[..1000]).unwrap();
        fs::write(directory.join("invalid").join(FAILED), &bytes_of(FAILED)[..1000]).unwrap();
        match self {
            Self::Empty | Self::Usual => {}
            Self::Crashed => {
                fs::remove_file(directory.join("oldest")).unwrap();
                fs::write(directory.join("adopted"), bytes_of("adopted")).unwrap();
                fs::write(directory.join("queue/older"), b"").unwrap();
            }
            Self::Restarted => {
                for name in [".", "oldest"] {
                    xattr::set(directory.join(name), "user.image_cache.unsynced", ANOTHER_START).unwrap();
                }
            }
            Self::Damaged => {
                let length = fs::metadata(directory.join("cache.db")).unwrap().len();
                fs::write(directory.join("cache.db"), vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
            }
        }
    }
}

/// Reads a file without the kernel noting it as an access: the order of use is part of what is compared.
pub fn read_quietly(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut quietly = File::options();
    quietly.read(true).custom_flags(i32::try_from(OFlags::NOATIME.bits()).expect("a flag of open"));
    quietly.open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Copies a directory with all that counters: contents, attributes, and times to the nanosecond. One that is not there has an
/// empty copy: none.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
    } else {
        fs::write(to, read_quietly(from)?)?;
    }
    for name in xattr::list(from)? {
        if let Some(value) = xattr::get(from, &name)? {
            xattr::set(to, &name, &value)?;
        }
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(utimensat(CWD, to, &times, AtFlags::empty())?)
}
