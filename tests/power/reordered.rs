//! Cuts of a disk with a volatile write cache: any part of what was not flushed may be on the disk.
//!
//! A workload is recorded once (`logged_disk`) and cut at many points. All writes before the last flush are on the
//! disk; of each later write all, some sectors, or nothing. Later writes may be there without earlier ones: that is all
//! that reordering can do. One of the resulting states starts the next recording, which contains the recovery and may
//! be cut again.

use std::ops::RangeInclusive;
use std::path::Path;

use image_cache::DriverChoice;

use crate::check::check_volume;
use crate::counters::Counters;
use crate::disk::Disk;
use crate::events::Event;
use crate::logged_disk::{Command, LoggedDisk};
use crate::promises::Promises;
use crate::session::{Durabilities, Session};
use crate::volume::{FileSystem, Volume, scratch};
use crate::workload;

/// What a disk writes atomically.
const SECTOR: usize = 512;
/// The same, at the disk's start: ext4 does not survive a torn superblock, which has two sectors and one checksum.
const FIRST_SECTOR: usize = 4096;
/// How many events a workload has.
const LENGTHS: RangeInclusive<usize> = 50..=600;
/// How many points of a recording are cut.
const CUTS: usize = 6;

/// A workload's commands to the disk, and its events.
struct Recorded {
    /// The disk and the promises before it.
    before: (Disk, Promises),
    log: Vec<Command>,
    /// Each event, with the number of commands that the disk had received.
    events: Vec<(usize, Event)>,
    /// The same number for each event that made something durable.
    durable: Vec<usize>,
}

pub fn sweep(
    kind: FileSystem,
    driver: DriverChoice,
    durabilities: Durabilities,
    cuts: usize,
    random: &mut fastrand::Rng,
) -> Result<Counters, String> {
    let scratch = scratch().map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| error.to_string();
    let image = scratch.path().join("image");
    kind.format(&image).map_err(failed)?;
    let mut state = (Disk::load(&image).map_err(failed)?, Promises::default());
    let mut counters = Counters::default();
    let mut generation = 0;
    while counters.cuts < cuts {
        generation += 1;
        let length = random.usize(LENGTHS);
        let seed = random.u64(..);
        let start = |volume: &Path| Session::start(volume, driver, durabilities, generation, seed);
        let recorded = record(state, length, scratch.path(), start, random)?;
        state = recorded.before.clone();
        for _ in 0..CUTS.min(cuts - counters.cuts) {
            let position = recorded.choose(random);
            let disk = disk_cut_off_at(&recorded.before.0, &recorded.log, position, random);
            let mut promises = recorded.promises_at(position)?;
            let next = promises.clone();
            disk.store(&image).map_err(failed)?;
            let volume = Volume::mount(&image, &scratch.path().join("volume")).map_err(|error| {
                format!("recording {generation}, cut at {position} of {}: {error}", recorded.log.len())
            })?;
            let found = check_volume(&scratch.path().join("volume"), driver, &mut promises).map_err(|what| {
                format!("recording {generation}, cut at {position} of {}: {what}", recorded.log.len())
            })?;
            volume.unmount().map_err(failed)?;
            counters.cuts += 1;
            counters.add(&found);
            // The next recording starts with the disk as the cut left it.
            state = (disk, next);
        }
        counters.acknowledged += recorded.acknowledged();
    }
    Ok(counters)
}

/// Runs a workload on a recording disk for a number of events.
fn record(
    before: (Disk, Promises),
    length: usize,
    scratch: &Path,
    start: impl FnOnce(&Path) -> std::io::Result<Session>,
    random: &mut fastrand::Rng,
) -> Result<Recorded, String> {
    let failed = |error: std::io::Error| error.to_string();
    let point = scratch.join("recorded");
    let disk = LoggedDisk::mount(before.0.clone(), &scratch.join("logged")).map_err(failed)?;
    let volume = Volume::mount(&disk.path, &point).map_err(failed)?;
    let mut session = start(&point).map_err(failed)?;
    let (mut events, mut durable, mut promises) = (Vec::with_capacity(length), Vec::new(), before.1.clone());
    for _ in 0..length {
        // The workload waits: what it began comes after this position, what ended came before.
        let event = session.next_event().map_err(failed)?;
        let position = disk.position();
        if promises.makes_durable(&event) {
            durable.push(position);
        }
        promises.record(&event)?;
        events.push((position, event));
        workload::write_back_sometimes(&volume, random).map_err(failed)?;
        session.go_on().map_err(failed)?;
    }
    session.kill().map_err(failed)?;
    volume.unmount().map_err(failed)?;
    Ok(Recorded { before, log: disk.unmount().map_err(failed)?, events, durable })
}

impl Recorded {
    /// The point of a cut: right after something became durable, at an event, soon after one, or anywhere.
    fn choose(&self, random: &mut fastrand::Rng) -> usize {
        let reported = random.choice(&self.events).map_or(0, |(position, _)| *position);
        match random.u8(0..4) {
            0 => random.choice(&self.durable).copied().unwrap_or(reported),
            1 => reported,
            2 => self.log.len().min(reported + random.usize(0..10)),
            _ => random.usize(0..=self.log.len()),
        }
    }

    fn promises_at(&self, position: usize) -> Result<Promises, String> {
        let mut promises = self.before.1.clone();
        for (_, event) in self.events.iter().take_while(|(reported, _)| *reported <= position) {
            promises.record(event)?;
        }
        promises.end_workers();
        Ok(promises)
    }

    fn acknowledged(&self) -> u64 {
        self.promises_at(self.log.len()).map_or(0, |after| after.acknowledged - self.before.1.acknowledged)
    }
}

/// A state that the disk may have after a cut behind that many commands.
pub fn disk_cut_off_at(before: &Disk, log: &[Command], position: usize, random: &mut fastrand::Rng) -> Disk {
    let done = &log[..position];
    let is_flush = |command: &Command| matches!(command, Command::Flush);
    let flushed = done.iter().rposition(is_flush).map_or(0, |last| last + 1);
    let mut disk = before.clone();
    let pattern = LossPattern::choose(position - flushed, random);
    for (number, command) in done.iter().enumerate() {
        let Command::Write { offset, bytes } = command else { continue };
        if number < flushed {
            disk.write(*offset, bytes);
        } else {
            pattern.write(&mut disk, number - flushed, *offset, bytes, random);
        }
    }
    disk
}

/// Which of the unflushed writes the cut loses.
#[derive(Debug)]
enum LossPattern {
    AllLost,
    AllThere,
    OneLost(usize),
    OneThere(usize),
    SomeLost,
    SomeSectorsLost,
}

impl LossPattern {
    fn choose(writes: usize, random: &mut fastrand::Rng) -> Self {
        match random.u8(0..8) {
            0..2 => Self::AllLost,
            2 => Self::AllThere,
            3 => Self::OneLost(random.usize(0..=writes)),
            4 => Self::OneThere(random.usize(0..=writes)),
            5 => Self::SomeLost,
            _ => Self::SomeSectorsLost,
        }
    }

    fn write(&self, disk: &mut Disk, number: usize, offset: u64, bytes: &[u8], random: &mut fastrand::Rng) {
        let arrives = match self {
            Self::AllLost => false,
            Self::AllThere => true,
            Self::OneLost(lost) => number != *lost,
            Self::OneThere(there) => number == *there,
            Self::SomeLost => random.bool(),
            Self::SomeSectorsLost => {
                let size = if offset < FIRST_SECTOR as u64 { FIRST_SECTOR } else { SECTOR };
                for (sector, at) in bytes.chunks(size).zip((offset..).step_by(size)) {
                    if random.bool() {
                        disk.write(at, sector);
                    }
                }
                return;
            }
        };
        if arrives {
            disk.write(offset, bytes);
        }
    }
}
