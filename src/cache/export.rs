//! Export: a cached image is copied to an open file of the caller's.
//!
//! 1. The image is opened as by a reader, so it is neither evicted nor changed meanwhile. The target is checked: nothing of the cache is
//!    ever written to. Then it is truncated: nothing of its former bytes stays.
//! 2. Where the file systems share blocks (reflink), the target gets the image's, in one call. Else its data is copied range by range,
//!    holes stay holes: in the kernel, or through a buffer where that is refused.
//! 3. On request the target is synced.
//!
//! A failure, or a stop by the caller, truncates the target to 0, so it is never a part of the image. A process that is killed in between
//! leaves a part: the caller renames the file to its final name after the call. No lock is held meanwhile.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::inner::CacheInner;
use crate::cache::reader::Reader;
use crate::error::{Error, Result};
use crate::store::identity::is_of_the_cache;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::copy::{self, Errno, Kind};
use crate::sys::stat::FileStat;
use crate::sys::uncached::AlignedBuffer;

/// How an image is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// The fastest way that works.
    #[default]
    Any,
    /// Blocks are shared, or the call fails.
    Reflink,
    /// Blocks are not shared: a later write to the copy needs no new ones.
    Copy,
}

/// How an image was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Blocks are shared, none was copied.
    Reflink,
    /// In the kernel. Some network file systems share blocks, or copy on the server.
    InKernel,
    /// Through a buffer of this process.
    Bytes,
}

/// How an image is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// How it is copied.
    pub mode: CopyMode,
    /// Whether the target is on the disk when the call returns.
    pub sync: bool,
}

/// The caller's function: how many bytes are done, and how many the image has.
pub(crate) type CopyProgress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// How many bytes are copied between two calls of the caller's function.
const PIECE: usize = 16 << 20;

/// How many bytes a buffer has: it stays in the processor's cache.
const BUFFER: usize = 128 << 10;

/// Copies an image to an open file.
pub(crate) fn export(
    cache: &Arc<CacheInner>,
    id: &ImageId,
    target: BorrowedFd<'_>,
    options: ExportOptions,
    progress: &mut CopyProgress<'_>,
) -> Result<Copied> {
    let reader = Reader::open(cache, id)?;
    let mut export = Export { cache, id, source: reader.file()?, size: reader.size(), target, progress };
    export.check_target()?;
    let mut part = Part { target, is_whole: false };
    let exported = export.run(options);
    part.is_whole = exported.is_ok();
    if part.is_whole {
        reader.add_served(reader.size());
    }
    exported
}

/// The target while it is written. Dropping this truncates it if it is not whole, also when the caller's function panics.
struct Part<'a> {
    target: BorrowedFd<'a>,
    is_whole: bool,
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if !self.is_whole {
            // If this fails, too, the caller has the error all the same.
            let _ = copy::set_length(self.target, 0);
        }
    }
}

struct Export<'a> {
    cache: &'a CacheInner,
    id: &'a ImageId,
    source: &'a File,
    /// The image's length, in bytes.
    size: u64,
    target: BorrowedFd<'a>,
    progress: &'a mut CopyProgress<'a>,
}

impl Export<'_> {
    /// Fails for a file to which no image can be copied. Nothing was changed then.
    fn check_target(&self) -> Result<()> {
        let invalid = |why: &str| Err(Error::InvalidArgument(format!("cannot export to fd: {why}")));
        let opened = match copy::opened(self.target) {
            Err(Errno::BADF) => return invalid("it is not open"),
            opened => opened.map_err(|errno| self.failed("stat", errno))?,
        };
        if opened.kind != Kind::Regular {
            return invalid("it is no regular file");
        }
        if !opened.is_writable {
            return invalid("it is not open for writing");
        }
        if opened.is_direct {
            return invalid("it is open with O_DIRECT");
        }
        if self.is_of_the_cache(opened.stat)? {
            return invalid("it is a file of the cache");
        }
        Ok(())
    }

    /// Whether the target is below the cache's directory, or one of its files by another path or name.
    fn is_of_the_cache(&self, target: FileStat) -> Result<bool> {
        let layout = self.cache.layout();
        if copy::is_below(self.target, layout.directory(Area::Cached).path()) {
            return Ok(true);
        }
        let path = || layout.path(Area::Cached, self.id);
        if FileStat::of(self.source, path)?.id == target.id {
            return Ok(true);
        }
        let known = copy::path_of(self.target);
        let name = known.as_deref().filter(|_| target.links <= 1).and_then(Path::file_name);
        is_of_the_cache(layout, target.id, name)
    }

    fn run(&mut self, options: ExportOptions) -> Result<Copied> {
        self.empty()?;
        self.report(0)?;
        let copied = match options.mode {
            CopyMode::Copy => self.copy(Copied::Bytes),
            CopyMode::Reflink => match self.reflink()? {
                None => Ok(Copied::Reflink),
                Some(errno) => {
                    let why = std::io::Error::from_raw_os_error(errno.raw_os_error());
                    Err(Error::Unsupported(format!("cannot share the blocks of image '{}': {why}", self.id)))
                }
            },
            CopyMode::Any if self.reflink()?.is_none() => Ok(Copied::Reflink),
            CopyMode::Any => self.copy(Copied::InKernel),
        }?;
        if options.sync {
            copy::sync(self.target).map_err(|errno| self.failed("sync", errno))?;
        }
        self.report(self.size)?;
        Ok(copied)
    }

    /// Shares the image's blocks. Returns why that is impossible, if it is.
    fn reflink(&self) -> Result<Option<Errno>> {
        match copy::reflink(self.source, self.target) {
            Ok(()) => {}
            Err(errno) if copy::is_unsupported(errno) => {
                // A part may be there.
                self.empty()?;
                return Ok(Some(errno));
            }
            Err(errno) => return Err(self.failed("write", errno)),
        }
        let shared = copy::opened(self.target).map_err(|errno| self.failed("stat", errno))?.stat.size;
        if shared < self.size {
            return Err(self.shorter(shared));
        }
        // Bytes that another program appended are not part of the image.
        if shared > self.size {
            copy::set_length(self.target, self.size).map_err(|errno| self.failed("truncate", errno))?;
        }
        Ok(None)
    }

    /// Copies the image's data, and makes its holes. Returns how the last byte was copied.
    fn copy(&mut self, how: Copied) -> Result<Copied> {
        let (mut how, mut at) = (how, 0);
        let mut buffer = None;
        while let Some(data) = copy::next_data(self.source, at, self.size).map_err(|errno| self.unreadable(errno))? {
            self.make_hole(at, data.start)?;
            at = data.start;
            while at < data.end {
                let most = usize::try_from(data.end - at).unwrap_or(usize::MAX);
                if how == Copied::InKernel {
                    match copy::copy_in_kernel(self.source, self.target, at, most.min(PIECE)) {
                        Ok(length @ 1..) => at += length as u64,
                        // 0: some file systems say so of files that have bytes.
                        Ok(0) => how = Copied::Bytes,
                        Err(errno) if copy::is_unsupported(errno) => how = Copied::Bytes,
                        Err(errno) => return Err(self.failed("write", errno)),
                    }
                } else {
                    if buffer.is_none() {
                        buffer = Some(AlignedBuffer::new(BUFFER, "export the image")?);
                    }
                    let buffer = buffer.as_mut().map(|buffer| buffer.first_mut(BUFFER)).unwrap_or_default();
                    at += self.copy_through(buffer, at, most.min(PIECE))?;
                }
                self.report(at)?;
            }
        }
        if at < self.size {
            let present = FileStat::of(self.source, || self.path())?.size;
            if present < self.size {
                return Err(self.shorter(present));
            }
            self.make_hole(at, self.size)?;
        }
        Ok(how)
    }

    /// Truncates the target, unless it is empty: after a truncation to 0, ext4 writes a file back when it is closed, which doubles the time.
    fn empty(&self) -> Result<()> {
        let size = copy::opened(self.target).map_err(|errno| self.failed("stat", errno))?.stat.size;
        let emptied = if size > 0 { copy::set_length(self.target, 0) } else { Ok(()) };
        emptied.map_err(|errno| self.failed("truncate", errno))
    }

    /// Extends the target from one length to another.
    fn make_hole(&self, from: u64, to: u64) -> Result<()> {
        if from == to {
            return Ok(());
        }
        // Frees blocks that XFS has allocated ahead. They would become data.
        let freed = if from > 0 { copy::set_length(self.target, from) } else { Ok(()) };
        let made = freed.and_then(|()| copy::set_length(self.target, to));
        made.map_err(|errno| self.failed("write", errno))
    }

    /// Copies so many bytes through a buffer. Returns how many.
    fn copy_through(&self, buffer: &mut [u8], start: u64, length: usize) -> Result<u64> {
        let (mut at, end) = (start, start + length as u64);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let length = copy::read_at(self.source, at, &mut buffer[..most]).map_err(|errno| self.unreadable(errno))?;
            if length == 0 {
                return Err(self.shorter(at));
            }
            copy::write_at(self.target, at, &buffer[..length]).map_err(|errno| self.failed("write", errno))?;
            at += length as u64;
        }
        Ok(at - start)
    }

    fn report(&mut self, done: u64) -> Result<()> {
        match (self.progress)(done, self.size) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { image_id: self.id.to_string(), done, total: self.size }),
        }
    }

    fn path(&self) -> PathBuf {
        self.cache.layout().path(Area::Cached, self.id)
    }

    fn failed(&self, operation: &'static str, errno: Errno) -> Error {
        Error::system(operation, &copy::name_of(self.target), errno)
    }

    fn unreadable(&self, errno: Errno) -> Error {
        Error::system("read", &self.path(), errno)
    }

    /// Another program has truncated the image.
    fn shorter(&self, present: u64) -> Error {
        let why = format!("it had {} bytes when it was opened, and has {present} now", self.size);
        Error::Damaged { operation: "export", path: self.path(), why }
    }
}
