//! The queue of images to be cached, and the work on it.
//!
//! The queue is a folder of empty files. Being cached takes an image off it (see `incomplete`), so that a prefetcher that
//! dies, or whose fetch fails, leaves its image queued. Prefetchers share the queue by becoming an image's writer: there
//! is only one.

use std::sync::Arc;

use crate::core::cache::QueuedImage;
use crate::core::image_id::ImageId;
use crate::core::incomplete::is_left_by_a_dead_writer;
use crate::core::layout::{Place, Standing};
use crate::core::log::Missed;
use crate::core::shared::Shared;
use crate::core::writer::Writer;
use crate::error::{Error, Result};
use crate::system::time::Timestamp;

/// What a prefetch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefetched {
    /// How many images it fetched and cached.
    pub fetched: u64,
    /// How many failed, and stay queued.
    pub failed: u64,
}

impl Shared {
    /// Puts an image at the end of the queue; false when it is queued, cached or being cached, or its name is taken.
    pub fn enqueue(&self, image_id: &str) -> Result<bool> {
        let id = self.image_id(image_id)?;
        let gate = self.gate.acquire()?;
        let is_free = self.is_cacheable(&id)? || is_left_by_a_dead_writer(self, &gate, &id)?;
        Ok(is_free && self.layout.enqueue(&gate, &id)?)
    }

    /// Whether the image is neither cached nor being cached, and nothing else has its name.
    pub fn is_cacheable(&self, id: &ImageId) -> Result<bool> {
        let is_free = |place| Ok(matches!(self.layout.examine(place, id)?, Standing::Nothing));
        // In this order: a writer that commits in between moves its file from the first to the second.
        Ok(is_free(Place::Incomplete)? && is_free(Place::Cached)?)
    }

    /// Whether the image is queued. One that is cached is not, whatever a writer that died left behind.
    pub fn is_queued(&self, id: &ImageId) -> Result<bool> {
        Ok(self.layout.has(Place::Queue, id)? && !self.layout.has(Place::Cached, id)?)
    }

    /// The queued images, oldest first.
    pub fn queued(&self) -> Result<Vec<QueuedImage>> {
        let mut images = Vec::new();
        for (id, queued) in self.queue()?.0 {
            if !self.layout.has(Place::Cached, &id)? {
                images.push(QueuedImage { image_id: id.to_string(), queued: queued.as_nanoseconds() });
            }
        }
        Ok(images)
    }

    /// What is in the queue's folder, oldest first, and how many could not be examined. One that is cached may be left there
    /// by a writer that died.
    fn queue(&self) -> Result<(Vec<(ImageId, Timestamp)>, u64)> {
        let mut missed = Missed::new(&self.log);
        let images = self.layout.images(Place::Queue)?;
        let mut queue: Vec<_> = images.filter_map(|(id, facts)| Some((id, missed.note(facts)?.modified))).collect();
        queue.sort_unstable_by(|(id, queued), (other_id, other)| (queued, id).cmp(&(other, other_id)));
        Ok((queue, missed.count()))
    }

    /// Takes an image off the queue; false when it was not queued.
    pub fn dequeue(&self, id: &ImageId) -> Result<bool> {
        self.layout.remove(&self.gate.acquire()?, Place::Queue, id)
    }

    /// Empties the queue; how many images were in it.
    pub fn dequeue_all(&self) -> Result<u64> {
        let mut missed = Missed::new(&self.log);
        let mut deleted = 0;
        for (id, _) in self.layout.images(Place::Queue)? {
            deleted += u64::from(missed.note(self.dequeue(&id)).unwrap_or(false));
        }
        missed.outcome(deleted)
    }

    /// Fetches each image that is queued now, oldest first.
    pub fn prefetch(self: &Arc<Self>, mut fetch: impl FnMut(&str, &mut Writer) -> Result<()>) -> Result<Prefetched> {
        let (queue, missed) = self.queue()?;
        let mut done = Prefetched { fetched: 0, failed: missed };
        for (id, _) in queue {
            match self.prefetch_image(&id, &mut fetch) {
                Ok(fetched) => done.fetched += u64::from(fetched),
                Err(error) => {
                    self.log.warning(|| format!("prefetching image '{id}' failed: {error}"));
                    done.failed += 1;
                }
            }
        }
        Ok(done)
    }

    /// Fetches one image; false when somebody else does or did, or took it off the queue.
    fn prefetch_image(
        self: &Arc<Self>,
        id: &ImageId,
        fetch: &mut impl FnMut(&str, &mut Writer) -> Result<()>,
    ) -> Result<bool> {
        let mut writer = match Writer::begin(self, id.as_str()) {
            Ok(writer) => writer,
            Err(Error::AlreadyCached(_)) => {
                let gate = self.gate.acquire()?;
                if self.layout.has(Place::Cached, id)? {
                    self.layout.remove(&gate, Place::Queue, id)?;
                }
                return Ok(false);
            }
            Err(Error::BeingCached(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        // Since the queue was listed, another prefetcher may have cached the image, and somebody deleted it again.
        if matches!(self.layout.examine(Place::Queue, id)?, Standing::Nothing) {
            writer.discard();
            return Ok(false);
        }
        match fetch(id.as_str(), &mut writer) {
            Ok(()) => writer.commit().map(|()| true),
            Err(error) => {
                writer.abort(&error.to_string());
                Err(error)
            }
        }
    }
}
