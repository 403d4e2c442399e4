//! What a name in one of the cache's directories stands for.

use crate::sys::stat::FileStat;

/// What has an image's name in one of the directories.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DirEntry {
    Missing,
    Image(FileStat),
    /// A directory, symbolic link, fifo, socket or device. It is not ours: never followed, never removed.
    Foreign,
}

impl DirEntry {
    /// The status of the image's file, if it is one.
    pub fn image(self) -> Option<FileStat> {
        if let Self::Image(stat) = self { Some(stat) } else { None }
    }
}
