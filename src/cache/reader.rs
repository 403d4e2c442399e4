//! The handle of a cached image that is being read.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::cache::access::{record_hit, record_open};
use crate::cache::counters::Counter;
use crate::cache::inner::CacheInner;
use crate::cache::query::{not_found, open_served};
use crate::cache::resized::is_resized;
use crate::error::{Error, Result};
use crate::store::committed;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::store::removal::ReapAtClose;
use crate::sys::file;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::stat::FileStat;

/// Reads one cached image. While it is open, prune leaves the image. It keeps the same bytes when the image is deleted or cached again.
///
/// Opening counts as an access, dropping as a hit. Use it from one thread at a time.
pub struct Reader {
    state: ForkGuard<State>,
    size: u64,
    path: OnceLock<CString>,
}

struct State {
    cache: Arc<CacheInner>,
    id: ImageId,
    file: File,
    /// The status at the open.
    stat: FileStat,
    position: u64,
    /// How many bytes it has returned.
    served: AtomicU64,
    /// After the file is closed: fields are dropped in their order.
    #[allow(dead_code, reason = "its drop")]
    reap: ReapAtClose,
}

impl Reader {
    pub(crate) fn open(cache: &Arc<CacheInner>, id: &ImageId) -> Result<Self> {
        let served = open_served(cache, id)?.filter(|(file, stat)| !is_resized(cache, id, file, stat));
        let Some((file, stat)) = served else {
            cache.counters().add(Counter::Misses, 1);
            return Err(not_found(cache, id));
        };
        record_open(cache, id, &file, &stat);
        let reap = ReapAtClose::new(&cache.catalog.layout, stat.id.inode);
        let state = State {
            cache: Arc::clone(cache),
            id: id.clone(),
            file,
            stat,
            position: 0,
            served: AtomicU64::new(0),
            reap,
        };
        Ok(Self { state: ForkGuard::new(state), size: stat.size, path: OnceLock::new() })
    }

    /// Reads the next bytes; 0 at the end.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Damaged`] when the file has become shorter than it was, [`Error::Forked`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let state = self.state.get_mut()?;
        let length = state.read_at(state.position, buffer)?;
        state.position += length as u64;
        Ok(length)
    }

    /// Reads bytes at an offset; 0 at or beyond the end. The position of [`Self::read`] does not change.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.state.get()?.read_at(offset, buffer)
    }

    /// The image's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The path of the image's file. While the reader is open, prune leaves it. A deletion removes it.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn path(&self) -> Result<&Path> {
        Ok(Path::new(OsStr::from_bytes(self.c_path()?.to_bytes())))
    }

    pub(crate) fn c_path(&self) -> Result<&CStr> {
        let state = self.state.get()?;
        let path = || state.cache.layout().path(Area::Cached, &state.id).into_os_string().into_vec();
        // A path has no NUL.
        Ok(self.path.get_or_init(|| CString::new(path()).unwrap_or_default()))
    }

    /// The image's file.
    pub(crate) fn file(&self) -> Result<&File> {
        Ok(&self.state.get()?.file)
    }

    /// Counts bytes that it has delivered in another way than by reads.
    pub(crate) fn add_served(&self, bytes: u64) {
        if let Ok(state) = self.state.get() {
            state.served.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The digest that was stored at the commit, as `algorithm:hex`.
    pub(crate) fn stored_digest(&self) -> Option<String> {
        committed::digest(&self.state.get().ok()?.file).ok().flatten()
    }

    /// The descriptor of the image's file, open for reading. [`Self::read`] does not use its offset.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.state.get()?.file.as_fd())
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Reader::read(self, buffer).map_err(io::Error::other)
    }
}

impl State {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if offset >= self.stat.size || buffer.is_empty() {
            return Ok(0);
        }
        // Bytes that another program appended are not part of the image.
        let left = usize::try_from(self.stat.size - offset).unwrap_or(usize::MAX).min(buffer.len());
        let path = || self.cache.layout().path(Area::Cached, &self.id);
        match file::read_at(&self.file, path, offset, &mut buffer[..left])? {
            0 => {
                let size = self.stat.size;
                let why =
                    format!("it had {size} bytes when it was opened, and has no byte at offset {offset} any more");
                Err(Error::Damaged { operation: "read", path: path(), why })
            }
            length => {
                self.served.fetch_add(length as u64, Ordering::Relaxed);
                Ok(length)
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        record_hit(&self.cache, &self.id, &self.stat, *self.served.get_mut());
    }
}
