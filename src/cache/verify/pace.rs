//! At most so many bytes a second.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use crate::digest::algorithm::Algorithm;

/// The longest sleep. The caller's function is called after each one, so that it can stop a slow verification.
const SLEEP: Duration = Duration::from_millis(100);

/// How many bytes are read at once: where the rate is low, as many as a tenth of a second may take. A checksum is faster than the disk,
/// which is faster with long reads. A cryptographic hash is slower, and faster with bytes that are still in the processor's cache.
const LONGEST_FOR_CHECKSUMS: u64 = 4 << 20;
const LONGEST_FOR_HASHES: u64 = 1 << 20;
const SHORTEST_PIECE: u64 = 64 << 10;

/// The rate of one call.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// 0: without a limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, began: Instant::now(), bytes: 0 }
    }

    /// How many bytes are to be read at once, for an algorithm.
    pub fn piece(&self, algorithm: Algorithm) -> usize {
        let longest = if algorithm == Algorithm::Crc64Nvme { LONGEST_FOR_CHECKSUMS } else { LONGEST_FOR_HASHES };
        let piece = match self.bytes_per_second {
            0 => longest,
            rate => (rate / 10).next_multiple_of(4096).clamp(SHORTEST_PIECE, longest),
        };
        usize::try_from(piece).unwrap_or(1 << 20)
    }

    /// Waits after so many bytes, until more may be read. Calls `pause` after each sleep, which may end the wait.
    pub fn spend(&mut self, bytes: usize, mut pause: impl FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
        self.bytes += bytes as u64;
        while let Some(left) = self.due().checked_sub(self.began.elapsed()).filter(|left| !left.is_zero()) {
            thread::sleep(left.min(SLEEP));
            pause()?;
        }
        ControlFlow::Continue(())
    }

    /// When so many bytes may have been read, after the begin.
    fn due(&self) -> Duration {
        let nanoseconds = u128::from(self.bytes) * 1_000_000_000;
        let due = nanoseconds.checked_div(self.bytes_per_second.into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_at_their_rate_and_pieces_are_short_where_it_is_low() {
        let spent = |rate, bytes| Pace { bytes, ..Pace::new(rate) }.due();
        assert_eq!(spent(1 << 20, 10 << 20), Duration::from_secs(10));
        assert_eq!(spent(0, u64::MAX), Duration::ZERO);
        assert!(spent(1, u64::MAX) > Duration::from_secs(24 * 60 * 60));
        let pieces = |algorithm| [0, 1, 50 << 20, 5_000_000].map(|rate| Pace::new(rate).piece(algorithm));
        assert_eq!(pieces(Algorithm::Sha256), [1 << 20, 64 << 10, 1 << 20, 503_808]);
        assert_eq!(pieces(Algorithm::Crc64Nvme), [4 << 20, 64 << 10, 4 << 20, 503_808]);
    }

    #[test]
    fn a_wait_is_ended_by_its_caller() {
        let mut pauses = 0;
        let ended = Pace::new(1).spend(1 << 20, || {
            pauses += 1;
            if pauses < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(ended.is_break() && pauses == 2);
    }
}
