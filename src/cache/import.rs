//! Import: an open file of the caller's becomes a cached image.
//!
//! 1. The source is checked, and the image's incomplete file is begun, as for a writer. With bounds, room for the data is made first.
//! 2. Where the file systems share blocks (reflink), the file gets the source's: those of one moment, in one call; within bounds range by
//!    range (see `holes`). Then its bytes are read from the cache's file, and hashed. After the one call, what happens to the source does
//!    not matter any more.
//! 3. Else the source is copied through a buffer: the bytes that are hashed are those that are written. Holes stay holes.
//! 4. A source whose length has changed meanwhile fails the import. Else the image is published, as by the commit of a writer.
//!
//! `copy_file_range` would save nothing: each byte is read for its digest anyway.
//!
//! The caller's offset of the source is restored at the end. Its descriptor is not duplicated: closing the duplicate would release the
//! caller's POSIX locks on the file.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::cache::bounds::reserve;
use crate::cache::export::{Copied, CopyMode, CopyProgress};
use crate::cache::incomplete::IncompleteFile;
use crate::cache::ingest::{Ingest, Rejected};
use crate::cache::inner::CacheInner;
use crate::digest::algorithm::Algorithm;
use crate::digest::expectations::Expectations;
use crate::error::{Error, Result};
use crate::store::image_id::ImageId;
use crate::sys::copy::{self, Errno, Kind, Opened};
use crate::sys::file;
use crate::sys::uncached::AlignedBuffer;

/// How an image is imported, and what is expected of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// How it is copied.
    pub mode: CopyMode,
    /// Its length, in bytes.
    pub size: Option<u64>,
    /// Its digests, in hexadecimal digits of either case. The strongest one is stored with the image.
    pub digests: Vec<(Algorithm, String)>,
}

/// How many bytes a buffer has.
const BUFFER: usize = 256 << 10;

/// How many bytes share their blocks in one step within bounds.
const STEP: u64 = 256 << 20;

/// How often the caller's function is called while a pipe has no bytes, in milliseconds.
const PATIENCE: i32 = 100;

/// Caches the bytes of an open file.
pub(crate) fn import(
    cache: &Arc<CacheInner>,
    id: &ImageId,
    source: BorrowedFd<'_>,
    options: &ImportOptions,
    progress: &mut CopyProgress<'_>,
) -> Result<Copied> {
    let opened = check_source(source)?;
    let mut expected = Ingest::new(id.clone(), None);
    expect(&mut expected, options)?;
    let file = IncompleteFile::begin(cache, id.clone(), reserve::PATIENCE)?;
    let mut image = Ingest::new(id.clone(), Some(file));
    let position = if opened.kind == Kind::Pipe { None } else { copy::position(source) };
    let offset = KeptOffset { source, position };
    let progress = Reporter { function: progress, last: None };
    let (kind, size, is_of_one_moment, image_file) = (opened.kind, 0, false, &mut image);
    let mut import = Import { cache, source, kind, size, is_of_one_moment, image: image_file, progress };
    let copied = import.run(options);
    drop(offset);
    match copied {
        Ok(copied) => image.commit(None).map(|()| copied),
        Err(error) => {
            image.expectations.stop();
            let failed = Err(error.clone());
            image.commit(Some(error)).and(failed)
        }
    }
}

/// The source's offset before the import. Dropping this sets it again, also when the caller's function panics.
struct KeptOffset<'a> {
    source: BorrowedFd<'a>,
    position: Option<u64>,
}

impl Drop for KeptOffset<'_> {
    fn drop(&mut self) {
        if let Some(position) = self.position {
            copy::set_position(self.source, position);
        }
    }
}

/// Fails for a file that cannot be imported.
fn check_source(source: BorrowedFd<'_>) -> Result<Opened> {
    let invalid = |why: &str| Err(Error::InvalidArgument(format!("cannot import from fd: {why}")));
    let opened = match copy::opened(source) {
        Err(Errno::BADF) => return invalid("it is not open"),
        opened => opened.map_err(|errno| failed(source, "stat", errno))?,
    };
    if opened.kind == Kind::Other {
        return invalid("it is no regular file, block device, pipe or socket");
    }
    if !opened.is_readable {
        return invalid("it is not open for reading");
    }
    if opened.is_direct {
        return invalid("it is open with O_DIRECT");
    }
    Ok(opened)
}

fn expect(image: &mut Ingest, options: &ImportOptions) -> Result<()> {
    // Room is reserved for the data only, later.
    options.size.map_or(Ok(()), |size| image.expectations.expect_size(size))?;
    options.digests.iter().try_for_each(|(algorithm, hex)| image.expectations.expect_digest(*algorithm, hex))
}

fn failed(source: BorrowedFd<'_>, operation: &'static str, errno: Errno) -> Error {
    Error::system(operation, &copy::name_of(source), errno)
}

/// At most so many bytes are copied between two calls of the caller's function.
const PIECE: u64 = 16 << 20;

struct Import<'a> {
    cache: &'a CacheInner,
    source: BorrowedFd<'a>,
    kind: Kind,
    /// The source's length at the beginning, in bytes; of a pipe the expected one, or 0.
    size: u64,
    /// All blocks were shared in one call, so what happens to the source does not matter any more.
    is_of_one_moment: bool,
    image: &'a mut Ingest,
    progress: Reporter<'a>,
}

/// Calls the caller's function: at the beginning, after each piece, and at the end.
struct Reporter<'a> {
    function: &'a mut CopyProgress<'a>,
    /// The bytes of the last call.
    last: Option<u64>,
}

impl Reporter<'_> {
    fn note(&mut self, id: &ImageId, done: u64, total: u64) -> Result<()> {
        let is_due = self.last.is_none_or(|last| done >= last.saturating_add(PIECE) || (done == total && done > last));
        if is_due { self.call(id, done, total) } else { Ok(()) }
    }

    fn call(&mut self, id: &ImageId, done: u64, total: u64) -> Result<()> {
        self.last = Some(done);
        match (self.function)(done, total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { image_id: id.to_string(), done, total }),
        }
    }
}

impl Import<'_> {
    fn run(&mut self, options: &ImportOptions) -> Result<Copied> {
        expect(self.image, options)?;
        if self.kind == Kind::Pipe {
            if options.mode == CopyMode::Reflink {
                return Err(self.not_shared("a pipe has no blocks"));
            }
            self.size = options.size.unwrap_or(0);
            self.report(0)?;
            return self.copy_pipe().map(|()| Copied::Bytes);
        }
        self.size = copy::length(self.source).map_err(|errno| self.unreadable(errno))?;
        if let Some(expected) = options.size.filter(|expected| *expected != self.size) {
            return Err(self.other_size(expected, self.size));
        }
        self.reserve()?;
        self.report(0)?;
        let is_shared = options.mode != CopyMode::Copy && self.kind == Kind::Regular && self.reflink()?;
        if options.mode == CopyMode::Reflink && !is_shared {
            return Err(self.not_shared("the file systems do not allow it"));
        }
        if !is_shared {
            self.copy()?;
        }
        let size = copy::length(self.source).map_err(|errno| self.unreadable(errno))?;
        if !self.is_of_one_moment {
            if size != self.size {
                return Err(self.other_size(self.size, size));
            }
            // Files of /proc and of some network file systems have bytes behind the length that they show.
            let behind = copy::read_at(self.source, size, &mut [0]).map_err(|errno| self.unreadable(errno))?;
            if behind > 0 {
                return Err(self.other_size(size, size + 1));
            }
        }
        Ok(if is_shared { Copied::Reflink } else { Copied::Bytes })
    }

    /// With bounds, reserves room for all bytes; for a source with holes, makes room for its data, which is reserved step by step.
    fn reserve(&mut self) -> Result<()> {
        if !self.file()?.is_bounded {
            return Ok(());
        }
        let (mut data, mut at) = (0, 0);
        while let Some(range) = self.next_data(at)? {
            data += range.end - range.start;
            at = range.end;
        }
        let size = self.size;
        if data == size {
            return self.file()?.expect_size(size);
        }
        reserve::make_room(self.cache, data, reserve::PATIENCE).map(drop)
    }

    /// Shares the source's blocks, and hashes the bytes of the image's file. Returns false if that is impossible: the file is empty then.
    fn reflink(&mut self) -> Result<bool> {
        let source = self.source;
        if !self.file()?.is_bounded {
            if !self.file()?.reflink(source)? {
                return Ok(false);
            }
            let shared = self.file()?.written;
            if shared != self.size {
                return Err(self.other_size(self.size, shared));
            }
            self.is_of_one_moment = true;
        } else if !self.reflink_ranges()? {
            let file = self.file()?;
            file::truncate(&file.file, || file.path())?;
            (file.written, file.reserved, file.holes) = (0, 0, 0);
            self.reserve()?;
            return Ok(false);
        }
        self.file()?.end_of_bytes()?;
        self.hash().map(|()| true)
    }

    fn reflink_ranges(&mut self) -> Result<bool> {
        let source = self.source;
        let mut at = 0;
        while let Some(range) = self.next_data(at)? {
            self.file()?.append_hole(range.start - at)?;
            at = range.start;
            while at < range.end {
                let end = range.end.min(at.saturating_add(STEP));
                if !self.file()?.reflink_range(source, end)? {
                    return Ok(false);
                }
                at = end;
            }
        }
        let rest = self.size - at;
        self.file()?.append_hole(rest)?;
        Ok(true)
    }

    /// Hashes the bytes of the image's file, and does not read its holes.
    fn hash(&mut self) -> Result<()> {
        let mut buffer = AlignedBuffer::new(BUFFER, "import the image")?;
        let buffer = buffer.first_mut(BUFFER);
        let (mut at, size) = (0, self.size);
        let file = self.image.file.as_ref().ok_or_else(no_file)?;
        let unreadable = |errno| Error::system("read", &file.path(), errno);
        let expectations = &mut self.image.expectations;
        let count = |expectations: &mut Expectations, length| expectations.count(self.image.id.as_str(), length);
        while at < size {
            let data = copy::next_data(&file.file, at, size).map_err(unreadable)?.unwrap_or(size..size);
            while at < data.start {
                let length = expectations.zeros_at_once(data.start - at, STEP);
                count(expectations, length)?;
                expectations.hash_zeros(length);
                at += length;
                self.progress.note(&self.image.id, at, size)?;
            }
            while at < data.end {
                let most = usize::try_from(data.end - at).unwrap_or(usize::MAX).min(buffer.len());
                let length = copy::read_at(&file.file, at, &mut buffer[..most]).map_err(unreadable)?;
                if length == 0 {
                    return file.check_intact().and_then(|()| Err(unreadable(Errno::IO)));
                }
                count(expectations, length as u64)?;
                expectations.hash(&buffer[..length]);
                at += length as u64;
                self.progress.note(&self.image.id, at, size)?;
            }
        }
        Ok(())
    }

    /// Copies data and holes of the source.
    fn copy(&mut self) -> Result<()> {
        let mut buffer = AlignedBuffer::new(BUFFER, "import the image")?;
        let buffer = buffer.first_mut(BUFFER);
        let mut at = 0;
        while at < self.size {
            let data = self.next_data(at)?.unwrap_or(self.size..self.size);
            while at < data.start {
                let length = self.image.expectations.zeros_at_once(data.start - at, STEP);
                self.image.push_hole(length).map_err(error_of)?;
                at += length;
                self.report(at)?;
            }
            while at < data.end {
                let most = usize::try_from(data.end - at).unwrap_or(usize::MAX).min(buffer.len());
                let read = copy::read_at(self.source, at, &mut buffer[..most]);
                let length = read.map_err(|errno| self.unreadable(errno))?;
                if length == 0 {
                    return Err(self.other_size(self.size, at));
                }
                self.image.push(&buffer[..length]).map_err(error_of)?;
                at += length as u64;
                self.report(at)?;
            }
        }
        Ok(())
    }

    /// Copies the bytes of a pipe, to its end.
    fn copy_pipe(&mut self) -> Result<()> {
        let mut buffer = AlignedBuffer::new(BUFFER, "import the image")?;
        let buffer = buffer.first_mut(BUFFER);
        let mut at = 0;
        loop {
            if copy::wait_readable(self.source, PATIENCE).map_err(|errno| self.unreadable(errno))? {
                match copy::read(self.source, buffer) {
                    Ok(0) => return if self.progress.last == Some(at) { Ok(()) } else { self.call(at) },
                    Ok(length) => {
                        self.image.push(&buffer[..length]).map_err(error_of)?;
                        at += length as u64;
                    }
                    // Another reader was faster.
                    Err(Errno::AGAIN) => {}
                    Err(errno) => return Err(self.unreadable(errno)),
                }
                self.report(at)?;
            } else {
                self.call(at)?;
            }
        }
    }

    fn next_data(&self, at: u64) -> Result<Option<std::ops::Range<u64>>> {
        copy::next_data(self.source, at, self.size).map_err(|errno| self.unreadable(errno))
    }

    fn file(&mut self) -> Result<&mut IncompleteFile> {
        self.image.file.as_mut().ok_or_else(no_file)
    }

    fn report(&mut self, done: u64) -> Result<()> {
        self.progress.note(&self.image.id, done, self.size)
    }

    fn call(&mut self, done: u64) -> Result<()> {
        self.progress.call(&self.image.id, done, self.size)
    }

    fn unreadable(&self, errno: Errno) -> Error {
        failed(self.source, "read", errno)
    }

    fn other_size(&self, expected: u64, actual: u64) -> Error {
        Error::SizeMismatch { image_id: self.image.id.to_string(), expected, actual }
    }

    fn not_shared(&self, why: &str) -> Error {
        Error::Unsupported(format!("cannot share the blocks of '{}': {why}", copy::name_of(self.source).display()))
    }
}

fn error_of((Rejected::Unexpected(error) | Rejected::NotKept(error)): Rejected) -> Error {
    error
}

fn no_file() -> Error {
    Error::Internal("an import has no file".to_owned())
}
