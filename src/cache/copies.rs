//! Images to and from files: this part of the public API.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use crate::cache::export::{Copied, ExportOptions, export};
use crate::cache::handle::ImageCache;
use crate::cache::import::{ImportOptions, import};
use crate::error::Result;

#[allow(clippy::missing_errors_doc, reason = "the errors of every method are those of the type")]
impl ImageCache {
    /// Copies a cached image to an open file, which is truncated first: its blocks are shared where the file systems can, and holes stay
    /// holes. It is a file of its own: writing to it never changes the cache. This counts as an access and a hit.
    ///
    /// `progress` is called with the numbers of bytes that are done and of all: before the first byte, after each piece, and at the end.
    /// It can stop the export, and may use the cache. A failed or stopped export truncates the file to 0.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::InvalidArgument`] for a target that is no regular file, is a file of the cache, is not
    /// open for writing, or is open with `O_DIRECT`: it stays as it was; [`crate::Error::Unsupported`] when blocks must be shared, and
    /// cannot be; [`crate::Error::Stopped`]; and see [`ImageCache`].
    pub fn export(
        &self,
        image_id: &str,
        target: impl AsFd,
        options: ExportOptions,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Copied> {
        self.with_id(image_id, |inner, id| export(inner, &id, target.as_fd(), options, &mut progress))
    }

    /// Caches an open file of the caller's: a regular file or a block device from its beginning, or a pipe to its end. Blocks are shared
    /// where the file systems can, and holes stay holes. Size and digests are those of the bytes in the cache's file.
    ///
    /// `progress` is called as that of [`Self::export`], and while a pipe has no bytes. A failed or stopped import leaves the file in
    /// `invalid/`, as an aborted writer. The offset of the source stays.
    ///
    /// # Errors
    /// As for [`Self::begin_write`], [`crate::Writer::write_chunk`] and [`crate::Writer::commit`];
    /// [`crate::Error::SizeMismatch`] also when the length of the source changes; [`crate::Error::InvalidArgument`] for another kind of
    /// file, or one that is not open for reading or open with `O_DIRECT`; [`crate::Error::Unsupported`] when blocks must be shared, and
    /// cannot be; [`crate::Error::Stopped`].
    pub fn import(
        &self,
        image_id: &str,
        source: impl AsFd,
        options: &ImportOptions,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Copied> {
        self.with_id(image_id, |inner, id| import(inner, &id, source.as_fd(), options, &mut progress))
    }
}
