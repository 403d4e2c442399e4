//! The cache's handle: every operation on it, in the safe Rust API.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::core::image_id::ImageId;
use crate::core::layout::Place;
use crate::core::options::Options;
use crate::core::prune::Pruned;
use crate::core::queue::Prefetched;
use crate::core::reader::{self, Reader};
use crate::core::shared::Shared;
use crate::core::tee::Tee;
use crate::core::writer::Writer;
use crate::driver::{DriverKind, Listing};
use crate::error::Result;
use crate::system::process_bound::ProcessBound;

/// An image in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedImage {
    /// Its id.
    pub image_id: String,
    /// When it was queued: nanoseconds since the Unix epoch.
    pub queued: i64,
}

/// A local cache of images in one directory.
///
/// Any number of handles, in any number of processes of the host, may be open on the same directory. A handle may be used
/// from many threads at once. Dropping it is safe while readers, writers and tees of it live.
///
/// Every method that takes an `image_id` returns [`crate::Error::InvalidImageId`] when the text cannot name an image: ids
/// are 1 to 255 bytes of UTF-8 without `/` and control characters, do not begin with a dot, and are not the names of the
/// cache's own files. After `fork`, every method in the child returns [`crate::Error::Forked`]. Failed system calls are
/// [`crate::Error::System`], a failed index is [`crate::Error::Index`].
pub struct ImageCache {
    shared: ProcessBound<Arc<Shared>>,
    driver: DriverKind,
}

impl ImageCache {
    /// Opens the cache in `directory`, which is created, with its folders, when it is not there (its parent is not).
    /// A directory that Glance filled can be opened in place. What a crash left behind is repaired. A directory that may not
    /// be written to is opened for reading.
    ///
    /// # Errors
    /// [`crate::Error::System`] when the directory or a folder cannot be created or opened (a symbolic link in place of
    /// a folder is refused), or images that were not synced before the host restarted cannot be removed;
    /// [`crate::Error::Index`] when the index is locked by another program, or is no file,
    /// [`crate::Error::Unsupported`] when the chosen driver does not work on this file system, or the index was made by
    /// a newer version of this library, [`crate::Error::OpenAcrossFork`] when the process that forked this one had the cache
    /// open with the SQLite driver.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self> {
        let shared = Arc::new(Shared::open(directory.as_ref(), options)?);
        let driver = shared.driver.kind();
        Ok(Self { shared: ProcessBound::new(shared), driver })
    }

    /// The driver in use.
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Whether the image is cached.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn is_cached(&self, image_id: &str) -> Result<bool> {
        self.has(Place::Cached, image_id)
    }

    /// Whether a file of the image stands in `incomplete/`, its writer alive or not.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn is_being_cached(&self, image_id: &str) -> Result<bool> {
        self.has(Place::Incomplete, image_id)
    }

    /// Whether the image is queued.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn is_queued(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, Shared::is_queued)
    }

    /// Whether the image is neither cached nor being cached, and nothing else (a folder, say) has its name.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn is_cacheable(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, Shared::is_cacheable)
    }

    /// The size of all cached images, in bytes.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn cache_size(&self) -> Result<u64> {
        self.shared.get()?.size()
    }

    /// The length of a cached image, in bytes.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and see [`ImageCache`].
    pub fn image_size(&self, image_id: &str) -> Result<u64> {
        self.with_id(image_id, |shared, id| match shared.layout.examine(Place::Cached, id)?.image() {
            Some(facts) => Ok(facts.size),
            None => Err(reader::not_found(shared, id)),
        })
    }

    /// How often the image was read since it was cached; 0 when it is not cached. All hits of this handle are counted, and of
    /// handles that were closed. Others write the first few hits in each second at once, and collect the rest in memory until
    /// they are asked for hits, a list or a prune, are closed, or something is read through them a second later.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn hit_count(&self, image_id: &str) -> Result<u64> {
        self.with_id(image_id, |shared, id| {
            // The hits of one image can be told even where the index cannot be put right now.
            let gate = shared.enter_settled().or_else(|error| {
                shared.log.warning(|| format!("{error}; the index is put right later"));
                shared.gate.acquire()
            })?;
            shared.tell_uses(&gate);
            shared.ask_under(&gate, |gate| {
                if shared.layout.has(Place::Cached, id)? { shared.driver.hits(gate, id) } else { Ok(0) }
            })
        })
    }

    /// All cached images, by id: a snapshot, which needs the cache no more. Hits and last use are as [`Self::hit_count`] says.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn list_cached(&self) -> Result<Listing> {
        let shared = self.shared.get()?;
        shared.ask(|gate| {
            shared.tell_uses(gate);
            shared.driver.list(gate)
        })
    }

    /// All queued images, oldest first: a snapshot.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn list_queued(&self) -> Result<Vec<QueuedImage>> {
        self.shared.get()?.queued()
    }

    /// Begins to cache an image, and becomes its only writer.
    ///
    /// # Errors
    /// [`crate::Error::AlreadyCached`]; [`crate::Error::BeingCached`] while another live writer, in any process of the host,
    /// has the image and has not stalled; and see [`ImageCache`].
    pub fn begin_write(&self, image_id: &str) -> Result<Writer> {
        Writer::begin(self.shared.get()?, image_id)
    }

    /// Opens a cached image. Opening counts as use, closing counts a hit.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and see [`ImageCache`].
    pub fn open_for_read(&self, image_id: &str) -> Result<Reader> {
        Reader::open(self.shared.get()?, image_id)
    }

    /// Hands on what `source` gives, and caches it on the way.
    ///
    /// # Errors
    /// For a bad id and in a forked child only.
    pub fn tee<S: Read>(&self, image_id: &str, source: S) -> Result<Tee<S>> {
        Tee::open(self.shared.get()?, image_id, source)
    }

    /// Puts an image at the end of the queue; false when it is queued, cached, or being cached by a live writer.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn queue_image(&self, image_id: &str) -> Result<bool> {
        self.shared.get()?.enqueue(image_id)
    }

    /// Takes an image off the queue; one that is not queued is no error.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn delete_queued_image(&self, image_id: &str) -> Result<()> {
        self.with_id(image_id, |shared, id| shared.dequeue(id).map(drop))
    }

    /// Empties the queue; how many images were in it.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn delete_all_queued_images(&self) -> Result<u64> {
        self.shared.get()?.dequeue_all()
    }

    /// Fetches each queued image, oldest first: `fetch` is called with its id and a writer. When it returns `Ok` the image
    /// is committed. One that fails stays queued, and the others are fetched all the same. Many threads and processes
    /// may prefetch at once: each image is fetched by one of them.
    ///
    /// # Errors
    /// When the queue cannot be listed; see [`ImageCache`]. Failed fetches are counted, and logged.
    pub fn prefetch(&self, fetch: impl FnMut(&str, &mut Writer) -> Result<()>) -> Result<Prefetched> {
        self.shared.get()?.prefetch(fetch)
    }

    /// Deletes a cached image; one that is not cached is no error. Its readers keep its bytes.
    ///
    /// # Errors
    /// See [`ImageCache`].
    pub fn delete_cached_image(&self, image_id: &str) -> Result<()> {
        self.shared.get()?.delete_cached(image_id)
    }

    /// Deletes all cached images; how many there were.
    ///
    /// # Errors
    /// See [`ImageCache`]. What can be deleted is deleted even so.
    pub fn delete_all_cached_images(&self) -> Result<u64> {
        self.shared.get()?.delete_all_cached()
    }

    /// Deletes the least recently accessed images until the cache has at most its maximal size.
    ///
    /// # Errors
    /// When the limit could not be reached, or images could not be examined; see [`ImageCache`].
    pub fn prune(&self) -> Result<Pruned> {
        self.shared.get()?.prune()
    }

    /// Empties `invalid/`, and removes incomplete files to which nothing was written for `stall_time` (`None`: the configured
    /// one), whose writers, if they live, get [`crate::Error::Lost`]. How many files were removed.
    ///
    /// # Errors
    /// See [`ImageCache`]. What can be removed is removed even so.
    pub fn clean(&self, stall_time: Option<Duration>) -> Result<u64> {
        let shared = self.shared.get()?;
        shared.clean(stall_time.unwrap_or(shared.stall_time))
    }

    fn has(&self, place: Place, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |shared, id| shared.layout.has(place, id))
    }

    fn with_id<T>(&self, image_id: &str, operation: impl FnOnce(&Shared, &ImageId) -> Result<T>) -> Result<T> {
        let shared = self.shared.get()?;
        operation(shared, &shared.image_id(image_id)?)
    }
}

impl Drop for ImageCache {
    fn drop(&mut self) {
        // Not in a forked child. The last one writes everything as it ends.
        if let Ok(shared) = self.shared.get()
            && Arc::strong_count(shared) > 1
        {
            shared.let_go();
        }
    }
}

impl fmt::Debug for ImageCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ImageCache").field("driver", &self.driver).finish_non_exhaustive()
    }
}
