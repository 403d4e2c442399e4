//! Hashes a stream of bytes with several algorithms: a short stream on the caller's thread, a long one on a thread for each. A CRC
//! is faster than the copy for a thread, so it stays on the caller's thread if it is the only algorithm.
//!
//! A hash is slower than memory, and often slower than a disk. With a thread for each algorithm, hasher and writing overlap, and
//! an image takes as long as the slowest of them. Bytes are copied into batches that all threads share. The caller waits for a
//! thread that falls behind, so there are at most three batches: one being filled, one waiting, one being hashed. Without memory
//! for a batch or for a thread, the rest of the stream is hashed on the caller's thread. State that needs memory is allocated
//! before the first bytes. No thread outlives its [`Hasher`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::digest::algorithm::Algorithm;
use crate::digest::state::{HashState, SAVED, in_parts};
use crate::digest::worker::{Batch, Worker};
use crate::error::{Error, Result};
use crate::sys::lock::poll;

/// Streams up to this length, in bytes, are hashed on the caller's thread: starting a thread would cost more.
const INLINE: u64 = 4 << 20;

/// How many bytes a thread receives at a time.
const BATCH: usize = 1 << 20;

/// Splits a chunk that begins at an offset, so that one part can be written while the one before it is hashed. Parts end at multiples of
/// their length. An empty chunk is one part.
pub(crate) fn parts(offset: u64, data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let before = usize::try_from(offset % BATCH as u64).unwrap_or(0);
    let (first, rest) = data.split_at((BATCH - before).min(data.len()));
    std::iter::once(first).chain(rest.chunks(BATCH))
}

/// Three batches take less with any algorithm.
const SLOWEST: Duration = Duration::from_secs(5);

/// What another hasher goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SavedHash {
    /// So many of the stream's first bytes are hashed.
    pub hashed: u64,
    pub states: Vec<(Algorithm, [u8; SAVED])>,
}

/// Hashes one stream.
#[derive(Default)]
pub(crate) struct Hasher {
    workers: Vec<(Algorithm, Worker)>,
    received: u64,
    is_threaded: bool,
    /// The batch that the threads get next.
    filling: Batch,
    /// The two batches that they got last.
    sent: [Batch; 2],
}

impl Hasher {
    /// Adds an algorithm, before the first bytes.
    pub fn add(&mut self, algorithm: Algorithm) {
        self.workers.push((algorithm, Worker::new(HashState::new(algorithm))));
    }

    /// Goes on where another hasher was; `None` when one of its states is damaged.
    pub fn resume(saved: &SavedHash) -> Option<Self> {
        let mut hasher = Self::default();
        hasher.received = saved.hashed;
        for (algorithm, state) in &saved.states {
            hasher.workers.push((*algorithm, Worker::new(HashState::restore(*algorithm, state)?)));
        }
        Some(hasher)
    }

    /// What all algorithms have hashed by now, up to three batches less than they got; `None` while they differ, or after the end.
    pub fn save(&self) -> Option<SavedHash> {
        let reached = |(algorithm, worker): &(Algorithm, Worker)| {
            worker.reached(self.received).map(|(hashed, state)| (hashed, (*algorithm, state)))
        };
        let (all, states): (Vec<_>, Vec<_>) = self.workers.iter().map(reached).collect::<Option<_>>()?;
        let hashed = *all.first()?;
        all.iter().all(|other| *other == hashed).then_some(SavedHash { hashed, states })
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        if self.workers.is_empty() {
            return;
        }
        let left = usize::try_from(INLINE.saturating_sub(self.received)).unwrap_or(usize::MAX);
        let (first, rest) = data.split_at(left.min(data.len()));
        self.hash_inline(first);
        self.received += first.len() as u64;
        if !rest.is_empty() {
            self.start_threads(usize::MAX);
            self.hash_inline(rest);
            self.hash_on_threads(rest);
            self.received += rest.len() as u64;
        }
    }

    /// Hashes zeros. That takes as long as for other bytes, unless the hasher [`Self::is_fast`].
    pub fn update_zeros(&mut self, length: u64) {
        if !self.is_fast() {
            return in_parts(length, |zeros| self.update(zeros));
        }
        for (_, worker) in &mut self.workers {
            worker.update_zeros(length);
        }
        self.received += length;
    }

    /// Whether zeros take no time: nothing is computed, or a CRC alone.
    pub fn is_fast(&self) -> bool {
        self.workers.iter().all(|(algorithm, _)| algorithm.is_fast())
    }

    /// The digests of all bytes, in hexadecimal digits.
    pub fn finish(&mut self) -> Result<Vec<(Algorithm, String)>> {
        if !self.filling.is_empty() {
            self.send_batch();
        }
        let digest = |(algorithm, state): (Algorithm, Option<Box<HashState>>)| match state {
            Some(state) => Ok((algorithm, state.finish())),
            None => Err(Error::Internal(format!("the thread that computes {} ended early", algorithm.name()))),
        };
        self.end().into_iter().map(digest).collect()
    }

    /// Ends the threads. No digest is needed any more.
    pub fn stop(&mut self) {
        self.end();
    }

    /// The same, after the threads have hashed what they got.
    pub fn save_all(&self) -> Option<SavedHash> {
        let sent = self.received - self.filling.len() as u64;
        let is_behind =
            |(_, worker): &(Algorithm, Worker)| worker.reached(sent).is_some_and(|(hashed, _)| hashed < sent);
        // A thread that has ended early is behind for ever.
        let reached =
            poll(Instant::now() + SLOWEST, || Ok::<_, Infallible>((!self.workers.iter().any(is_behind)).then_some(())));
        reached.ok().flatten().and_then(|()| self.save())
    }

    fn hash_inline(&mut self, data: &[u8]) {
        for (_, worker) in &mut self.workers {
            worker.update(data);
        }
    }

    fn hash_on_threads(&mut self, mut data: &[u8]) {
        while !data.is_empty() && self.workers.iter().any(|(_, worker)| worker.is_threaded()) {
            let Some(filling) = batch_with_room(&mut self.filling) else { return self.end_threads(data) };
            let (next, rest) = data.split_at(data.len().min(BATCH - filling.len()));
            filling.extend_from_slice(next);
            data = rest;
            if filling.len() == BATCH {
                self.send_batch();
            }
        }
    }

    /// Moves all algorithms back to the caller's thread, after all batches were hashed, and hashes `rest` there.
    fn end_threads(&mut self, rest: &[u8]) {
        for (_, worker) in &mut self.workers {
            if worker.is_threaded()
                && let Some(mut state) = std::mem::replace(worker, Worker::Failed).into_state()
            {
                state.update(rest);
                *worker = Worker::Inline { state, thread: None };
            }
        }
    }

    /// Moves up to `most` algorithms to threads, once. An algorithm whose thread cannot be started stays inline.
    fn start_threads(&mut self, most: usize) {
        if std::mem::replace(&mut self.is_threaded, true) {
            return;
        }
        // A fast one among others gets its thread, too: all of them can be saved only while they have hashed the same bytes.
        if self.is_fast() {
            return;
        }
        for (algorithm, worker) in self.workers.iter_mut().take(most) {
            *worker = std::mem::replace(worker, Worker::Failed).on_a_thread(*algorithm, self.received);
        }
    }

    /// Sends the filled batch, and reuses the oldest one. The threads are done with it: a thread hashes one batch, one more waits in
    /// its channel, and that is now the new one.
    fn send_batch(&mut self) {
        for (_, worker) in &self.workers {
            worker.send(&self.filling);
        }
        let [last, oldest] = &mut self.sent;
        std::mem::swap(last, oldest);
        std::mem::swap(last, &mut self.filling);
        match Arc::get_mut(&mut self.filling) {
            Some(filling) => filling.clear(),
            None => self.filling = Batch::default(),
        }
    }

    /// Ends the threads after they hashed what was sent. Returns the state of each algorithm.
    fn end(&mut self) -> Vec<(Algorithm, Option<Box<HashState>>)> {
        // All channels are closed before the first thread is joined.
        for (_, worker) in &mut self.workers {
            worker.close();
        }
        self.workers.drain(..).map(|(algorithm, worker)| (algorithm, worker.into_state())).collect()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The batch, with room for [`BATCH`] bytes in all; `None` when there is no memory. Then it is empty.
fn batch_with_room(batch: &mut Batch) -> Option<&mut Vec<u8>> {
    // It is shared with no thread: `send_batch` replaces it.
    let bytes = Arc::get_mut(batch)?;
    bytes.try_reserve_exact(BATCH - bytes.len()).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::state::to_hex;
    use md5::Digest as _;
    use proptest::prelude::*;

    const ALL: [Algorithm; 4] = Algorithm::ALL;

    /// CRC-64/NVME, byte by byte.
    fn crc64nvme(data: &[u8]) -> String {
        let step = |crc: u64, _| if crc & 1 == 1 { crc >> 1 ^ 0x9a6c_9329_ac4b_c9b5 } else { crc >> 1 };
        let table: [u64; 256] = std::array::from_fn(|byte| (0..8).fold(byte as u64, step));
        let crc = data.iter().fold(u64::MAX, |crc, byte| crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)]);
        format!("{:016x}", !crc)
    }

    /// The digests of all data at once; MD5 and the CRC by another implementation.
    fn reference(data: &[u8]) -> Vec<(Algorithm, String)> {
        let digests = [
            crc64nvme(data),
            to_hex(&md5::Md5::digest(data)),
            to_hex(&sha2::Sha256::digest(data)),
            to_hex(&sha2::Sha512::digest(data)),
        ];
        ALL.into_iter().zip(digests).collect()
    }

    fn of_all_algorithms() -> Hasher {
        let mut hasher = Hasher::default();
        for algorithm in ALL {
            hasher.add(algorithm);
        }
        hasher
    }

    fn hash(data: &[u8], mut splits: impl FnMut(usize) -> usize) -> Vec<(Algorithm, String)> {
        let mut hasher = of_all_algorithms();
        let mut rest = data;
        while !rest.is_empty() {
            let (next, others) = rest.split_at(splits(rest.len()).clamp(1, rest.len()));
            hasher.update(next);
            rest = others;
        }
        hasher.finish().unwrap()
    }

    fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    }

    #[test]
    fn the_crc_has_its_check_value_and_that_of_no_bytes() {
        let crc = |data: &[u8]| {
            let mut state = HashState::new(Algorithm::Crc64Nvme);
            state.update(data);
            state.finish()
        };
        assert_eq!((crc(b"123456789").as_str(), crc(b"").as_str()), ("ae8b14860a799888", "0000000000000000"));
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
    fn long_streams_have_the_same_digests_wherever_they_are_split() {
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
    fn three_batches_are_reused() {
        let mut hasher = of_all_algorithms();
        let half = vec![7; BATCH / 2];
        hasher.update(&vec![0; usize::try_from(INLINE).unwrap()]);
        let mut buffers = std::collections::BTreeSet::new();
        for _ in 0..20 {
            hasher.update(&half);
            buffers.insert(hasher.filling.as_ptr().addr());
            hasher.update(&half);
        }
        assert_eq!(buffers.len(), 3);
    }

    #[test]
    fn algorithms_without_a_thread_are_computed_inline() {
        let data = bytes(7, usize::try_from(INLINE).unwrap() + 2 * BATCH + 7);
        let (inline, rest) = data.split_at(usize::try_from(INLINE).unwrap());
        for threads in 0..ALL.len() {
            let mut hasher = of_all_algorithms();
            hasher.update(inline);
            hasher.start_threads(threads);
            hasher.update(rest);
            assert_eq!(hasher.workers.iter().filter(|(_, worker)| worker.is_threaded()).count(), threads);
            assert_eq!(hasher.finish().unwrap(), reference(&data));
        }
    }

    #[test]
    fn without_memory_for_a_batch_the_rest_is_hashed_inline() {
        let data = bytes(8, usize::try_from(INLINE).unwrap() + 3 * BATCH + 7);
        let (first, rest) = data.split_at(data.len() - BATCH - 7);
        let mut hasher = of_all_algorithms();
        hasher.update(first);
        assert!(hasher.filling.is_empty() && hasher.workers.iter().all(|(_, worker)| worker.is_threaded()));
        let (failed, last) = rest.split_at(BATCH / 2);
        hasher.end_threads(failed);
        hasher.update(last);
        assert!(!hasher.workers.iter().any(|(_, worker)| worker.is_threaded()));
        assert_eq!(hasher.finish().unwrap(), reference(&data));
    }

    #[test]
    fn a_saved_hash_goes_on_in_another_hasher() {
        let inline = usize::try_from(INLINE).unwrap();
        let data = bytes(9, inline + 5 * BATCH + 17);
        for at in [0, 1, 63, 64, 1000, inline - 1, inline, inline + 1, inline + 3 * BATCH + 5, data.len()] {
            let mut first = of_all_algorithms();
            first.update(&data[..at]);
            // The threads may be behind, each of them as far as it is.
            let saved = loop {
                match first.save() {
                    Some(saved) if saved.hashed + BATCH as u64 > at as u64 => break saved,
                    _ => std::thread::yield_now(),
                }
            };
            assert!(saved.hashed <= at as u64);
            let mut other = Hasher::resume(&saved).unwrap();
            other.update(&data[usize::try_from(saved.hashed).unwrap()..]);
            assert_eq!(other.finish().unwrap(), reference(&data), "{at}");
        }
    }

    #[test]
    fn a_crc_alone_has_no_thread_and_can_be_saved_at_each_byte() {
        let data = bytes(10, usize::try_from(INLINE).unwrap() + 2 * BATCH + 7);
        let mut first = Hasher::default();
        first.add(Algorithm::Crc64Nvme);
        first.update(&data[..data.len() - 5]);
        assert!(!first.workers[0].1.is_threaded());
        let saved = first.save().unwrap();
        assert_eq!(saved.hashed, data.len() as u64 - 5);
        let mut other = Hasher::resume(&saved).unwrap();
        other.update(&data[data.len() - 5..]);
        assert_eq!(other.finish().unwrap(), [(Algorithm::Crc64Nvme, crc64nvme(&data))]);
    }

    #[test]
    fn dropping_a_hasher_ends_its_threads() {
        let mut hasher = Hasher::default();
        hasher.add(Algorithm::Md5);
        hasher.update(&vec![1; usize::try_from(INLINE).unwrap() + 2 * BATCH]);
        let last = Arc::downgrade(&hasher.sent[0]);
        assert!(last.upgrade().is_some());
        drop(hasher);
        assert!(last.upgrade().is_none(), "a thread still holds it");
    }
}
