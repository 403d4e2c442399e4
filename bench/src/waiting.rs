//! The processor time of readers that wait for a source: what the parent does, and what each of its child processes does.
//!
//! The parent measures between two moments at which every reader waits. Each child compares the two states of its own processor time, so
//! neither its start nor its opens nor the reads at the end count.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use image_cache::{ImageCache, Options};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::child::print;
use crate::piped_child::{PipedChild, wait_for_parent};

/// A source returns the image in two pieces of this size, and keeps the readers waiting for the second one.
const PIECE: usize = 64 << 10;
const SIZE: usize = 2 * PIECE;

/// No turn is taken over before, so that all wait for one call of one source.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long a child waits until its readers wait.
const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// What a child did while its readers waited.
#[derive(Debug, Serialize, Deserialize)]
struct Waited {
    /// The time of the processor, in all threads.
    processor: f64,
    seconds: f64,
    /// Calls of its sources that have not returned.
    calls: usize,
    /// Readers that did not wait to the end.
    returned: usize,
}

/// The processors' time per second that passes, of readers in so many processes, while all wait for one call of a source.
pub fn load(program: &Path, directory: &Path, processes: usize, readers: usize, span: Duration) -> Result<f64> {
    let arguments = ["wait", &directory.display().to_string(), &readers.to_string()].map(ToOwned::to_owned);
    let start = |_| PipedChild::start(program, &arguments);
    let mut children = (0..processes).map(start).collect::<Result<Vec<_>>>()?;
    // Each child writes a line when all of its readers wait, and one when it has read its clocks.
    for child in &mut children {
        child.line()?.context("a child process ended before its readers waited")?;
    }
    for child in &mut children {
        child.proceed()?;
        child.line()?.context("a child process has ended")?;
    }
    // This is the length of the measurement, not a wait for an event.
    std::thread::sleep(span);
    let mut waited = Vec::new();
    for child in &mut children {
        child.proceed()?;
        waited.push(child.receive::<Waited>()?);
    }
    // Only now may the source return.
    let mut whole = 0;
    for child in &mut children {
        child.proceed()?;
    }
    for mut child in children {
        whole += child.receive::<usize>()?;
        child.end()?;
    }
    anyhow::ensure!(whole == processes * readers, "{whole} readers got the image");
    load_of(&waited)
}

fn load_of(waited: &[Waited]) -> Result<f64> {
    let calls = waited.iter().map(|one| one.calls).sum::<usize>();
    anyhow::ensure!(calls == 1, "{calls} sources were called at the same time");
    let returned = waited.iter().map(|one| one.returned).sum::<usize>();
    anyhow::ensure!(returned == 0, "{returned} readers did not wait to the end");
    Ok(waited.iter().map(|one| one.processor / one.seconds).sum())
}

/// The state that the readers of a child share.
#[derive(Default)]
struct Shared {
    is_released: Mutex<bool>,
    released: Condvar,
    calls: AtomicUsize,
    returned: AtomicUsize,
    /// Where the kernel describes each thread that has read the first piece.
    threads: Mutex<Vec<PathBuf>>,
}

impl Shared {
    fn read_source(&self, offset: usize, buffer: &mut [u8]) -> usize {
        if offset == PIECE {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let released = self.is_released.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.released.wait_while(released, |released| !*released));
            self.calls.fetch_sub(1, Ordering::SeqCst);
        }
        let length = buffer.len().min(PIECE - offset % PIECE);
        buffer[..length].fill(7);
        length
    }

    /// Reads the image. Between its first and its second piece, the reader waits.
    fn read(&self, cache: &ImageCache) -> Result<()> {
        let source = |offset: u64, buffer: &mut [u8]| Ok(self.read_source(offset as usize, buffer));
        let mut stream = cache.stream("image", source)?;
        stream.expect_size(SIZE as u64)?;
        stream.set_source_timeout(SOURCE_TIMEOUT)?;
        let mut buffer = vec![0; PIECE];
        let mut read = 0;
        while read < PIECE {
            read += stream.read(&mut buffer[..PIECE - read])?;
        }
        let thread = Path::new("/proc").join(std::fs::read_link("/proc/thread-self")?).join("stat");
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        loop {
            let length = stream.read(&mut buffer)?;
            if read == PIECE {
                self.returned.fetch_add(1, Ordering::SeqCst);
            }
            read += length;
            if length == 0 {
                break;
            }
        }
        anyhow::ensure!(read == SIZE, "{read} bytes of {SIZE}");
        Ok(())
    }

    /// Every reader has the first piece, none the second, and the kernel shows each thread asleep.
    fn all_wait(&self, readers: usize) -> bool {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.len() == readers
            && threads.iter().all(|stat| is_asleep(&std::fs::read_to_string(stat).unwrap_or_default()))
    }
}

/// Whether a line of /proc/PID/stat says so. Its second value is the name, which may have spaces.
fn is_asleep(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, values)| values.starts_with('S'))
}

/// The work of the child. The parent sends a line at each of the three moments.
pub fn work(directory: &str, readers: usize) -> Result<()> {
    let cache = ImageCache::open(directory, Options::new().max_size(u64::MAX))?;
    let shared = Shared::default();
    let processor = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(|| shared.read(&cache))).collect();
        let measured = (|| {
            let end = Instant::now() + PATIENCE;
            while !shared.all_wait(readers) {
                anyhow::ensure!(Instant::now() < end, "not all readers wait after {PATIENCE:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
            println!();
            wait_for_parent()?;
            let (began, before) = (Instant::now(), processor());
            println!();
            wait_for_parent()?;
            print(&Waited {
                processor: processor().saturating_sub(before).as_secs_f64(),
                seconds: began.elapsed().as_secs_f64(),
                calls: shared.calls.load(Ordering::SeqCst),
                returned: shared.returned.load(Ordering::SeqCst),
            })?;
            wait_for_parent()
        })();
        // Also after a failure, or the readers would wait without end.
        *shared.is_released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        shared.released.notify_all();
        let read =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a reader panicked")));
        let whole = read.collect::<Result<Vec<_>>>()?.len();
        measured?;
        print(&whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_state_of_a_sleeping_thread_counts_as_asleep() {
        assert!(is_asleep("7 (a name) S 1 7 7"));
        assert!(!is_asleep("7 (a) S) R 1 7 7") && !is_asleep("7 (a name) D 1 7 7") && !is_asleep(""));
    }

    #[test]
    fn a_load_needs_one_call_and_readers_that_all_waited() {
        let waited = |calls, returned| Waited { processor: 0.05, seconds: 5.0, calls, returned };
        assert!((load_of(&[waited(1, 0), waited(0, 0)]).unwrap() - 0.02).abs() < 1e-9);
        assert!(load_of(&[waited(0, 0)]).is_err() && load_of(&[waited(1, 0), waited(1, 0)]).is_err());
        assert!(load_of(&[waited(1, 1)]).is_err());
    }
}
