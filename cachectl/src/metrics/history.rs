//! The history: a file with one sample a line, as JSON, the oldest first. It is what `report` draws over time.
//!
//! Each run appends a line. When there are twice as many as are kept, the older half is dropped, by a new file that replaces the old one.
//! Runs at the same time take turns by a lock of the file. A file that is no history is left as it is.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::snapshot::Snapshot;
use crate::target::Target;

/// So many samples are kept at least: 35 days of one every 5 minutes.
pub const KEPT: usize = 10_080;

/// So long a run waits for its turn. Others need milliseconds.
pub const WAIT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(20);

/// A sample. New fields are appended, and have a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Seconds since 1970.
    pub time: u64,
    pub images: u64,
    /// What counts for the limit.
    pub used: u64,
    pub pinned: u64,
    pub limit: Option<u64>,
    pub free: u64,
    pub next_victim_idle: u64,
    pub hits: u64,
    pub misses: u64,
    pub commits: u64,
    pub failures: u64,
    pub evictions: u64,
    pub evicted_bytes: u64,
    pub bytes_served: u64,
}

impl From<&Snapshot> for Sample {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            time: snapshot.time,
            images: snapshot.images,
            used: snapshot.used(),
            pinned: snapshot.pinned_allocated,
            limit: snapshot.limit,
            free: snapshot.free,
            next_victim_idle: snapshot.next_victim_idle,
            hits: snapshot.counters.hits,
            misses: snapshot.counters.misses,
            commits: snapshot.counters.commits,
            failures: snapshot.counters.failures.sum(),
            evictions: snapshot.counters.evictions,
            evicted_bytes: snapshot.counters.evicted_bytes,
            bytes_served: snapshot.counters.bytes_served,
        }
    }
}

/// Appends a sample.
pub fn append(target: &Target, sample: &Sample, kept: usize, wait: Duration) -> io::Result<()> {
    let mut file = locked(target, wait)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let whole = lines.iter().rev().find(|line| !is_part(line));
    if whole.is_some_and(|line| !is_sample(line)) {
        return Err(io::Error::other("its last line is no sample, so it is no history"));
    }
    let mut line = Vec::new();
    // A line that a full disk cut ends here.
    if text.last().is_some_and(|last| *last != b'\n') {
        line.push(b'\n');
    }
    serde_json::to_writer(&mut line, sample)?;
    line.push(b'\n');
    if lines.len() < kept.saturating_mul(2) {
        return file.write_all(&line);
    }
    if let Some(number) = lines.iter().position(|line| !is_part(line) && !is_sample(line)) {
        return Err(io::Error::other(format!("line {} is no sample, so the older half is not dropped", number + 1)));
    }
    let mut new = target.begin()?;
    // The lines that stay must not get other readers. Without the right to keep owner and group, none is dropped.
    let (own, made) = (file.metadata()?, new.file.metadata()?);
    if (own.uid(), own.gid()) != (made.uid(), made.gid())
        && fchown(&new.file, Some(own.uid()), Some(own.gid())).is_err()
    {
        drop(new);
        return file.write_all(&line);
    }
    for kept_line in &lines[lines.len() - kept.saturating_sub(1).min(lines.len())..] {
        new.file.write_all(kept_line)?;
    }
    new.file.write_all(&line)?;
    // Never a bit that makes a program of it.
    new.file.set_permissions(Permissions::from_mode(own.mode() & 0o666))?;
    new.file.sync_all()?;
    new.finish()
}

/// The file of that name, locked. If it was replaced meanwhile, the new one.
fn locked(target: &Target, wait: Duration) -> io::Result<File> {
    let end = Instant::now() + wait;
    loop {
        let file = target.open_to_append()?;
        while let Err(error) = file.try_lock() {
            match error {
                // Any reader of the file can lock it, for ever.
                TryLockError::WouldBlock if Instant::now() >= end => {
                    return Err(io::Error::other(format!("another program has locked it for {} s", wait.as_secs())));
                }
                TryLockError::WouldBlock => std::thread::sleep(PAUSE),
                TryLockError::Error(error) => return Err(error),
            }
        }
        if target.is(&file) {
            return Ok(file);
        }
    }
}

/// Whether a line is a sample of any version: it has what the first one had.
fn is_sample(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct First {
        time: u64,
        #[serde(rename = "images")]
        _images: u64,
        #[serde(rename = "used")]
        _used: u64,
    }
    serde_json::from_slice::<First>(line).is_ok_and(|first| first.time > 0)
}

/// Whether a line is what a full disk, or a power failure, leaves of one: its beginning, or zeros.
fn is_part(line: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"time\":";
    let line = line.trim_ascii_end();
    let digits = line.strip_prefix(BEGINNING).map(|rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    match digits {
        None => BEGINNING.starts_with(line) || line.iter().all(|byte| *byte == 0),
        // The end is missing.
        Some(digits) => (digits > 0 || line == BEGINNING) && !line.ends_with(b"}"),
    }
}

/// Reads the samples until a time, in the order of time. Lines that are none, and samples of a later time, are skipped, and counted.
pub fn read(path: &Path, until: u64) -> io::Result<(Vec<Sample>, usize)> {
    // A pipe without a writer would block.
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let (mut samples, mut skipped) = (Vec::new(), 0);
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        match serde_json::from_slice::<Sample>(&line) {
            Ok(sample) if sample.time > 0 && sample.time <= until => samples.push(sample),
            _ if line.is_empty() => {}
            _ => skipped += 1,
        }
    }
    samples.sort_by_key(|sample| sample.time);
    Ok((samples, skipped))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn sample(time: u64) -> Sample {
        Sample { time, ..Sample::default() }
    }

    fn append(path: &Path, sample: &Sample, kept: usize) -> io::Result<()> {
        let cache = tempfile::tempdir()?;
        super::append(&Target::open(path, cache.path())?, sample, kept, WAIT)
    }

    fn read(path: &Path) -> io::Result<(Vec<Sample>, usize)> {
        super::read(path, 1000)
    }

    #[test]
    fn parts_of_samples_are_known_from_other_lines() {
        let mut line = serde_json::to_vec(&sample(5)).unwrap();
        assert!(is_sample(&line) && !is_part(&line));
        while line.pop().is_some() {
            assert!(is_part(&line) && !is_sample(&line), "{}", String::from_utf8_lossy(&line));
        }
        assert!(is_part(&[0; 20]));
        for other in ["a log", r#"{"time":"2026-01-01","level":"info"}"#, r#"{"time":1,"message":2}"#, "{}", "1"] {
            assert!(!is_part(other.as_bytes()) && !is_sample(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn samples_of_the_far_future_are_skipped() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("history.jsonl");
        for time in [u64::MAX, 1001, 1000] {
            append(&path, &sample(time), 10).unwrap();
        }
        assert_eq!(read(&path).unwrap(), (vec![sample(1000)], 2));
    }

    #[test]
    fn the_newest_samples_are_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("history.jsonl");
        for time in 1..=25 {
            append(&path, &sample(time), 5).unwrap();
            let (samples, skipped) = read(&path).unwrap();
            let times: Vec<_> = samples.iter().map(|sample| sample.time).collect();
            assert!(times.len() <= 10 && times.len() >= usize::try_from(time).unwrap().min(5), "{times:?}");
            assert_eq!((times.last(), skipped), (Some(&time), 0));
            assert!(times.windows(2).all(|two| two[0] + 1 == two[1]), "{times:?}");
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn runs_at_the_same_time_lose_no_sample() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("history.jsonl");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || (1..=50).for_each(|time| append(path, &sample(thread * 100 + time), 300).unwrap()));
            }
        });
        assert_eq!(read(&path).unwrap().0.len(), 200);
    }

    #[test]
    fn a_line_that_was_cut_is_skipped_and_the_next_one_is_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("history.jsonl");
        append(&path, &sample(1), 10).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"time\":2,\"ima").unwrap();
        append(&path, &sample(3), 10).unwrap();
        let (samples, skipped) = read(&path).unwrap();
        assert_eq!((samples, skipped), (vec![sample(1), sample(3)], 1));
    }
}
