//! A validated image id: once you hold one, it is safe as the name of a file, and clashes with none of the cache's own.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::error::{Error, Result};

/// The longest name that Linux file systems take, in bytes.
const LONGEST: usize = 255;

/// What SQLite appends to a database's name for its journal, write-ahead log and shared memory.
pub(crate) const DATABASE_SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];

/// The id of an image. It can only be made by [`ReservedNames::image_id`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ImageId(String);

impl ImageId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }

    /// The name of the image's file, in whichever folder it is.
    pub fn as_file_name(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The names in a cache's directory that are its own, so that no image can have them.
#[derive(Debug)]
pub(crate) struct ReservedNames(Vec<OsString>);

impl ReservedNames {
    /// The folders and the files of each of the databases (this handle's and the default one: another handle's).
    pub fn new(folders: &[&str], databases: &[&OsStr]) -> Self {
        let folders = folders.iter().map(OsString::from);
        let files = databases.iter().flat_map(|database| {
            DATABASE_SUFFIXES.iter().map(|suffix| {
                let mut name = (*database).to_owned();
                name.push(suffix);
                name
            })
        });
        Self(folders.chain(files).collect())
    }

    /// Validates an id.
    ///
    /// An id is 1 to 255 bytes of UTF-8 without control characters and without `/`, does not begin with a `.` (hidden
    /// files are never images), and is not the name of one of the cache's own files.
    pub fn image_id(&self, text: &str) -> Result<ImageId> {
        match self.objection(text) {
            None => Ok(ImageId(text.to_owned())),
            Some(why) => Err(Error::InvalidImageId { image_id: text.to_owned(), why }),
        }
    }

    /// The id of the image whose file has this name; `None` when it is not an image's.
    pub fn image_id_of(&self, file_name: &OsStr) -> Option<ImageId> {
        let text = file_name.to_str()?;
        self.objection(text).is_none().then(|| ImageId(text.to_owned()))
    }

    fn objection(&self, text: &str) -> Option<&'static str> {
        if text.is_empty() {
            Some("it is empty")
        } else if text.len() > LONGEST {
            Some("it is longer than 255 bytes")
        } else if text.starts_with('.') {
            Some("it begins with a dot")
        } else if text.contains('/') {
            Some("it has a slash")
        } else if text.chars().any(char::is_control) {
            Some("it has a control character")
        } else if self.0.iter().any(|name| name.as_bytes() == text.as_bytes()) {
            Some("it is the name of one of the cache's own files")
        } else {
            None
        }
    }
}
