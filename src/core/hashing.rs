//! The digests of a stream of bytes: of a short one on the caller's thread, of a long one on a thread for each algorithm.
//!
//! A hash is slower than a memory, and often slower than a disk. On threads of their own all hashes and the writing go on at the
//! same time, and the image takes as long as the slowest of them. The bytes are copied into batches, which all threads share;
//! a thread that falls behind is waited for, so that there are never more than three batches: the one that is filled, the one
//! that waits, and the one that is hashed. No thread outlives its [`Hashing`].

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread::JoinHandle;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use fast_md5::Md5;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

use crate::core::digest::Algorithm;
use crate::core::hand_over::{Giver, hand_over};
use crate::error::{Error, Result};
use crate::system::background;

/// How many bytes are hashed where they come in: for fewer than these, a thread would cost more than it brings.
const INLINE: u64 = 4 << 20;

/// How many bytes a thread is handed at a time.
const BATCH: usize = 1 << 20;

type Batch = Arc<Vec<u8>>;

/// Splits what came in one call, so that one part can be written while the one before it is hashed. Nothing is one part, too.
pub(crate) fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.chunks(BATCH).chain(data.is_empty().then_some(data))
}

/// Hashes one stream with some algorithms.
#[derive(Default)]
pub(crate) struct Hashing {
    workers: Vec<(Algorithm, Worker)>,
    received: u64,
    is_threaded: bool,
    /// What the threads get next.
    filling: Batch,
    /// What they got last, and before that.
    handed_over: [Batch; 2],
}

impl Hashing {
    /// Hashes with one more algorithm. Before the first bytes.
    pub fn add(&mut self, algorithm: Algorithm) {
        self.workers.push((algorithm, Worker::Inline(Box::new(Hasher::new(algorithm)))));
    }

    /// Takes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        if self.workers.is_empty() {
            return;
        }
        let left = usize::try_from(INLINE.saturating_sub(self.received)).unwrap_or(usize::MAX);
        let (first, rest) = data.split_at(left.min(data.len()));
        self.received += data.len() as u64;
        self.hash_inline(first);
        if !rest.is_empty() {
            self.start_threads(usize::MAX);
            self.hash_inline(rest);
            self.hash_on_threads(rest);
        }
    }

    /// The digests of all bytes, in hexadecimal digits.
    pub fn finish(&mut self) -> Result<Vec<(Algorithm, String)>> {
        if !self.filling.is_empty() {
            self.hand_over();
        }
        let digest = |(algorithm, hasher): (Algorithm, Option<Box<Hasher>>)| match hasher {
            Some(hasher) => Ok((algorithm, hasher.finish())),
            None => Err(Error::Internal(format!("hashing with {} ended before the bytes did", algorithm.name()))),
        };
        self.end().into_iter().map(digest).collect()
    }

    /// Ends the threads. Nobody needs the digests any more.
    pub fn stop(&mut self) {
        self.end();
    }

    fn hash_inline(&mut self, data: &[u8]) {
        for (_, worker) in &mut self.workers {
            if let Worker::Inline(hasher) = worker {
                hasher.update(data);
            }
        }
    }

    fn hash_on_threads(&mut self, mut data: &[u8]) {
        while !data.is_empty() && self.workers.iter().any(|(_, worker)| worker.is_threaded()) {
            let filling = Arc::make_mut(&mut self.filling);
            filling.reserve_exact(BATCH - filling.len());
            let (next, rest) = data.split_at(data.len().min(BATCH - filling.len()));
            filling.extend_from_slice(next);
            data = rest;
            if filling.len() == BATCH {
                self.hand_over();
            }
        }
    }

    /// Once. An algorithm whose thread cannot be started goes on as before, and so do those beyond the `most`.
    fn start_threads(&mut self, most: usize) {
        if std::mem::replace(&mut self.is_threaded, true) {
            return;
        }
        let workers = std::mem::take(&mut self.workers).into_iter().enumerate();
        let moved = workers.map(|(number, (algorithm, worker))| {
            (algorithm, if number < most { worker.on_a_thread(algorithm) } else { worker })
        });
        self.workers = moved.collect();
    }

    /// Hands the batch over, and takes the oldest one back. That one is free again: a thread hashes one and has room for one more
    /// to wait, and now the new one waits.
    fn hand_over(&mut self) {
        for (_, worker) in &self.workers {
            if let Worker::Threaded { batches: Some(batches), .. } = worker {
                // Should the thread have ended, `finish` finds out.
                batches.give(Arc::clone(&self.filling));
            }
        }
        let [last, oldest] = &mut self.handed_over;
        std::mem::swap(last, oldest);
        std::mem::swap(last, &mut self.filling);
        Arc::make_mut(&mut self.filling).clear();
    }

    /// Ends the threads, once they have hashed what they were handed; what there is of each algorithm.
    fn end(&mut self) -> Vec<(Algorithm, Option<Box<Hasher>>)> {
        // All are told before the first is waited for.
        for (_, worker) in &mut self.workers {
            if let Worker::Threaded { batches, .. } = worker {
                *batches = None;
            }
        }
        self.workers.drain(..).map(|(algorithm, worker)| (algorithm, worker.into_hasher())).collect()
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Who hashes with one algorithm.
enum Worker {
    Inline(Box<Hasher>),
    Threaded {
        /// `None` once there are no more.
        batches: Option<Giver<Batch>>,
        thread: JoinHandle<Option<Box<Hasher>>>,
    },
}

impl Worker {
    fn is_threaded(&self) -> bool {
        matches!(self, Self::Threaded { .. })
    }

    /// Moves to a thread, if one can be started.
    fn on_a_thread(self, algorithm: Algorithm) -> Self {
        let Self::Inline(hasher) = self else { return self };
        // The hasher follows when the thread is there: what a thread that cannot be started was given would be lost.
        let (first, taken) = hand_over::<Box<Hasher>>();
        let (giver, batches) = hand_over::<Batch>();
        let started = background::start(format!("image-{}", algorithm.name()), move || {
            let mut hasher = taken.take()?;
            while let Some(batch) = batches.take() {
                hasher.update(&batch);
            }
            Some(hasher)
        });
        let Ok(thread) = started else { return Self::Inline(hasher) };
        // The thread waits for it, so that it arrives.
        first.give(hasher);
        Self::Threaded { batches: Some(giver), thread }
    }

    /// Waits for the thread, which has no more batches to come; `None` when it did not get to its end.
    fn into_hasher(self) -> Option<Box<Hasher>> {
        match self {
            Self::Inline(hasher) => Some(hasher),
            Self::Threaded { batches, thread } => {
                drop(batches);
                thread.join().ok().flatten()
            }
        }
    }
}

enum Hasher {
    Md5(Md5),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(data),
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Md5(hasher) => to_hex(&hasher.finalize()),
            Self::Sha256(hasher) => to_hex(&hasher.finalize()),
            Self::Sha512(hasher) => to_hex(&hasher.finalize()),
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512];

    /// The digests in one go, MD5's by another implementation.
    fn reference(data: &[u8]) -> Vec<(Algorithm, String)> {
        let digests = [to_hex(&md5::Md5::digest(data)), to_hex(&Sha256::digest(data)), to_hex(&Sha512::digest(data))];
        ALL.into_iter().zip(digests).collect()
    }

    fn of_all_algorithms() -> Hashing {
        let mut hashing = Hashing::default();
        for algorithm in ALL {
            hashing.add(algorithm);
        }
        hashing
    }

    fn hash(data: &[u8], mut splits: impl FnMut(usize) -> usize) -> Vec<(Algorithm, String)> {
        let mut hashing = of_all_algorithms();
        let mut rest = data;
        while !rest.is_empty() {
            let (next, others) = rest.split_at(splits(rest.len()).clamp(1, rest.len()));
            hashing.update(next);
            rest = others;
        }
        hashing.finish().unwrap()
    }

    fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    }

    proptest! {
        #[test]
        fn short_streams_have_the_digests_of_another_implementation(seed: u64, length in 0_usize..3000) {
            let data = bytes(seed, length);
            let mut random = fastrand::Rng::with_seed(seed);
            prop_assert_eq!(hash(&data, |_| random.usize(1..300)), reference(&data));
        }
    }

    #[test]
    fn long_streams_have_them_too_wherever_they_are_split() {
        let inline = usize::try_from(INLINE).unwrap();
        for beyond in [0, 1, BATCH, 5 * BATCH + 17] {
            let data = bytes(beyond as u64, inline + beyond);
            let mut random = fastrand::Rng::with_seed(beyond as u64);
            let expected = reference(&data);
            assert_eq!(hash(&data, |_| random.usize(1..3 * BATCH)), expected, "{beyond}");
            assert_eq!(hash(&data, |left| left), expected, "{beyond}");
        }
    }

    #[test]
    fn three_batches_are_enough() {
        let mut hashing = of_all_algorithms();
        let half = vec![7; BATCH / 2];
        hashing.update(&vec![0; usize::try_from(INLINE).unwrap()]);
        let mut buffers = std::collections::BTreeSet::new();
        for _ in 0..20 {
            hashing.update(&half);
            buffers.insert(hashing.filling.as_ptr().addr());
            hashing.update(&half);
        }
        assert_eq!(buffers.len(), 3);
    }

    #[test]
    fn an_algorithm_without_a_thread_goes_on_inline_beside_one_that_has_one() {
        let data = bytes(7, usize::try_from(INLINE).unwrap() + 2 * BATCH + 7);
        let (inline, rest) = data.split_at(usize::try_from(INLINE).unwrap());
        for threads in 0..ALL.len() {
            let mut hashing = of_all_algorithms();
            hashing.update(inline);
            hashing.start_threads(threads);
            hashing.update(rest);
            assert_eq!(hashing.workers.iter().filter(|(_, worker)| worker.is_threaded()).count(), threads);
            assert_eq!(hashing.finish().unwrap(), reference(&data));
        }
    }

    #[test]
    fn dropping_it_in_the_midst_ends_its_threads() {
        let mut hashing = Hashing::default();
        hashing.add(Algorithm::Md5);
        hashing.update(&vec![1; usize::try_from(INLINE).unwrap() + 2 * BATCH]);
        let last = Arc::downgrade(&hashing.handed_over[0]);
        assert!(last.upgrade().is_some());
        drop(hashing);
        assert!(last.upgrade().is_none(), "a thread still has it");
    }
}
