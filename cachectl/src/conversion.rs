//! What a conversion carries over, in `.image_cache/conversion`. The file is there before the driver changes, and until all is carried over.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, fremovexattr, fsync, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cli::Driver;
use crate::doctor::reading;
use crate::exit::Failure;
use crate::kept_driver::{self, OWN, is_bare};

const NAME: &str = "conversion";
const NEW: &str = "conversion.new";
/// Where the xattr driver, and Glance's, keep an image's hits.
pub const HITS: &str = "user.hits";
/// Some million images.
const MAX_LENGTH: u64 = 1 << 30;

/// An image's id, its hits, and its last access in ns since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub struct Access(pub String, pub u64, pub i64);

/// A conversion to the other driver.
#[derive(Debug, Serialize, Deserialize)]
pub struct Conversion {
    /// The former driver.
    pub from: Driver,
    /// The name of its index.
    pub database: Option<String>,
    /// What the images get.
    pub images: Vec<Access>,
}

impl Conversion {
    /// The stored one of a directory.
    pub fn of(directory: &Path) -> Result<Option<Self>, Failure> {
        let Some(text) = kept_driver::read(directory, NAME, MAX_LENGTH)? else { return Ok(None) };
        let parsed: Result<Self, _> = serde_json::from_slice(&text);
        match parsed {
            Ok(stored) if stored.database.as_deref().is_none_or(is_bare) => Ok(Some(stored)),
            parsed => {
                let why =
                    parsed.err().map_or("its database is no bare file name".to_owned(), |error| error.to_string());
                let path = directory.join(OWN).join(NAME);
                Err(Failure::io(&format!("finish the conversion of '{}'", path.display()), &io::Error::other(why))
                    .hint("Without this file, the conversion ends, and the hits that are not carried over are lost."))
            }
        }
    }

    /// Stores it, on the disk.
    pub fn store(&self, directory: &Path) -> Result<(), Failure> {
        let store = || {
            let own = open_own(directory)?;
            remove(&own, NEW)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let new = openat(&own, NEW, flags, Mode::from_raw_mode(0o666))?;
            let write = || {
                let mut file = io::BufWriter::new(std::fs::File::from(new));
                serde_json::to_writer(&mut file, self)?;
                file.flush()?;
                file.get_ref().sync_all()?;
                renameat(&own, NEW, &own, NAME)?;
                Ok(fsync(&own)?)
            };
            write().inspect_err(|_: &io::Error| {
                // If this fails, the next conversion removes it.
                let _ = remove(&own, NEW);
            })
        };
        store().map_err(|error| Failure::io(&format!("store '{}'", shown(directory, NAME)), &error))
    }

    /// Removes the stored one of a conversion that was not begun. If this fails, it is ignored, since it has the present driver.
    pub fn discard(directory: &Path) {
        let _ = open_own(directory).and_then(|own| remove(own, NAME));
    }

    /// Removes the former index, which would count as an image if its name is not the default one, or the former driver's hits from the
    /// images, and then the stored conversion.
    pub fn remove(&self, directory: &Path) -> Result<(), Failure> {
        let failed = |name: &str, errno: Errno| {
            Failure::io(&format!("remove the former index '{}'", directory.join(name).display()), &errno.into())
        };
        let opened = reading::open_directory(directory).map_err(|errno| failed("", errno))?;
        if let Some(database) = self.database.as_deref().filter(|name| self.from == Driver::Sqlite && is_bare(name)) {
            for suffix in ["", "-journal", "-wal", "-shm"] {
                let name = format!("{database}{suffix}");
                remove(&opened, &name).map_err(|errno| failed(&name, errno))?;
            }
        }
        if self.from == Driver::Xattr {
            self.images.iter().filter(|Access(id, ..)| is_bare(id)).for_each(|Access(id, ..)| {
                // Where this fails, doctor names the image (IC046). The hits are in the index now.
                let _ = reading::open_file(&opened, id).and_then(|image| fremovexattr(image, HITS));
            });
        }
        let removed = reading::open_subdirectory(opened, OWN).and_then(|own| remove(own, NAME));
        removed.map_err(|errno| Failure::io(&format!("remove '{}'", shown(directory, NAME)), &errno.into()))
    }
}

fn open_own(directory: &Path) -> Result<OwnedFd, Errno> {
    reading::open_subdirectory(reading::open_directory(directory)?, OWN)
}

fn shown(directory: &Path, name: &str) -> String {
    directory.join(OWN).join(name).display().to_string()
}

/// Removes a name of this directory, if it is there.
fn remove(directory: impl AsFd, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}
