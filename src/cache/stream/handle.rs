//! The handle of a stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::inner::CacheInner;
use crate::cache::stream::source::RangeSource;
use crate::cache::stream::state::State;
use crate::digest::algorithm::Algorithm;
use crate::error::Result;
use crate::store::image_id::ImageId;
use crate::sys::fork_guard::ForkGuard;

pub use crate::cache::stream::state::StreamRole;

/// 136 years. A time beyond the range of the clock has no deadline.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// Reads one image. If it is not cached, all streams of the image on this host share one fetch, over all processes.
///
/// Dropping it costs the others nothing. Use it from one thread at a time.
pub struct Stream<S: RangeSource>(ForkGuard<State<S>>);

impl<S: RangeSource> Stream<S> {
    pub(crate) fn open(cache: &Arc<CacheInner>, id: &ImageId, source: S) -> Self {
        Self(ForkGuard::new(State::open(cache, id, source)))
    }

    /// Expects a size, in bytes. To be called before the first read. The source is then never called beyond it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] after the first read, or when another size is expected already; [`Error::Forked`].
    pub fn expect_size(&mut self, bytes: u64) -> Result<()> {
        self.0.get_mut()?.expectations()?.expect_size(bytes)
    }

    /// Expects a digest. To be called before the first read.
    ///
    /// # Errors
    /// As for [`crate::Writer::expect_digest`].
    pub fn expect_digest(&mut self, algorithm: Algorithm, hex: &str) -> Result<()> {
        self.0.get_mut()?.expectations()?.expect_digest(algorithm, hex)
    }

    /// How long a call waits without a new byte before it returns [`Error::TimedOut`]; `None`: for ever, which is the default.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.0.get_mut()?.timeout = timeout.map(|timeout| timeout.min(LONGEST));
        Ok(())
    }

    /// How long another participant's source may take for one call before this one calls its own; 30 s by default.
    ///
    /// # Errors
    /// [`Error::Forked`].
    pub fn set_source_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.0.get_mut()?.source_timeout = timeout.min(LONGEST);
        Ok(())
    }

    /// Reads the next bytes. Returns 0 at the end, after the image was verified.
    ///
    /// # Errors
    /// [`Error::Source`] when the own source failed; at the end [`Error::SizeMismatch`] and [`Error::DigestMismatch`]. Each is returned
    /// again by every later call. [`Error::TimedOut`], after which the call can be repeated. [`Error::Forked`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.0.get_mut()?.read(buffer)
    }

    /// Reads bytes at an offset; 0 at or beyond the end. Bytes that are near are waited for, and cached. Bytes that are far ahead come
    /// from the own source, and are not cached. The position of [`Self::read`] does not change. Nothing is verified.
    ///
    /// # Errors
    /// [`Error::Source`], [`Error::TimedOut`], [`Error::Forked`].
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.0.get_mut()?.read_at(offset, buffer)
    }

    /// Where the last bytes came from.
    pub fn role(&self) -> StreamRole {
        self.0.get().map_or(StreamRole::Alone, |state| state.role)
    }

    /// How many bytes of the image are in the cache; 0 before the first read of an image that is not cached, and for a stream that is
    /// alone.
    pub fn available(&self) -> u64 {
        self.0.get().map_or(0, State::available)
    }
}

impl<S: RangeSource> io::Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, buffer).map_err(io::Error::other)
    }
}
