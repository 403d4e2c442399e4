//! What a cache's directory has: one reading of names and statuses, on which the checks work.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::finding::Findings;
use super::{Examination, kind, reading};

/// The subdirectories of the four states, apart from the directory itself.
pub const SUBDIRECTORIES: [&str; 3] = ["incomplete", "invalid", "queue"];

/// The directory for what is ours alone.
pub const OWN: &str = ".image_cache";

/// The index's default name.
pub const DATABASE: &str = "cache.db";

/// What SQLite creates beside a database.
pub const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// A regular file with an image's name.
pub struct ImageFile {
    pub name: OsString,
    pub stat: Stat,
}

impl ImageFile {
    pub fn shown(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// What it takes up on the disk.
    pub fn allocated(&self) -> u64 {
        u64::try_from(self.stat.st_blocks).unwrap_or(0).saturating_mul(512)
    }
}

/// One of the four directories.
pub struct Area {
    /// Its name, or empty for the directory itself.
    pub name: &'static str,
    pub descriptor: OwnedFd,
    pub stat: Stat,
    pub images: Vec<ImageFile>,
    /// Names that are no image's, apart from the cache's own.
    pub others: Vec<OsString>,
}

/// The driver that the directory was used with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    Xattr,
    Sqlite,
}

/// The directory.
pub struct Scan {
    /// Without links.
    pub path: PathBuf,
    pub root: Area,
    /// Those of the subdirectories that exist and can be read.
    pub areas: Vec<Area>,
    /// `.image_cache`, if it is there and can be opened.
    pub own: Option<OwnedFd>,
    /// The recorded driver.
    pub driver: Option<Driver>,
    pub database: OsString,
}

impl Scan {
    /// Reads the directory. `None`, with a finding, when it cannot be read.
    pub fn of(examination: &Examination<'_>, findings: &mut Findings) -> Option<Self> {
        let shown = examination.directory.display();
        let descriptor = match reading::open_directory(examination.directory) {
            Ok(descriptor) => descriptor,
            Err(Errno::NOENT) => {
                findings.add(&kind::MISSING, format!("'{shown}' does not exist"));
                return None;
            }
            Err(Errno::NOTDIR) => {
                findings.add(&kind::MISSING, format!("'{shown}' is not a directory"));
                return None;
            }
            Err(errno) => {
                findings.add(&kind::CLOSED, format!("'{shown}' cannot be opened: {errno}"));
                return None;
            }
        };
        let path = examination.directory.canonicalize().unwrap_or_else(|_| examination.directory.to_owned());
        let own = reading::open_subdirectory(&descriptor, OWN).ok();
        let record = own.as_ref().and_then(|own| reading::content(own, "driver")).unwrap_or_default();
        let (driver, recorded) = parse(&record);
        let named = || examination.database.map(OsString::from);
        let database = recorded.or_else(named).unwrap_or_else(|| DATABASE.into());
        let root = match read(descriptor, "", &database) {
            Ok(root) => root,
            Err(errno) => {
                findings.add(&kind::CLOSED, format!("'{shown}' cannot be read: {errno}"));
                return None;
            }
        };
        let mut areas = Vec::new();
        for name in SUBDIRECTORIES {
            match reading::open_subdirectory(&root.descriptor, name).and_then(|it| read(it, name, &database)) {
                Ok(area) => areas.push(area),
                // Another check reports what has its name.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => findings.add_items(
                    &kind::CLOSED,
                    format!("a subdirectory cannot be read: {errno}"),
                    vec![format!("{}/{name}", path.display())],
                ),
            }
        }
        Some(Self { path, root, areas, own, driver, database })
    }

    /// One of the subdirectories.
    pub fn area(&self, name: &str) -> Option<&Area> {
        self.areas.iter().find(|area| area.name == name)
    }

    /// The directory and its subdirectories.
    pub fn all(&self) -> impl Iterator<Item = &Area> {
        std::iter::once(&self.root).chain(&self.areas)
    }

    /// Whether the SQLite driver's index is expected.
    pub fn uses_sqlite(&self) -> bool {
        self.driver != Some(Driver::Xattr)
    }
}

/// The text of the record: `xattr`, or `sqlite` and a database's name.
fn parse(text: &[u8]) -> (Option<Driver>, Option<OsString>) {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    match text.strip_prefix(b"sqlite ") {
        Some(name) if !name.is_empty() => (Some(Driver::Sqlite), Some(OsString::from_vec(name.to_owned()))),
        _ if text == b"xattr" => (Some(Driver::Xattr), None),
        _ => (None, None),
    }
}

fn read(descriptor: OwnedFd, name: &'static str, database: &OsStr) -> rustix::io::Result<Area> {
    let stat = fstat(&descriptor)?;
    let (mut images, mut others) = (Vec::new(), Vec::new());
    for entry in reading::names(&descriptor)? {
        let is_top = name.is_empty();
        if is_reserved(&entry, database) {
            continue;
        }
        // One that vanishes meanwhile is not there.
        let Some(stat) = reading::status(&descriptor, &entry)? else { continue };
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_regular && is_image_id(&entry) {
            images.push(ImageFile { name: entry, stat });
        } else if !(is_top && entry == "lost+found") {
            others.push(entry);
        }
    }
    Ok(Area { name, descriptor, stat, images, others })
}

/// The cache's own names, and those of its database.
fn is_reserved(name: &OsStr, database: &OsStr) -> bool {
    let is_of = |database: &OsStr| {
        let rest = name.as_bytes().strip_prefix(database.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || BESIDE.iter().any(|suffix| suffix.as_bytes() == rest))
    };
    name == OWN || SUBDIRECTORIES.iter().any(|own| name == *own) || is_of(OsStr::new(DATABASE)) || is_of(database)
}

/// Whether a name can be an image's: the rules of the library, without reserved names.
fn is_image_id(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| !name.starts_with('.') && !name.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_the_driver_is_read() {
        assert_eq!(parse(b"xattr\n"), (Some(Driver::Xattr), None));
        assert_eq!(parse(b"sqlite my.db\n"), (Some(Driver::Sqlite), Some("my.db".into())));
        assert_eq!((parse(b""), parse(b"other\n")), ((None, None), (None, None)));
    }

    #[test]
    fn own_names_are_no_images() {
        for name in ["cache.db", "cache.db-wal", "my.db-journal", ".image_cache", "queue"] {
            assert!(is_reserved(OsStr::new(name), OsStr::new("my.db")), "{name}");
        }
        assert!(!is_reserved(OsStr::new("cache.db2"), OsStr::new("my.db")));
        assert!(
            is_image_id(OsStr::new("ä b"))
                && !is_image_id(OsStr::new(".x"))
                && !is_image_id(OsStr::from_bytes(b"\xff"))
        );
    }
}
