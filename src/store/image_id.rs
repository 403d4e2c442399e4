//! A validated image id: safe as the name of a file, and distinct from the names of the cache's own files.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest file name on Linux file systems, in bytes.
const MAX_LENGTH: usize = 255;

/// Files that Glance keeps beside the images: the locks of its start, its prefetcher, clean and prune, and its move to another
/// database; and its test for attributes. They are no images, and stay.
const GLANCE_FILES: [&str; 6] = [
    "image_cache_db_init",
    "glance-cache",
    "glance-cache-clean",
    "glance-cache-prune",
    "sqlite_centralized_migrate",
    "checkme",
];

/// The id of an image. Only [`ReservedNames`] makes one. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ImageId(Arc<str>);

impl ImageId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the image's file, in every subdirectory.
    pub fn as_file_name(&self) -> &OsStr {
        OsStr::new(&*self.0)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The names of the cache's own files and subdirectories, which no image can have.
#[derive(Debug)]
pub(crate) struct ReservedNames(Vec<OsString>);

impl ReservedNames {
    pub fn new(names: impl IntoIterator<Item = OsString>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter().map(OsString::as_os_str)
    }

    /// Validates an id.
    ///
    /// An id is 1 to 255 bytes of UTF-8 without control characters and without `/`. It does not begin with a `.`, since hidden
    /// files are never images. It is not the name of one of the cache's own files, or of Glance's.
    pub fn image_id(&self, text: &str) -> Result<ImageId> {
        match self.objection(text) {
            None => Ok(ImageId(text.into())),
            Some(why) => {
                // A text of any length may be given.
                let start = &text.as_bytes()[..text.len().min(MAX_LENGTH + 1)];
                let shown = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                Err(Error::InvalidImageId { image_id: shown.to_owned(), why })
            }
        }
    }

    /// The id of the image whose file has this name; `None` when the name is no image's.
    pub fn image_id_of(&self, file_name: &OsStr) -> Option<ImageId> {
        let text = file_name.to_str()?;
        self.objection(text).is_none().then(|| ImageId(text.into()))
    }

    fn objection(&self, text: &str) -> Option<&'static str> {
        if text.is_empty() {
            Some("it is empty")
        } else if text.len() > MAX_LENGTH {
            Some("it is longer than 255 bytes")
        } else if text.starts_with('.') {
            Some("it begins with a dot")
        } else if text.contains('/') {
            Some("it has a slash")
        } else if text.chars().any(char::is_control) {
            Some("it has a control character")
        } else if self.0.iter().any(|name| name.as_bytes() == text.as_bytes()) {
            Some("it is the name of one of the cache's own files")
        } else if GLANCE_FILES.contains(&text) {
            Some("it is the name of one of Glance's own files")
        } else {
            None
        }
    }
}
