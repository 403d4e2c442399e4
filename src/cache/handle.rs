//! The cache's handle: the public API in Rust. It validates image ids, and refuses to work in a forked child.

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::bounds::reserve;
use crate::cache::bounds::usage::{self, Usage};
use crate::cache::inner::CacheInner;
use crate::cache::prefetch::{self, Prefetched};
use crate::cache::prune::Pruned;
use crate::cache::queue::{self, QueuedImage};
use crate::cache::reader::Reader;
use crate::cache::statistics::{self, Statistics};
use crate::cache::stream::handle::Stream;
use crate::cache::stream::source::RangeSource;
use crate::cache::tee::Tee;
use crate::cache::unfinished::{self, IncompleteImage, InvalidImage};
use crate::cache::verify::pass::{Verified, VerifyOptions, verify};
use crate::cache::writer::Writer;
use crate::cache::{clean, lifecycle, pin, query, remove, wait};
use crate::error::Result;
use crate::index::cached_image::CachedImage;
use crate::index::driver::DriverKind;
use crate::index::listing::Listing;
use crate::options::Options;
use crate::store::image_id::ImageId;
use crate::store::layout::Area;
use crate::sys::fork_guard::ForkGuard;

/// A local cache of images in one directory.
///
/// Any number of handles, in any number of processes of the host, may be open on the same directory. A handle may be used from many
/// threads at once. Dropping it is safe while its readers, writers and tees live.
///
/// Every method that takes an `image_id` returns [`crate::Error::InvalidImageId`] when the text cannot name an image: ids are 1 to
/// 255 bytes of UTF-8 without `/` and control characters, do not begin with a dot, and are not the names of the cache's own files.
/// After `fork`, every method in the child returns [`crate::Error::Forked`]. Failed system calls are [`crate::Error::System`], a
/// failed index is [`crate::Error::Index`].
pub struct ImageCache {
    inner: ForkGuard<Arc<CacheInner>>,
    driver: DriverKind,
}

#[allow(clippy::missing_errors_doc, reason = "the errors of every method are those above")]
impl ImageCache {
    /// Opens the cache in `directory`. A missing directory is created with its subdirectories, but its parent is not.
    ///
    /// A directory that Glance filled is opened in place. Leftovers of a crash are repaired. A directory that may not be written is
    /// opened for reading.
    ///
    /// # Errors
    /// [`crate::Error::System`] when the directory or a subdirectory cannot be created or opened (a symbolic link in place of a
    /// subdirectory is refused);
    /// [`crate::Error::Index`] when the index cannot be read, or is no file; [`crate::Error::Unsupported`] when the
    /// chosen driver does not work on this file system, or a newer version of this library made the index;
    /// [`crate::Error::OpenAcrossFork`] when the process that forked this one had the cache open with the SQLite driver.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self> {
        let inner = Arc::new(lifecycle::open(directory.as_ref(), options)?);
        let driver = inner.index().driver.kind();
        Ok(Self { inner: ForkGuard::new(inner), driver })
    }

    /// The driver in use.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Whether the image is cached.
    pub fn is_cached(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| query::is_cached(inner, &id))
    }

    /// Whether `incomplete/` has a file of the image, its writer alive or dead.
    pub fn is_being_cached(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| inner.layout().has(Area::Incomplete, &id))
    }

    /// Whether the image is queued.
    pub fn is_queued(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| queue::is_queued(inner, &id))
    }

    /// Whether the image is neither cached nor being cached, and nothing else (a directory, for example) has its name.
    pub fn is_cacheable(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| query::is_cacheable(inner, &id))
    }

    /// The size of all cached images, in bytes.
    pub fn cache_size(&self) -> Result<u64> {
        query::cache_size(self.inner.get()?)
    }

    /// The length of a cached image, in bytes.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and see [`ImageCache`].
    pub fn image_size(&self, image_id: &str) -> Result<u64> {
        self.with_id(image_id, |inner, id| query::image_size(inner, &id))
    }

    /// How often the image was read since it was cached; 0 when it is not cached.
    ///
    /// All hits through this handle and through closed handles are counted. Other handles collect their hits in memory, and write
    /// them as a reader of theirs closes, at most once a second; at a query of hits, a listing or a prune through them; and at
    /// their close. Hits of a handle that may not write are not counted. The hit of a reader that outlives its cache may not be
    /// counted either: it waits for nobody.
    pub fn hit_count(&self, image_id: &str) -> Result<u64> {
        self.with_id(image_id, |inner, id| query::hit_count(inner, &id))
    }

    /// All cached images, by id. Images that come or go meanwhile may or may not be included. The listing does not need the cache
    /// any more. [`Self::hit_count`] says which hits and accesses are
    /// included.
    pub fn list_cached(&self) -> Result<Listing> {
        query::list(self.inner.get()?)
    }

    /// A cached image as [`Self::list_cached`] shows it. This is neither an access nor a hit.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and see [`ImageCache`].
    pub fn get_image(&self, image_id: &str) -> Result<CachedImage> {
        self.with_id(image_id, |inner, id| query::image(inner, &id))
    }

    /// All images that are being cached, by id: a snapshot. Those that come or go meanwhile may or may not be included.
    pub fn list_incomplete(&self) -> Result<Vec<IncompleteImage>> {
        unfinished::list_incomplete(self.inner.get()?)
    }

    /// All images whose fetch has failed, by id: a snapshot. They are kept until the next clean.
    pub fn list_invalid(&self) -> Result<Vec<InvalidImage>> {
        unfinished::list_invalid(self.inner.get()?)
    }

    /// All queued images, oldest first: a snapshot.
    pub fn list_queued(&self) -> Result<Vec<QueuedImage>> {
        queue::list(self.inner.get()?)
    }

    /// Begins to cache an image, and becomes its only writer.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyCached`]; [`crate::Error::BeingCached`] while another live writer, in any process of the host,
    /// has the image and has not stalled; and see [`ImageCache`].
    pub fn begin_write(&self, image_id: &str) -> Result<Writer> {
        self.with_id(image_id, |inner, id| Writer::begin(inner, &id))
    }

    /// Opens a cached image. Opening counts as an access, closing as a hit.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and see [`ImageCache`].
    pub fn open_for_read(&self, image_id: &str) -> Result<Reader> {
        self.with_id(image_id, |inner, id| Reader::open(inner, &id))
    }

    /// Delivers the bytes of `source`, and caches them on the way.
    ///
    /// # Errors
    /// Only for an invalid id, and in a forked child.
    pub fn tee<S: Read>(&self, image_id: &str, source: S) -> Result<Tee<S>> {
        self.with_id(image_id, |inner, id| Ok(Tee::open(inner, &id, source)))
    }

    /// Reads an image, and fetches what is missing from `source`, together with all other streams of the image on this host.
    ///
    /// Never fails because the image cannot be cached: its bytes then come from the source, and nothing is shared.
    ///
    /// # Errors
    /// Only for an invalid id, and in a forked child.
    pub fn stream<S: RangeSource>(&self, image_id: &str, source: S) -> Result<Stream<S>> {
        self.with_id(image_id, |inner, id| Ok(Stream::open(inner, &id, source)))
    }

    /// Waits until the image is cached (true), or nobody caches it any more (false).
    ///
    /// # Errors
    /// [`crate::Error::TimedOut`] when it is still being cached after that time, and see [`ImageCache`].
    pub fn wait_cached(&self, image_id: &str, timeout: Duration) -> Result<bool> {
        self.with_id(image_id, |inner, id| wait::wait_cached(inner, &id, timeout))
    }

    /// Appends an image to the queue. False when it is queued, cached, or being cached by a live writer.
    pub fn queue_image(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| queue::enqueue(inner, &id))
    }

    /// Removes an image from the queue. An image that is not queued is no error.
    pub fn delete_queued_image(&self, image_id: &str) -> Result<()> {
        self.with_id(image_id, |inner, id| queue::dequeue(inner, &id).map(drop))
    }

    /// Empties the queue. Returns how many images were in it.
    pub fn delete_all_queued_images(&self) -> Result<u64> {
        queue::dequeue_all(self.inner.get()?)
    }

    /// Fetches each queued image, oldest first. `fetch` gets its id and a writer. When it returns `Ok`, the image is committed. A
    /// failed image stays queued, and the others are fetched all the same. Many threads and processes may prefetch at once: each image
    /// is fetched by one of them. Images that streams fetch come last: they are waited for while they grow, and fetched here only if the
    /// streams are closed before the end.
    ///
    /// # Errors
    /// When the queue cannot be listed; see [`ImageCache`]. Failed fetches are counted, and logged.
    pub fn prefetch(&self, fetch: impl FnMut(&str, &mut Writer) -> Result<()>) -> Result<Prefetched> {
        prefetch::prefetch(self.inner.get()?, fetch)
    }

    /// Deletes a cached image. An image that is not cached is no error. Its readers keep its bytes.
    ///
    /// # Errors
    /// [`crate::Error::Pinned`], and see [`ImageCache`].
    pub fn delete_cached_image(&self, image_id: &str) -> Result<()> {
        self.with_id(image_id, |inner, id| remove::delete(inner, &id))
    }

    /// Deletes a cached image, unless anybody has it open, as [`Self::prune`] does. False when it is in use, and stays; true when it is
    /// not cached any more, or was not.
    pub fn delete_unused_image(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| remove::delete_unused(inner, &id))
    }

    /// Deletes all cached images. Returns how many there were.
    ///
    /// # Errors
    /// All images that can be deleted are deleted. [`crate::Error::Pinned`] for one that stays.
    pub fn delete_all_cached_images(&self) -> Result<u64> {
        remove::delete_all(self.inner.get()?)
    }

    /// Pins a cached image: it is neither evicted nor deleted until that time has passed (`None`: as long as this process lives, also
    /// after the drop of this handle). Fractions of seconds do not count.
    ///
    /// Pins belong to holders, which are any 1 to 255 bytes without NUL. An image can have many. A second pin by the same holder replaces
    /// its time, also one of another process.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::PinnedFull`] when more than [`Options::max_pinned`] would be pinned;
    /// [`crate::Error::InvalidArgument`] for such a holder; and see [`ImageCache`].
    pub fn pin(&self, image_id: &str, holder: impl AsRef<[u8]>, time: Option<Duration>) -> Result<()> {
        self.with_id(image_id, |inner, id| pin::pin(inner, &id, holder.as_ref(), time))
    }

    /// Removes the pin of a holder. An image that it has not pinned is no error.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for such a holder; and see [`ImageCache`].
    pub fn unpin(&self, image_id: &str, holder: impl AsRef<[u8]>) -> Result<()> {
        self.with_id(image_id, |inner, id| pin::unpin(inner, &id, holder.as_ref()))
    }

    /// Deletes the least recently accessed images until the cache has at most its maximum size.
    ///
    /// Images that anybody has open are left: readers of all processes, and other programs. A limit that is missed for them alone is no
    /// error; how many there are is logged.
    ///
    /// # Errors
    /// When the limit could not be reached, or images could not be stat'ed; see [`ImageCache`].
    pub fn prune(&self) -> Result<Pruned> {
        reserve::prune(self.inner.get()?, None)
    }

    /// As [`Self::prune`], to another size: evicts until the rest has at most so many bytes.
    ///
    /// # Errors
    /// As for [`Self::prune`].
    pub fn prune_to(&self, bytes: u64) -> Result<Pruned> {
        reserve::prune(self.inner.get()?, Some(bytes))
    }

    /// Evicts until an image of so many bytes fits: within the maximum size, and on the disk. Another process may take the room
    /// before the image is written. Images in use are left.
    ///
    /// # Errors
    /// [`crate::Error::NoRoom`]. If that is known beforehand, nothing is evicted. Else as for [`Self::prune`].
    pub fn make_room(&self, bytes: u64) -> Result<Pruned> {
        reserve::make_room(self.inner.get()?, bytes, reserve::PATIENCE)
    }

    /// Sets the maximum size, in bytes: of the directory and all its handles if it has a hard limit, else of this handle. A hard limit is
    /// kept, and images are evicted down to it. If images that cannot be evicted exceed it, nothing is cached until they are gone.
    ///
    /// # Errors
    /// When the limit could not be stored; see [`ImageCache`].
    pub fn set_max_size(&self, bytes: u64) -> Result<()> {
        let inner = self.inner.get()?;
        inner.set_limit(bytes)?;
        reserve::keep_limit(inner);
        Ok(())
    }

    /// What the cache takes up on the disk, and what bounds it. Without a hard limit, each image is stat'ed.
    pub fn usage(&self) -> Result<Usage> {
        let inner = self.inner.get()?;
        Ok(Usage { pinned: pin::allocated(inner)?, ..usage::count(inner)?.usage })
    }

    /// What the cache has, and what all processes have counted: hits, misses, commits, failures, evictions, and more.
    ///
    /// The counters of this handle and of closed handles are included; those of others as of their last write, at most a second before
    /// their last hit, query or commit. A process that is killed loses what it has counted since.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] when a newer version of this library has made the statistics; see [`ImageCache`].
    pub fn statistics(&self) -> Result<Statistics> {
        statistics::statistics(self.inner.get()?)
    }

    /// Verifies an image, or all of them (`None`): compares the bytes on the disk with the digests that were stored at the commits. Images
    /// that do not have theirs go to `invalid/`. Those that were verified longest ago come first, and calls of several processes share the
    /// work.
    ///
    /// `progress` is called with an image's id, the number of its bytes that are done, and its length: before the first byte, after each
    /// piece, and ten times a second while the rate is limited. It can stop the verification, and may use the cache.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for an image that is not cached; when the images cannot be listed; see [`ImageCache`]. Damaged and
    /// unreadable images are counted, and logged.
    pub fn verify(
        &self,
        image_id: Option<&str>,
        options: &VerifyOptions,
        mut progress: impl FnMut(&str, u64, u64) -> ControlFlow<()>,
    ) -> Result<Verified> {
        match image_id {
            Some(image_id) => self.with_id(image_id, |inner, id| verify(inner, Some(&id), options, &mut progress)),
            None => verify(self.inner.get()?, None, options, &mut progress),
        }
    }

    /// Empties `invalid/`, and removes incomplete files that were not written to for `stall_time` (`None`: the configured one). A live
    /// writer of such a file gets [`crate::Error::Lost`]. Returns how many files were removed.
    ///
    /// # Errors
    /// All files that can be removed are removed.
    pub fn clean(&self, stall_time: Option<Duration>) -> Result<u64> {
        let inner = self.inner.get()?;
        clean::clean(inner, stall_time.unwrap_or(inner.stall_time))
    }

    /// The state behind the handle. Fails in a forked child.
    pub(super) fn inner(&self) -> Result<&Arc<CacheInner>> {
        self.inner.get()
    }

    /// The one place where ids are validated.
    pub(super) fn with_id<T>(
        &self,
        image_id: &str,
        operation: impl FnOnce(&Arc<CacheInner>, ImageId) -> Result<T>,
    ) -> Result<T> {
        let inner = self.inner.get()?;
        operation(inner, inner.layout().image_id(image_id)?)
    }
}

impl Drop for ImageCache {
    fn drop(&mut self) {
        // Not in a forked child. The last handle flushes when the shared state is dropped.
        if let Ok(inner) = self.inner.get()
            && Arc::strong_count(inner) > 1
        {
            lifecycle::prepare_close(inner);
        }
    }
}

impl fmt::Debug for ImageCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ImageCache").field("driver", &self.driver).finish_non_exhaustive()
    }
}
