//! One thing after the other goes from a thread to another one, with room for one that waits.
//!
//! As a channel of the standard library's does, but for one thing: that one, when it waits, makes a handle of the thread that it
//! waits on, and keeps it for as long as the thread lives. On a host's main thread that is for ever.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The end that gives. No more comes once it is dropped.
pub(crate) struct Giver<T>(Arc<Shared<T>>);

/// The end that takes. Once it is dropped, what is given is dropped as well.
pub(crate) struct Taker<T>(Arc<Shared<T>>);

struct Shared<T> {
    place: Mutex<Place<T>>,
    changed: Condvar,
}

struct Place<T> {
    waiting: Option<T>,
    /// One of the two ends is gone.
    ended: bool,
}

pub(crate) fn hand_over<T>() -> (Giver<T>, Taker<T>) {
    let place = Mutex::new(Place { waiting: None, ended: false });
    let shared = Arc::new(Shared { place, changed: Condvar::new() });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

impl<T> Giver<T> {
    /// Waits until there is room. When it returns, the other end has taken all that came before.
    pub fn give(&self, thing: T) {
        let place = self.0.lock();
        let waited = self.0.changed.wait_while(place, |place| place.waiting.is_some() && !place.ended);
        let mut place = waited.unwrap_or_else(PoisonError::into_inner);
        if !place.ended {
            place.waiting = Some(thing);
            self.0.changed.notify_one();
        }
    }
}

impl<T> Taker<T> {
    /// Waits for the next one; `None` when no more comes.
    pub fn take(&self) -> Option<T> {
        let place = self.0.lock();
        let waited = self.0.changed.wait_while(place, |place| place.waiting.is_none() && !place.ended);
        let taken = waited.unwrap_or_else(PoisonError::into_inner).waiting.take();
        self.0.changed.notify_one();
        taken
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Place<T>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}
