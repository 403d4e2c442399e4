//! The floor: only the system calls that a cache must make.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, fdatasync, fstat, fsync, major, minor, openat, renameat, statat, syncfs, unlinkat,
};
use rustix::io::{pread, write};

/// A writeback begins each time after so many bytes.
const WRITEBACK: usize = 8 << 20;

/// An open directory.
pub struct Directory {
    descriptor: OwnedFd,
}

impl Directory {
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor =
            openat(CWD, path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { descriptor })
    }

    /// Creates the directory, and opens it.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        Self::open(path)
    }

    /// Open, fstat, pread, close.
    pub fn hit(&self, name: &str, buffer: &mut [u8]) -> Result<()> {
        let file = openat(&self.descriptor, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        fstat(&file)?;
        if pread(&file, &mut *buffer, 0)? != buffer.len() {
            bail!("{name} is shorter than it was written");
        }
        Ok(())
    }

    /// Fstatat.
    pub fn exists(&self, name: &str) -> Result<()> {
        statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Writes back what the file system has deferred, so that the next measurement does not include it.
    pub fn sync_file_system(&self) -> Result<()> {
        Ok(syncfs(&self.descriptor)?)
    }

    /// Waits until the disk is done with what was written and deleted before, or the next round would be slower for it. The
    /// file system discards the blocks of deleted files after the sync, so this waits until no request is in flight.
    pub fn settle(&self) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(10);
        const QUIET: u32 = 5;
        self.sync_file_system()?;
        let device = fstat(&self.descriptor)?.st_dev;
        let counters = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
        let end = Instant::now() + Duration::from_secs(5);
        let mut quiet = 0;
        while quiet < QUIET && Instant::now() < end {
            // Where the file system is not on one disk, there are no counters.
            let Ok(text) = std::fs::read_to_string(&counters) else { return Ok(()) };
            quiet = if text.split_whitespace().nth(8) == Some("0") { quiet + 1 } else { 0 };
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        unlinkat(&self.descriptor, name, AtFlags::empty()).with_context(|| format!("removing {name}"))
    }

    /// Creates a file that must not exist.
    pub fn create_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&self.descriptor, name, flags, Mode::from_raw_mode(0o666));
        Ok(File::from(file.with_context(|| format!("creating {name}"))?))
    }

    /// Create, write, rename; with `synced`, an fsync of the file and one of its new directory.
    pub fn commit(&self, name: &str, bytes: &[u8], to: &Self, synced: bool) -> Result<()> {
        let file = self.create_file(name)?;
        write_all(&file, bytes)?;
        if synced {
            fsync(&file)?;
        }
        drop(file);
        self.publish(name, to, synced)
    }

    fn publish(&self, name: &str, to: &Self, synced: bool) -> Result<()> {
        renameat(&self.descriptor, name, &to.descriptor, name)?;
        if synced {
            fsync(&to.descriptor)?;
        }
        Ok(())
    }

    /// Writes a large file chunk by chunk, then syncs and renames it as [`Directory::commit`] does. With `synced`, a
    /// writeback begins after each 8 MiB. Returns the seconds, and removes the file.
    pub fn stream(&self, name: &str, chunks: impl Iterator<Item = impl AsRef<[u8]>>, synced: bool) -> Result<f64> {
        self.timed_stream(name, |file| {
            let (mut written, mut started) = (0, 0);
            for chunk in chunks {
                let chunk = chunk.as_ref();
                write_all(file, chunk)?;
                written += chunk.len();
                if synced && written - started >= WRITEBACK {
                    start_writeback(file, started, written - started)?;
                    started = written;
                }
            }
            if synced {
                fdatasync(file)?;
            }
            Ok(synced)
        })
    }

    /// Copies a source to a file through a buffer. Returns the seconds, and removes the file.
    pub fn stream_from(&self, name: &str, source: &mut impl Read, buffer: &mut [u8]) -> Result<f64> {
        self.timed_stream(name, |file| {
            loop {
                match source.read(buffer)? {
                    0 => return Ok(false),
                    length => write_all(file, &buffer[..length])?,
                }
            }
        })
    }

    fn timed_stream(&self, name: &str, write: impl FnOnce(&File) -> Result<bool>) -> Result<f64> {
        let published = format!("{name}.published");
        let began = Instant::now();
        let file = self.create_file(name)?;
        let synced = write(&file)?;
        drop(file);
        renameat(&self.descriptor, name, &self.descriptor, published.as_str())?;
        if synced {
            fsync(&self.descriptor)?;
        }
        let took = began.elapsed().as_secs_f64();
        self.remove(&published)?;
        Ok(took)
    }

    /// Reads a large file chunk by chunk. Returns the seconds, with those of the open.
    pub fn read(&self, name: &str, buffer: &mut [u8]) -> Result<f64> {
        let began = Instant::now();
        let file = openat(&self.descriptor, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut offset = 0;
        loop {
            match pread(&file, &mut *buffer, offset)? {
                0 => break,
                length => offset += length as u64,
            }
        }
        drop(file);
        Ok(began.elapsed().as_secs_f64())
    }

    /// What a driver without an index must do for the LRU order: read every name, stat every file, and sort.
    pub fn scan_and_sort(&self) -> Result<Vec<(i64, String)>> {
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.descriptor)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            let stat = statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
            #[allow(clippy::useless_conversion, reason = "its type differs between architectures")]
            let accessed = stat.st_atime * 1_000_000_000 + i64::try_from(stat.st_atime_nsec)?;
            found.push((accessed, name.to_str()?.to_owned()));
        }
        found.sort_unstable();
        Ok(found)
    }
}

fn write_all(file: &File, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let written = write(file, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Starts the writeback of a part of a file, and does not wait for it.
#[allow(unsafe_code, reason = "rustix has no such call")]
fn start_writeback(file: &File, offset: usize, length: usize) -> Result<()> {
    let (offset, length) = (i64::try_from(offset)?, i64::try_from(length)?);
    // SAFETY: the descriptor is open for as long as the call takes, and the other arguments are numbers.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("sync_file_range") }
}
