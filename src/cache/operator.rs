//! Who has what: the part of the public API that operators' tools need, and agents as a rule do not.

use crate::cache::handle::ImageCache;
use crate::cache::query::{is_cached, not_found};
use crate::error::Result;
use crate::store::in_use;
use crate::store::pins::Pins;

/// A pin of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Who has it pinned: any bytes.
    pub holder: Vec<u8>,
    /// Until when: nanoseconds since the Unix epoch. [`i64::MAX`]: for as long as the process lives, or beyond 2262.
    pub until: i64,
    /// The process that the pin lasts as long as; `None` for a pin with a time.
    pub process: Option<u32>,
}

#[allow(clippy::missing_errors_doc, reason = "the errors of every method are those of the type")]
impl ImageCache {
    /// Who has an image pinned, in no order; nobody if it is not cached. Damaged pins, which a clean removes, are only logged.
    ///
    /// # Errors
    /// When this process may not read the pins; and see [`ImageCache`].
    pub fn pins(&self, image_id: &str) -> Result<Vec<Pin>> {
        self.with_id(image_id, |inner, id| match Pins::open(inner.layout(), inner.log())? {
            Some(pins) if is_cached(inner, &id)? => {
                let lock = inner.lock.acquire_to_query()?;
                let pins = pins.of(&id);
                drop(lock);
                Ok(pins?.into_pins().map(|(holder, until, process)| Pin { holder, until, process }).collect())
            }
            _ => Ok(Vec::new()),
        })
    }

    /// Whether anybody has a cached image open now, so that a prune would leave it: a reader or stream of any process, or another program.
    /// Where that is unknown, for example for another user's image, the answer is false.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], and see [`ImageCache`].
    pub fn is_in_use(&self, image_id: &str) -> Result<bool> {
        self.with_id(image_id, |inner, id| {
            if !is_cached(inner, &id)? {
                return Err(not_found(inner, &id));
            }
            let lock = inner.lock.acquire_to_query()?;
            Ok(in_use::is_in_use(inner.layout(), &lock, &id))
        })
    }

    /// Whether no other handle of the directory is open, in any process. One may be opened at once after the call. False for a handle that
    /// may not write.
    pub fn is_only_handle(&self) -> Result<bool> {
        let inner = self.inner()?;
        let lock = inner.lock.acquire_to_query()?;
        let is_only = lock.is_only_handle();
        // The question makes the handle's lock exclusive.
        inner.lock.acquire_open(&lock)?;
        is_only
    }
}
