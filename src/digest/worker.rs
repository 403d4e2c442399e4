//! Where one algorithm of a [`super::hasher::Hasher`] is computed: on the caller's thread, or on one of its own.

use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::algorithm::Algorithm;
use crate::digest::channel::{Receiver, Sender, channel};
use crate::digest::state::{HashState, SAVED};
use crate::sys::thread::{self, Thread};

pub(super) type Batch = Arc<Vec<u8>>;

/// How far a thread is: how many bytes of the stream are hashed, and the saved state.
type Reached = Arc<Mutex<(u64, [u8; SAVED])>>;

pub(super) enum Worker {
    Inline {
        state: Box<HashState>,
        /// For a thread. It is made early, because it needs memory; `None` after no thread could be started.
        thread: Option<ForThread>,
    },
    Threaded {
        /// `None` after the last batch.
        batches: Option<Sender<Batch>>,
        thread: Thread<Job, Box<HashState>>,
        reached: Reached,
    },
    /// Its thread ended early.
    Failed,
}

/// What a thread shares with the caller.
pub(super) struct ForThread {
    channel: (Sender<Batch>, Receiver<Batch>),
    reached: Reached,
}

/// What a thread gets. Dropping it, also by a panic, closes the channel, so that nobody waits for the thread to receive.
pub(super) struct Job {
    state: Box<HashState>,
    batches: Receiver<Batch>,
    reached: Reached,
}

impl Job {
    /// Hashes all batches, on the thread. It neither allocates nor panics.
    fn run(self) -> Box<HashState> {
        let Self { mut state, batches, reached } = self;
        while let Some(batch) = batches.receive() {
            state.update(&batch);
            let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
            *reached = (reached.0 + batch.len() as u64, state.save());
        }
        state
    }
}

/// The name of the thread that computes it.
fn thread_name(algorithm: Algorithm) -> &'static CStr {
    match algorithm {
        Algorithm::Crc64Nvme => c"image-crc64nvme",
        Algorithm::Md5 => c"image-md5",
        Algorithm::Sha256 => c"image-sha256",
        Algorithm::Sha512 => c"image-sha512",
    }
}

impl Worker {
    pub fn new(state: HashState) -> Self {
        let thread = ForThread { channel: channel(), reached: Reached::new(Mutex::new((0, [0; SAVED]))) };
        Self::Inline { state: Box::new(state), thread: Some(thread) }
    }

    pub fn is_threaded(&self) -> bool {
        matches!(self, Self::Threaded { .. })
    }

    /// Hashes the next bytes, if it has no thread.
    pub fn update(&mut self, data: &[u8]) {
        if let Self::Inline { state, .. } = self {
            state.update(data);
        }
    }

    /// The same, of zeros.
    pub fn update_zeros(&mut self, length: u64) {
        if let Self::Inline { state, .. } = self {
            state.update_zeros(length);
        }
    }

    /// Has its thread hash a batch. If the thread has ended, [`Self::into_state`] shows it.
    pub fn send(&self, batch: &Batch) {
        if let Self::Threaded { batches: Some(batches), .. } = self {
            batches.send(Arc::clone(batch));
        }
    }

    /// The thread gets no more batches.
    pub fn close(&mut self) {
        if let Self::Threaded { batches, .. } = self {
            *batches = None;
        }
    }

    /// How many bytes are hashed, and the saved state then. `received`: how many bytes the hasher got.
    pub fn reached(&self, received: u64) -> Option<(u64, [u8; SAVED])> {
        match self {
            Self::Inline { state, .. } => Some((received, state.save())),
            Self::Threaded { reached, .. } => Some(*reached.lock().unwrap_or_else(PoisonError::into_inner)),
            Self::Failed => None,
        }
    }

    /// Moves to a thread, if one can be started. `hashed`: how many bytes of the stream are hashed.
    pub fn on_a_thread(self, algorithm: Algorithm, hashed: u64) -> Self {
        let Self::Inline { state, thread: Some(ForThread { channel: (sender, batches), reached }) } = self else {
            return self;
        };
        *reached.lock().unwrap_or_else(PoisonError::into_inner) = (hashed, state.save());
        let job = Job { state, batches, reached: Arc::clone(&reached) };
        match thread::start(thread_name(algorithm), job, Job::run) {
            Ok(thread) => Self::Threaded { batches: Some(sender), thread, reached },
            Err(Job { state, .. }) => Self::Inline { state, thread: None },
        }
    }

    /// The final state. Waits for the thread; `None` when it ended early.
    pub fn into_state(self) -> Option<Box<HashState>> {
        match self {
            Self::Inline { state, .. } => Some(state),
            Self::Failed => None,
            Self::Threaded { batches, thread, .. } => {
                drop(batches);
                thread.join()
            }
        }
    }
}
