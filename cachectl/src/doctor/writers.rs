//! Incomplete files and who has them: the rules of `store::writers`, without taking a lock.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::finding::{Findings, counted};
use super::locks::{PARTICIPANTS, is_locked, seen_free, writer_of};
use super::scan::{ImageFile, Scan};
use super::{Examination, kind, reading};
use crate::units::{duration, size};

/// The mark of files that the library created.
const STICKY: u32 = 0o1000;

/// Where the entries of writers begin in the lock file, their length, and how many there are at most.
const ENTRIES: usize = 64;
const ENTRY: usize = 40;
const MAX_ENTRIES: usize = 1024;

/// A heartbeat of a writer that has all bytes.
const FINISHING: u64 = u64::MAX;

/// What the lock file has of a writer.
#[derive(Debug, Clone, Copy)]
struct Entry {
    inode: u64,
    process: u64,
    beat: u64,
}

fn entries(mut file: &File) -> Vec<Entry> {
    let mut content = Vec::new();
    let length = (ENTRIES + MAX_ENTRIES * ENTRY) as u64;
    if (&mut file).take(length).read_to_end(&mut content).is_err() {
        return Vec::new();
    }
    let content = content.get(ENTRIES..).unwrap_or_default();
    let number = |entry: &[u8], place: usize| {
        entry.get(place * 8..place * 8 + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let entry = |entry: &[u8]| Entry { inode: number(entry, 0), process: number(entry, 2), beat: number(entry, 4) };
    content.chunks_exact(ENTRY).map(entry).filter(|entry| entry.inode != 0).collect()
}

pub fn check(scan: &Scan, examination: &Examination<'_>, findings: &mut Findings) {
    let lock_file = scan.own.as_ref().and_then(|own| reading::open_file(own, "lock").ok());
    let incomplete = scan.area("incomplete").map(|area| area.images.as_slice()).unwrap_or_default();
    // Without the right to read the locks, nothing is known of the writers: IC011.
    if let Some(lock_file) = &lock_file {
        if let Err(waited) = seen_free(lock_file) {
            findings.add(&kind::LOCKED, format!("it was held at each look in {} s", waited.as_secs()));
        }
    } else if scan.own.as_ref().is_some_and(|own| matches!(reading::status(own, "lock"), Ok(Some(_)))) {
        return;
    }
    let entries = lock_file.as_ref().map(entries).unwrap_or_default();
    let mut lists = Lists::default();
    for image in incomplete {
        lists.sort(scan, examination.stall_time, image, lock_file.as_ref(), &entries);
    }
    lists.report(examination.stall_time, findings);
}

/// The incomplete files, by who has them.
#[derive(Default)]
struct Lists {
    dead: Vec<String>,
    stalled: Vec<String>,
    foreign: Vec<String>,
    left: Vec<String>,
    fresh: Vec<String>,
}

impl Lists {
    fn sort(&mut self, scan: &Scan, stall: Duration, image: &ImageFile, lock_file: Option<&File>, entries: &[Entry]) {
        let name = image.shown();
        let unwritten = since_modified(image);
        let has_writer =
            || lock_file.is_some_and(|file| is_locked(file, writer_of(image.stat.st_ino)).unwrap_or(false));
        let mut is_live = has_writer();
        if !is_live {
            // It may have been created a moment ago, or published meanwhile.
            let _ = lock_file.map(seen_free);
            is_live = has_writer();
            let area = scan.area("incomplete").map(|area| reading::status(&area.descriptor, &image.name));
            if !matches!(area, Some(Ok(Some(stat))) if stat.st_ino == image.stat.st_ino) {
                return;
            }
        }
        if is_live {
            let entry = entries.iter().find(|entry| entry.inode == image.stat.st_ino);
            let idle = match entry.map(|entry| entry.beat) {
                Some(FINISHING) => Duration::ZERO,
                Some(beat) => Duration::from_nanos(monotonic().saturating_sub(beat)),
                None => unwritten,
            };
            if idle >= stall {
                let process =
                    entry.map_or_else(|| "an unknown process".into(), |entry| format!("process {}", entry.process));
                self.stalled.push(format!("{name}: {process} wrote nothing for {}", duration(idle)));
            }
            return;
        }
        let record = scan.own.as_ref().and_then(|own| reading::open_subdirectory(own, "streams").ok());
        let record = record.and_then(|streams| reading::open_file(streams, &image.name).ok());
        if let Some(record) = record.filter(|record| is_of(record, image.stat.st_ino)) {
            let is_attended = is_locked(&record, PARTICIPANTS).unwrap_or(false);
            if unwritten >= stall {
                self.stalled.push(format!("{name}: its streams wrote nothing for {}", duration(unwritten)));
            } else if !is_attended {
                self.left.push(format!("{name}: {} are there", size(image.size())));
            }
            return;
        }
        if lock_file.is_some() && image.stat.st_mode & STICKY != 0 {
            self.dead.push(format!("{name}: {}", size(image.size())));
        } else if unwritten >= stall {
            self.foreign.push(format!("{name}: nothing was written for {}", duration(unwritten)));
        } else {
            self.fresh.push(format!("incomplete/{name}: another program writes it"));
        }
    }

    fn report(self, stall: Duration, findings: &mut Findings) {
        let files = |count| counted(count, "file", "files");
        findings.add_if_any(&kind::DEAD_WRITERS, self.dead, |count| {
            format!("{} of dead writers in incomplete/", files(count))
        });
        findings.add_if_any(&kind::STALLED_WRITERS, self.stalled, |count| {
            format!("{} got no byte for the stall time of {}", counted(count, "image", "images"), duration(stall))
        });
        findings.add_if_any(&kind::FOREIGN_WRITERS, self.foreign, |count| {
            format!("{} of another program in incomplete/, older than {}", files(count), duration(stall))
        });
        findings.add_if_any(&kind::LEFT_STREAMS, self.left, |count| {
            counted(count, "fetch", "fetches") + " without a reader"
        });
        findings.add_if_any(&kind::GLANCE, self.fresh, |_| "Glance, or another program, uses the directory".to_owned());
    }
}

/// Whether a stream's record is that of this file.
fn is_of(mut record: &File, inode: u64) -> bool {
    let mut head = [0_u8; 16];
    let is_read = record.read_exact(&mut head).is_ok();
    is_read && head.starts_with(b"stream") && head[8..] == inode.to_le_bytes()
}

fn since_modified(image: &ImageFile) -> Duration {
    let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(image.stat.st_mtime).unwrap_or(0));
    SystemTime::now().duration_since(modified).unwrap_or_default()
}

/// Nanoseconds of the clock of the heartbeats.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}
