//! Cuts during a stream of a long image, and after its publish. The next stream trusts no byte beyond the last sync, and it goes on
//! there if the record of the sync was on the disk.
//!
//! At times, the kernel writes the record and parts of the file back before the cut. So the file can be longer than what was synced, and
//! have other bytes there.

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use image_cache::DriverChoice;

use crate::disk::Disk;
use crate::events::{Action, Event};
use crate::logged_disk::{Command, LoggedDisk};
use crate::long_image::{Allowed, ID, LENGTH, PIECE, STREAMER, SYNCED, check_volume};
use crate::reordered::disk_cut_off_at;
use crate::session::Session;
use crate::volume::{FileSystem, Volume, scratch};
use crate::workload::cache_directory;

/// How many cuts a sweep made, and what they met.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counters {
    pub cuts: usize,
    /// After the publish.
    pub published: usize,
    /// After which the next stream did not begin at 0.
    pub resumed: usize,
}

/// The events of a whole stream: two for each piece, and two for the publish.
const EVENTS: usize = 2 * (LENGTH.div_ceil(PIECE) + 1);
/// The event after which the first sync is done.
const FIRST_SYNC: usize = 2 * (SYNCED / PIECE);

/// What is known of a stream at some moment.
#[derive(Debug, Clone)]
struct Progress {
    /// So many synced bytes the file may have had when the stream began.
    at_begin: u64,
    events: usize,
    /// The record was written to the disk after the sync.
    is_record_on_disk: bool,
}

impl Progress {
    fn new(at_begin: u64) -> Self {
        Self { at_begin, events: 0, is_record_on_disk: false }
    }

    fn note(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Begin(0, _) | Event::End(0) => self.events += 1,
            Event::Begin(_, _) | Event::End(_) => self.is_record_on_disk |= self.events >= FIRST_SYNC,
            other => return Err(format!("without a cut: {other}")),
        }
        Ok(())
    }

    fn allowed(&self) -> Allowed {
        let begun = self.events.div_ceil(2) * PIECE;
        let synced = if self.at_begin > 0 || begun >= SYNCED { SYNCED as u64 } else { 0 };
        // The publish removes the record, and may lose the file's new name.
        let is_certain = self.is_record_on_disk && self.events < EVENTS - 1;
        Allowed { resumed: if is_certain { synced } else { 0 }..=synced, is_published: self.events >= EVENTS }
    }
}

/// After which event a cut comes: of those before the sync, soon after it, during the publish, or after it.
fn choose(cut: usize, random: &mut fastrand::Rng) -> usize {
    match cut % 4 {
        0 => random.usize(FIRST_SYNC..EVENTS - 1),
        1 => EVENTS - random.usize(0..=1),
        2 => random.usize(FIRST_SYNC - 1..EVENTS),
        _ => random.usize(1..=EVENTS),
    }
}

/// At times, while the stream waits: the kernel writes the record or a part of the file back, or another program syncs its own file.
/// Returns an event when the record is on the disk.
fn write_back_sometimes(volume: &Path, random: &mut fastrand::Rng) -> std::io::Result<Option<Event>> {
    let directory = cache_directory(volume);
    // Neither is there after the publish.
    let record = || File::open(directory.join(".image_cache/streams").join(ID)).ok();
    let incomplete = || File::open(directory.join("incomplete").join(ID)).ok();
    // SAFETY: the call takes numbers only.
    let start = |file: &File, start, length| unsafe {
        libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE);
    };
    match random.u8(0..16) {
        0..2 => {
            let Some(record) = record() else { return Ok(None) };
            record.sync_all()?;
            return Ok(Some(Event::Begin(1, Action::Other("record_synced".to_owned()))));
        }
        2 => {
            if let Some(record) = record() {
                start(&record, 0, 0);
            }
        }
        3..6 => {
            if let Some(file) = incomplete() {
                let from = i64::try_from(random.usize(0..LENGTH)).expect("a short file");
                start(&file, from, random.i64(1..4 << 20));
            }
        }
        6 => {
            let path = volume.join("another-programs");
            std::fs::write(&path, b"text").and_then(|()| File::open(path)?.sync_all())?;
        }
        _ => {}
    }
    Ok(None)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: std::io::Error) -> String {
    error.to_string()
}

fn start(point: &Path, driver: DriverChoice) -> Result<Session, String> {
    Session::start_as(STREAMER, point, driver, &[]).map_err(failed)
}

impl Counters {
    pub const NONE: Self = Self { cuts: 0, published: 0, resumed: 0 };

    /// Adds those of another sweep.
    pub fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.published += other.published;
        self.resumed += other.resumed;
    }

    fn add_cut(&mut self, resumed: Option<u64>) {
        self.cuts += 1;
        self.published += usize::from(resumed.is_none());
        self.resumed += usize::from(resumed.is_some_and(|resumed| resumed > 0));
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} cuts of streams of a long image; after them {} images published, {} fetches resumed at their sync",
            self.cuts, self.published, self.resumed
        )
    }
}

/// Cuts by the shutdown call. At times, the next stream is cut as well.
pub fn shutdown(
    kind: FileSystem,
    driver: DriverChoice,
    cuts: usize,
    random: &mut fastrand::Rng,
) -> Result<Counters, String> {
    let mut counters = Counters::default();
    for cut in 0..cuts {
        let scratch = scratch().map_err(failed)?;
        let (image, point) = (scratch.path().join("image"), scratch.path().join("volume"));
        kind.format(&image).map_err(failed)?;
        let mut volume = Volume::mount(&image, &point).map_err(failed)?;
        let mut last = choose(cut, random);
        let mut progress = Progress::new(0);
        loop {
            stream_until(last, &volume, &point, driver, &mut progress, random)?;
            volume.unmount().map_err(failed)?;
            volume = Volume::mount(&image, &point).map_err(failed)?;
            let allowed = progress.allowed();
            if last >= EVENTS - 1 || random.u8(0..3) != 0 {
                let checked = check_volume(&point, driver, &allowed);
                counters.add_cut(checked.map_err(|what| format!("cut {cut}, after event {last} of {EVENTS}: {what}"))?);
                break;
            }
            // The next stream goes on somewhere, and is cut, too.
            progress = Progress::new(*allowed.resumed.end());
            last = random.usize(1..EVENTS - 1);
        }
        volume.unmount().map_err(failed)?;
    }
    Ok(counters)
}

/// Streams until that event, and cuts the power then, or soon after.
fn stream_until(
    last: usize,
    volume: &Volume,
    point: &Path,
    driver: DriverChoice,
    progress: &mut Progress,
    random: &mut fastrand::Rng,
) -> Result<(), String> {
    let mut session = start(point, driver)?;
    loop {
        progress.note(&session.next_event().map_err(failed)?)?;
        if progress.events == last {
            break;
        }
        if let Some(event) = write_back_sometimes(point, random).map_err(failed)? {
            progress.note(&event)?;
        }
        session.go_on().map_err(failed)?;
    }
    if random.bool() {
        session.go_on().map_err(failed)?;
        let scale = random.u32(0..20);
        for _ in 0..random.u32(0..1 << scale) {
            std::hint::spin_loop();
        }
    }
    volume.cut(random.bool()).map_err(failed)?;
    session.kill().map_err(failed)
}

/// Cuts of a disk that loses and reorders writes.
pub fn reordered(
    kind: FileSystem,
    driver: DriverChoice,
    cuts: usize,
    random: &mut fastrand::Rng,
) -> Result<Counters, String> {
    const CUTS: usize = 4;
    let mut counters = Counters::default();
    let scratch = scratch().map_err(failed)?;
    let (image, point) = (scratch.path().join("image"), scratch.path().join("volume"));
    kind.format(&image).map_err(failed)?;
    let before = Disk::load(&image).map_err(failed)?;
    while counters.cuts < cuts {
        let (log, events) = record(&before, scratch.path(), driver, random)?;
        for _ in 0..CUTS.min(cuts - counters.cuts) {
            let last = choose(counters.cuts, random);
            let reported = events.iter().filter(|(_, event)| is_streams(event)).nth(last - 1);
            let reported = reported.map_or(0, |(position, _)| *position);
            let position = log.len().min(reported + if random.bool() { 0 } else { random.usize(0..40) });
            let mut progress = Progress::new(0);
            for (_, event) in events.iter().take_while(|(reported, _)| *reported <= position) {
                progress.note(event)?;
            }
            disk_cut_off_at(&before, &log, position, random).store(&image).map_err(failed)?;
            let volume = Volume::mount(&image, &point).map_err(failed)?;
            let checked = check_volume(&point, driver, &progress.allowed());
            counters.add_cut(checked.map_err(|what| format!("cut at {position} of {}: {what}", log.len()))?);
            volume.unmount().map_err(failed)?;
        }
    }
    Ok(counters)
}

fn is_streams(event: &Event) -> bool {
    matches!(event, Event::Begin(0, _) | Event::End(0))
}

type Recording = (Vec<Command>, Vec<(usize, Event)>);

/// Streams the whole image on a recording disk. Each event has the number of commands that the disk had received.
fn record(
    before: &Disk,
    scratch: &Path,
    driver: DriverChoice,
    random: &mut fastrand::Rng,
) -> Result<Recording, String> {
    let point = scratch.join("recorded");
    let disk = LoggedDisk::mount(before.clone(), &scratch.join("logged")).map_err(failed)?;
    let volume = Volume::mount(&disk.path, &point).map_err(failed)?;
    let mut session = start(&point, driver)?;
    let mut events = Vec::new();
    for number in 1..=EVENTS {
        let event = session.next_event().map_err(failed)?;
        events.push((disk.position(), event));
        if number < EVENTS {
            let written = write_back_sometimes(&point, random).map_err(failed)?;
            events.extend(written.map(|event| (disk.position(), event)));
            session.go_on().map_err(failed)?;
        }
    }
    session.kill().map_err(failed)?;
    volume.unmount().map_err(failed)?;
    Ok((disk.unmount().map_err(failed)?, events))
}
