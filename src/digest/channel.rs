//! A bounded channel with room for one value.
//!
//! `std::sync::mpsc::sync_channel(1)` would do the same. But a thread that waits in it gets a `Thread` handle. Other threads of the
//! host free theirs when they end (20 threads: no byte more). The main thread does not: 48 bytes, which valgrind 3.19 reports as
//! possibly lost, and which fail `valgrind.host` and every such check of a host. Measured with Rust 1.95 after 12 MiB.
//! The handle also needs memory, which a hashing thread must not.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The sending end. Dropping it closes the channel.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiving end. After it is dropped, what is sent is dropped as well.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    value: Option<T>,
    /// One of the two ends is dropped.
    closed: bool,
}

pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { value: None, closed: false });
    let shared = Arc::new(Shared { state, changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Waits for room. When it returns, the receiver has taken all values before this one.
    pub fn send(&self, value: T) {
        let state = self.0.lock();
        let waited = self.0.changed.wait_while(state, |state| state.value.is_some() && !state.closed);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.value = Some(value);
            self.0.changed.notify_one();
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for the next value; `None` after the last one.
    pub fn receive(&self) -> Option<T> {
        let state = self.0.lock();
        let waited = self.0.changed.wait_while(state, |state| state.value.is_none() && !state.closed);
        let received = waited.unwrap_or_else(PoisonError::into_inner).value.take();
        self.0.changed.notify_one();
        received
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
