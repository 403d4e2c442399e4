//! The directory before an operation, and the images' bytes, which follow from their ids.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;

use image_cache::{Algorithm, ImageCache, Writer};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::checks::{md5_hex, read_without_atime};
use crate::configuration::Configuration;

/// The cached images of every fixture but `Empty`, least recently used first, with their hits.
pub const CACHED: [(&str, u64); 3] = [("oldest", 0), ("older", 1), ("kept", 2)];
/// The queued images of every fixture but `Empty`, oldest first.
pub const QUEUED: [&str; 2] = ["queued", "queued-next"];
/// An image with an incomplete file whose writer died.
pub const DEAD: &str = "dead";
/// An image whose fetch failed.
pub const FAILED: &str = "failed";

/// The mark of a file that an earlier start of the host published.
const ANOTHER_START: &[u8] = b"00000000-0000-0000-0000-000000000000 1";

/// What the cache's directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixture {
    /// The directory does not exist.
    Empty,
    /// Images that are cached, queued, failed, and left by a dead writer.
    Usual,
    /// The same after a crash: the index misses one file, has a row without a file, and a cached image is queued.
    Crashed,
    /// The same after a power cut: `oldest` was not synced before.
    Restarted,
    /// The same with an index that is no database.
    Damaged,
}

/// The bytes of an image. Content and length differ from id to id.
pub fn bytes_of(id: &str) -> Vec<u8> {
    let seed = id.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    let length = usize::try_from(3000 + seed % 3000).expect("a short image");
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word = seed;
    // By words: each check needs the bytes of several images, and this code is not optimized.
    while bytes.len() < length {
        word = word.wrapping_add(1);
        bytes.extend_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Caches an image, with its digest.
pub fn cache_image(cache: &ImageCache, id: &str) -> image_cache::Result<()> {
    write_image(cache.begin_write(id)?, id)
}

/// Writes all bytes of an image, with its digest, and commits.
pub fn write_image(mut writer: Writer, id: &str) -> image_cache::Result<()> {
    let bytes = bytes_of(id);
    writer.expect_digest(Algorithm::Md5, &md5_hex(&bytes))?;
    writer.write_chunk(&bytes)?;
    writer.commit()
}

impl Fixture {
    /// Creates the directory.
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
        let dead = directory.join("incomplete").join(DEAD);
        fs::write(&dead, &bytes_of(DEAD)[..1000]).unwrap();
        // The mark of a writer's file.
        fs::set_permissions(&dead, PermissionsExt::from_mode(0o1644)).unwrap();
        // It was written before the lock file, which copies of this directory get later.
        let hour = std::time::Duration::from_secs(60 * 60);
        fs::File::options().write(true).open(&dead).unwrap().set_modified(std::time::SystemTime::now() - hour).unwrap();
        fs::write(directory.join("invalid").join(FAILED), &bytes_of(FAILED)[..1000]).unwrap();
        match self {
            Self::Empty | Self::Usual => {}
            Self::Crashed => {
                fs::remove_file(directory.join("oldest")).unwrap();
                fs::write(directory.join("adopted"), bytes_of("adopted")).unwrap();
                fs::write(directory.join("queue/older"), b"").unwrap();
            }
            Self::Restarted => {
                for name in [".image_cache", "oldest"] {
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

/// Copies a directory with its contents, modes, attributes and times, to the nanosecond. A directory that does not exist stays
/// so.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_dir() {
        fs::create_dir(to)?;
        let mut names = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        // The lock file first: an incomplete file that is older than it counts as a live writer's for 10 s.
        names.sort();
        for name in names {
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
    } else {
        fs::write(to, read_without_atime(from)?)?;
    }
    fs::set_permissions(to, metadata.permissions())?;
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
