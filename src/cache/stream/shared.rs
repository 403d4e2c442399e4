//! What the streams of one handle share: for each image one room, or one writer's file that they follow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cache::stream::follow::FollowedFile;
use crate::cache::stream::room::Room;
use crate::store::image_id::ImageId;

/// Values by image, as long as somebody uses them.
#[derive(Debug)]
pub(crate) struct ByImage<T>(Mutex<HashMap<ImageId, Weak<T>>>);

impl<T> Default for ByImage<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> ByImage<T> {
    pub fn find(&self, id: &ImageId) -> Option<Arc<T>> {
        self.values().get(id)?.upgrade()
    }

    pub fn insert(&self, id: &ImageId, value: T) -> Arc<T> {
        let value = Arc::new(value);
        let mut values = self.values();
        values.retain(|_, value| value.strong_count() > 0);
        values.insert(id.clone(), Arc::downgrade(&value));
        value
    }

    fn values(&self) -> MutexGuard<'_, HashMap<ImageId, Weak<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The streams of one handle.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub rooms: ByImage<Room>,
    pub followed: ByImage<FollowedFile>,
}
