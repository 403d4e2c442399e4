//! The driver that a directory is used with, and how the files of `.image_cache` are read.

use std::io::{self, Read as _};
use std::path::Path;

use rustix::io::Errno;

use crate::cli::Driver;
use crate::doctor::reading;
use crate::exit::Failure;
use crate::units::size;

/// The library's own subdirectory.
pub const OWN: &str = ".image_cache";
const NAME: &str = "driver";
const MAX_LENGTH: u64 = 1 << 16;

/// The driver that a directory is used with: `docs/on-disk-format.md` has the format of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDriver {
    /// The driver.
    pub driver: Driver,
    /// The name of the SQLite index.
    pub database: Option<String>,
}

impl KeptDriver {
    /// That of a directory; `None` when the library has not opened it yet.
    pub fn of(directory: &Path) -> Result<Option<Self>, Failure> {
        let Some(text) = read(directory, NAME, MAX_LENGTH)? else { return Ok(None) };
        let text = String::from_utf8(text).map_err(|error| failed(directory, NAME, &io::Error::other(error)))?;
        Ok(Self::parse(&text))
    }

    /// Text that is not the library's counts as none. So does the name of a database in another directory.
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('\n')?.split_once(' ') {
            None if text == "xattr\n" => Some(Self { driver: Driver::Xattr, database: None }),
            Some(("sqlite", database)) if is_bare(database) => {
                Some(Self { driver: Driver::Sqlite, database: Some(database.to_owned()) })
            }
            _ => None,
        }
    }
}

/// Whether a name leads to a file in the directory itself.
pub fn is_bare(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// Reads a regular file of `.image_cache`; `None` when there is none. No link is followed, and no fifo blocks.
pub fn read(directory: &Path, name: &str, max_length: u64) -> Result<Option<Vec<u8>>, Failure> {
    let opened = reading::open_directory(directory)
        .and_then(|directory| reading::open_subdirectory(directory, OWN))
        .and_then(|own| reading::open_file(own, name));
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(directory, name, &errno.into())),
    };
    let content = || {
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        (&file).take(max_length + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max_length {
            return Err(io::Error::other(format!("it is larger than {}", size(max_length))));
        }
        Ok(Some(bytes))
    };
    content().map_err(|error| failed(directory, name, &error))
}

fn failed(directory: &Path, name: &str, error: &io::Error) -> Failure {
    Failure::io(&format!("read '{}'", directory.join(OWN).join(name).display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_file_is_read_as_the_library_writes_it() {
        let sqlite = |database: &str| Some(KeptDriver { driver: Driver::Sqlite, database: Some(database.to_owned()) });
        assert_eq!(KeptDriver::parse("sqlite cache.db\n"), sqlite("cache.db"));
        assert_eq!(KeptDriver::parse("sqlite my index\n"), sqlite("my index"));
        assert_eq!(KeptDriver::parse("xattr\n"), Some(KeptDriver { driver: Driver::Xattr, database: None }));
        for text in ["", "xattr", "sqlite\n", "sqlite \n", "xattr x\n", "else\n", "sqlite ../x\n", "sqlite ..\n"] {
            assert_eq!(KeptDriver::parse(text), None, "{text:?}");
        }
    }
}
