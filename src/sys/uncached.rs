//! Reading a file around the page cache: from the disk, and without displacing other pages from memory.
//!
//! With `O_DIRECT`, where the file system has it. Else through the page cache: pages that were not there before are dropped again. Where the
//! kernel does not know which these are (before 6.5), all pages of the file are dropped.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::error::{Error, Result};
use crate::sys::copy::next_data;
use crate::sys::memory;
use crate::sys::stat::FileStat;
use crate::sys::writeback::drop_pages;

/// Disks and file systems have blocks of up to this length, as a rule. In bytes.
const ALIGNMENT: usize = 4096;

/// Memory for pieces of a file. Its address and its length are multiples of a block.
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    begin: usize,
    length: usize,
}

impl AlignedBuffer {
    /// At least so many bytes.
    pub fn new(length: usize, operation: &'static str) -> Result<Self> {
        let length = length.next_multiple_of(ALIGNMENT);
        let memory = memory::buffer(length + ALIGNMENT, operation)?;
        let begin = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Ok(Self { memory, begin, length })
    }

    /// Its first bytes.
    pub fn first(&self, length: usize) -> &[u8] {
        &self.memory[self.begin..][..length]
    }

    /// Its first bytes, to be filled.
    pub fn first_mut(&mut self, length: usize) -> &mut [u8] {
        &mut self.memory[self.begin..][..length]
    }
}

/// Why a read failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadFailure(Errno);

impl ReadFailure {
    pub fn into_error(self, path: &Path) -> Error {
        Error::system("read", path, self.0)
    }
}

/// A file that is read around the page cache. It has its open file description for itself.
pub(crate) struct UncachedFile {
    file: File,
    is_direct: bool,
}

impl UncachedFile {
    pub fn new(file: File) -> Self {
        let mut file = Self { file, is_direct: false };
        file.is_direct = file.set_direct(true).is_ok();
        if !file.is_direct {
            file.begin_buffered();
        }
        file
    }

    /// Reads up to `length` bytes at an offset; 0 at the end. Offsets are multiples of a block, except after a short read. Neither allocates
    /// nor panics.
    pub fn read(
        &mut self,
        offset: u64,
        length: usize,
        buffer: &mut AlignedBuffer,
    ) -> std::result::Result<usize, ReadFailure> {
        self.try_read(offset, length, buffer).map_err(ReadFailure)
    }

    fn try_read(
        &mut self,
        offset: u64,
        length: usize,
        buffer: &mut AlignedBuffer,
    ) -> std::result::Result<usize, Errno> {
        // The kernel reads nothing if that would be beyond the longest file.
        let most = usize::try_from(i64::MAX.unsigned_abs().saturating_sub(offset)).unwrap_or(usize::MAX);
        let whole = length.next_multiple_of(ALIGNMENT).min(buffer.length).min(most);
        if self.is_direct {
            match read(self.file.as_fd(), offset, buffer.first_mut(whole)) {
                // The file system has it for other files, or larger blocks.
                Err(Errno::INVAL) => {
                    self.set_direct(false)?;
                    self.is_direct = false;
                    self.begin_buffered();
                }
                read => return read.map(|count| count.min(length)),
            }
        }
        let was_cached = cached_pages(&self.file, offset, whole as u64).is_some_and(|pages| pages > 0);
        let read = read(self.file.as_fd(), offset, buffer.first_mut(whole));
        if !was_cached {
            drop_pages(&self.file, offset, NonZeroU64::new(whole as u64));
        }
        read.map(|count| count.min(length))
    }

    /// Where the hole ends that begins at an offset; `None` if there is data, or it is unknown. Nothing beyond the file's end is a hole.
    pub fn hole(&self, offset: u64, end: u64) -> Option<u64> {
        let hole_end = match next_data(&self.file, offset, end).ok()? {
            // What is read begins with a block.
            Some(data) => data.start / ALIGNMENT as u64 * ALIGNMENT as u64,
            None => FileStat::from(fstat(&self.file).ok()?).size.min(end),
        };
        (hole_end > offset).then_some(hole_end)
    }

    fn set_direct(&self, direct: bool) -> std::result::Result<(), Errno> {
        let mut flags = fcntl_getfl(&self.file)?;
        flags.set(OFlags::DIRECT, direct);
        fcntl_setfl(&self.file, flags)
    }

    /// Pages that are read ahead would look as if another program had read them.
    fn begin_buffered(&self) {
        // A hint.
        let _ = fadvise(&self.file, 0, None, Advice::Random);
    }
}

fn read(file: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> std::result::Result<usize, Errno> {
    retry_on_intr(|| pread(file, &mut *buffer, offset))
}

/// How many pages of a range are in the page cache; `None` if the kernel lacks the call, or a sandbox filters it.
#[allow(unsafe_code, reason = "neither rustix nor libc has this call")]
fn cached_pages(file: &File, offset: u64, length: u64) -> Option<u64> {
    /// It has the same number on all architectures.
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, length];
    // Pages that are cached, dirty, in write-back, evicted, recently evicted.
    let mut pages = [0_u64; 5];
    // SAFETY: the descriptor is open for as long as the call takes. The kernel reads two and writes five numbers of 64 bits.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), pages.as_mut_ptr(), 0_u32) };
    (result == 0).then_some(pages[0])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::path::PathBuf;

    use super::*;
    use crate::sys::file::duplicated;

    fn read_all(mut file: UncachedFile, length: usize) -> Vec<u8> {
        let mut buffer = AlignedBuffer::new(8192, "test").unwrap();
        let mut content = Vec::new();
        while content.len() < length {
            let count = file.read(content.len() as u64, 8192.min(length - content.len()), &mut buffer).unwrap();
            assert!(count > 0);
            content.extend_from_slice(buffer.first(count));
        }
        content
    }

    #[test]
    fn a_file_is_read_with_and_without_direct_access() {
        let content: Vec<u8> = (0..20_001_u32).flat_map(u32::to_le_bytes).collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&content, 0).unwrap();
        let direct = UncachedFile::new(duplicated(&file, PathBuf::new).unwrap());
        assert_eq!(read_all(direct, content.len()), content);
        let mut buffered = UncachedFile::new(file);
        buffered.set_direct(false).unwrap();
        buffered.is_direct = false;
        assert_eq!(read_all(buffered, content.len()), content);
    }

    #[test]
    fn pages_that_were_there_before_stay_and_others_are_dropped() {
        let content = vec![7_u8; 1 << 20];
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        drop_pages(&file, 0, None);
        let Some(0) = cached_pages(&file, 0, 1 << 20) else {
            // The kernel lacks the call, or the file system is in memory. Then nothing is promised.
            return;
        };
        // Without pages that the kernel reads ahead.
        fadvise(&file, 0, None, Advice::Random).unwrap();
        let mut first = [0; 4096];
        file.read_exact_at(&mut first, 0).unwrap();
        let before = cached_pages(&file, 0, 512 << 10).unwrap();
        let mut buffered = UncachedFile { file: File::open(&path).unwrap(), is_direct: false };
        buffered.begin_buffered();
        let mut buffer = AlignedBuffer::new(512 << 10, "test").unwrap();
        for offset in [0, 512 << 10] {
            buffered.read(offset, 512 << 10, &mut buffer).unwrap();
        }
        assert!(cached_pages(&file, 0, 512 << 10).unwrap() >= before);
        assert_eq!(cached_pages(&file, 512 << 10, 512 << 10), Some(0));
    }
}
