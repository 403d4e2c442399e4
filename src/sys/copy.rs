//! Copying from one open file to another: sharing its blocks, copying in the kernel, and finding its holes.
//!
//! Descriptors of the caller's are used as they are. A duplicate of one would release his POSIX locks on the file when it is closed.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    FileType, OFlags, SeekFrom, copy_file_range, fcntl_getfl, fcntl_setfl, fstat, fsync, ftruncate, ioctl_ficlone, seek,
};
pub(crate) use rustix::io::Errno;
use rustix::io::{pread, pwrite, retry_on_intr};

use crate::sys::signals::without_size_signal;
use crate::sys::stat::FileStat;

/// What a file is, as far as a copy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    BlockDevice,
    /// A pipe or a socket: bytes without offsets.
    Pipe,
    Other,
}

/// An open file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub kind: Kind,
    pub stat: FileStat,
    pub is_readable: bool,
    pub is_writable: bool,
    /// Its bytes bypass the page cache (`O_DIRECT`), so offsets and lengths have to be multiples of a block.
    pub is_direct: bool,
}

/// What a descriptor refers to.
#[allow(clippy::useless_conversion, clippy::cast_lossless, clippy::unnecessary_cast)]
pub(crate) fn opened(file: impl AsFd) -> Result<Opened, Errno> {
    let flags = fcntl_getfl(&file)?;
    let stat = fstat(&file)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo | FileType::Socket => Kind::Pipe,
        _ => Kind::Other,
    };
    let (mode, is_path) = (flags & OFlags::RWMODE, flags.contains(OFlags::PATH));
    Ok(Opened {
        kind,
        stat: FileStat::from(stat),
        is_readable: !is_path && (mode == OFlags::RDONLY || mode == OFlags::RDWR),
        is_writable: !is_path && (mode == OFlags::WRONLY || mode == OFlags::RDWR),
        is_direct: flags.contains(OFlags::DIRECT),
    })
}

/// For messages.
pub(crate) fn name_of(file: BorrowedFd<'_>) -> PathBuf {
    path_of(file).unwrap_or_else(|| PathBuf::from(format!("file descriptor {}", file.as_raw_fd())))
}

/// The path of an open file, as the kernel knows it; `None` without /proc.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Whether an open file is below a directory, as far as the kernel knows its path.
pub(crate) fn is_below(file: BorrowedFd<'_>, directory: &Path) -> bool {
    path_of(file).is_some_and(|path| path.starts_with(directory))
}

/// The file systems, the files or the kernel do not allow it. Other ways to copy may work.
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    // BADF: the target is open for appending. TXTBSY: a swap file. PERM: a sandbox, or an immutable file.
    [
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::NOTTY,
        Errno::XDEV,
        Errno::INVAL,
        Errno::BADF,
        Errno::TXTBSY,
        Errno::PERM,
        Errno::ISDIR,
        Errno::OVERFLOW,
    ]
    .contains(&errno)
}

/// Makes an empty file share all blocks of another one: the bytes are those of one moment, and none is copied.
pub(crate) fn reflink(source: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    without_size_signal(|| retry_on_intr(|| ioctl_ficlone(&target, &source)))
}

/// Makes a range of a file share the blocks of the same range of another one. It ends at a block, or at the end of the source.
#[allow(unsafe_code, reason = "rustix has no such call")]
pub(crate) fn reflink_range(source: impl AsFd, target: impl AsFd, range: Range<u64>) -> Result<(), Errno> {
    let range = libc::file_clone_range {
        src_fd: source.as_fd().as_raw_fd().into(),
        src_offset: range.start,
        src_length: range.end - range.start,
        dest_offset: range.start,
    };
    without_size_signal(|| {
        retry_on_intr(|| {
            // SAFETY: both descriptors are open for as long as the call takes, which reads one struct.
            let result = unsafe { libc::ioctl(target.as_fd().as_raw_fd(), libc::FICLONERANGE, &raw const range) };
            if result == 0 { Ok(()) } else { Err(last_error()) }
        })
    })
}

/// Whether each write goes to the end of the file.
pub(crate) fn set_appending(file: impl AsFd, appending: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(&file)?;
    flags.set(OFlags::APPEND, appending);
    fcntl_setfl(&file, flags)
}

/// Waits until a pipe has bytes or is at its end: up to so long. Returns whether it is.
#[allow(unsafe_code, reason = "one descriptor, which need not be ours")]
pub(crate) fn wait_readable(file: impl AsFd, milliseconds: i32) -> Result<bool, Errno> {
    let mut wanted = libc::pollfd { fd: file.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the call reads and writes one struct, which lives until it returns.
    match unsafe { libc::poll(&raw mut wanted, 1, milliseconds) } {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match last_error() {
            Errno::INTR => Ok(false),
            errno => Err(errno),
        },
    }
}

/// Reads the next bytes of a pipe; 0 at the end. `AGAIN` if it has none, and does not block.
pub(crate) fn read(file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry_on_intr(|| rustix::io::read(&file, &mut *buffer))
}

/// The offset of an open file; `None` for a pipe.
pub(crate) fn position(file: impl AsFd) -> Option<u64> {
    seek(&file, SeekFrom::Current(0)).ok()
}

/// Sets the offset of an open file.
pub(crate) fn set_position(file: impl AsFd, position: u64) {
    // It can fail for a pipe only, which has none.
    let _ = seek(&file, SeekFrom::Start(position));
}

/// The length of a regular file or a block device. Moves the file's offset.
pub(crate) fn length(file: impl AsFd) -> Result<u64, Errno> {
    seek(&file, SeekFrom::End(0))
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Copies bytes in the kernel, to the same offset. Returns how many: fewer than `length` are possible, 0 at the end.
pub(crate) fn copy_in_kernel(source: impl AsFd, target: impl AsFd, offset: u64, length: usize) -> Result<usize, Errno> {
    without_size_signal(|| {
        retry_on_intr(|| {
            let (mut from, mut to) = (offset, offset);
            copy_file_range(&source, Some(&mut from), &target, Some(&mut to), length)
        })
    })
}

/// Reads bytes at an offset; 0 at the end.
pub(crate) fn read_at(file: impl AsFd, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry_on_intr(|| pread(&file, &mut *buffer, offset))
}

/// Writes all of the bytes at an offset: at the end in a file that is open for appending.
pub(crate) fn write_at(file: impl AsFd, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = without_size_signal(|| retry_on_intr(|| pwrite(&file, bytes, offset)))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        (bytes, offset) = (&bytes[written..], offset + written as u64);
    }
    Ok(())
}

/// Sets the length. Bytes that are added are a hole.
pub(crate) fn set_length(file: impl AsFd, length: u64) -> Result<(), Errno> {
    without_size_signal(|| retry_on_intr(|| ftruncate(&file, length)))
}

/// Makes bytes and length durable. A failure is final.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    fsync(&file)
}

/// Where the last block begins that a file can have.
const LAST_BLOCK: u64 = (1 << 63) - 4096;

/// The next range of a file that has data, at or behind an offset, and before `end`; `None` if there are only holes. All is data where
/// the file system cannot tell. Moves the file's offset.
pub(crate) fn next_data(file: impl AsFd, offset: u64, end: u64) -> Result<Option<Range<u64>>, Errno> {
    if offset >= end {
        return Ok(None);
    }
    let start = match seek(&file, SeekFrom::Data(offset)) {
        Ok(start) if start >= end => return Ok(None),
        Ok(start) => start.max(offset),
        // tmpfs does not find the data of the last block that a file can have.
        Err(Errno::NXIO) if end > LAST_BLOCK => return Ok(Some(offset.max(LAST_BLOCK)..end)),
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) if is_unsupported(errno) => return Ok(Some(offset..end)),
        Err(errno) => return Err(errno),
    };
    match seek(&file, SeekFrom::Hole(start)) {
        Ok(hole) if hole > start => Ok(Some(start..hole.min(end))),
        // The data was punched meanwhile, or the file has become shorter.
        _ => Ok(Some(start..end)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn ranges_of_data_are_those_that_were_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        file.write_all_at(&[1; 4096], 3 << 20).unwrap();
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Some(range) = next_data(&file, at, 4 << 20).unwrap() {
            at = range.end;
            ranges.push(range);
        }
        assert_eq!(ranges.iter().map(|range| range.start).collect::<Vec<_>>(), [1 << 20, 3 << 20]);
        assert_eq!(next_data(&file, 0, 1 << 20), Ok(None));
        assert_eq!(next_data(&file, 5 << 20, 4 << 20), Ok(None));
    }

    #[test]
    fn a_descriptor_says_what_it_refers_to() {
        let file = tempfile::tempfile().unwrap();
        let file = opened(&file).unwrap();
        assert!(file.kind == Kind::Regular && file.is_readable && file.is_writable && !file.is_direct);
        let directory = std::fs::File::open("/").unwrap();
        let directory = opened(&directory).unwrap();
        assert!(directory.kind == Kind::Other && directory.is_readable && !directory.is_writable);
        let (pipe, _other) = std::io::pipe().unwrap();
        assert_eq!(opened(&pipe).unwrap().kind, Kind::Pipe);
    }
}
