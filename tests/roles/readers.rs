//! Child processes whose threads all stream one image at a time, from a paced source that records each call in a file.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use image_cache::{Algorithm, DriverChoice, ImageCache};

use crate::child::options;
use crate::images::Image;
use crate::processes::Process;
use crate::{driver_name, resources};

/// A target that no source reports.
pub const NO_TARGET: u64 = u64::MAX;

/// The lengths of the threads' reads, in bytes.
const READS: [usize; 3] = [64 << 10, 100_000, 2 << 20];

/// What the readers of a round stream, and how.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub number: usize,
    /// The image's, in bytes.
    pub size: u64,
    /// The most that a source returns, in bytes.
    pub piece: usize,
    /// How long a source takes for a MiB, in microseconds.
    pub pace: u64,
    /// Whether size and digest are expected.
    pub is_expected: bool,
    /// The process prints a line when one of its sources is called first, and when one is called at this offset or after it.
    pub target: u64,
    /// The length of each read, in bytes; 0: that of [`READS`].
    pub read: usize,
}

impl Round {
    pub fn image(&self) -> Image {
        Image::new(format!("round-{}", self.number), self.size, self.number)
    }

    /// How long the source takes for that many bytes.
    pub fn latency(&self, bytes: u64) -> Duration {
        Duration::from_micros((bytes * self.pace) >> 20)
    }

    pub fn line(&self) -> String {
        let Self { number, size, piece, pace, is_expected, target, read } = self;
        format!("{number} {size} {piece} {pace} {} {target} {read}", u64::from(*is_expected))
    }

    fn parse(line: &str) -> Self {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [number, size, piece, pace, is_expected, target, read] = numbers[..] else { panic!("{line} is no round") };
        let [number, piece, read] = [number, piece, read].map(|number| usize::try_from(number).unwrap());
        Self { number, size, piece, pace, is_expected: is_expected == 1, target, read }
    }
}

/// Starts a process of that many readers.
pub fn start(directory: &Path, driver: DriverChoice, threads: usize) -> Process {
    let process = Process::start(&["readers", directory.to_str().unwrap(), driver_name(driver), &threads.to_string()]);
    assert_eq!(process.reply().unwrap(), "ready");
    process
}

/// The calls of all sources in a round: offset and length in bytes.
pub fn calls(directory: &Path, number: usize) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(directory.join(format!("calls-{number}"))).unwrap_or_default();
    let parse = |line: &str| line.split_once(' ').map(|(at, length)| (at.parse().unwrap(), length.parse().unwrap()));
    text.lines().filter_map(parse).collect()
}

/// In a child: streams one image for each line, and prints how many threads got it whole.
pub fn run(directory: &Path, driver: DriverChoice, threads: usize) {
    let cache = ImageCache::open(directory.join("cache"), options(driver, false)).unwrap();
    let idle = resources::descriptors().len();
    println!("ready");
    for line in io::stdin().lines() {
        let round = Round::parse(&line.unwrap());
        let image = round.image();
        let record = File::options().create(true).append(true).open(directory.join(format!("calls-{}", round.number)));
        let record = record.unwrap();
        let reached = [OnceLock::new(), OnceLock::new()];
        let whole = thread::scope(|scope| {
            let read = |thread| read_whole(&cache, &round, &image, &record, &reached, thread);
            let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || read(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        drop(record);
        whole.iter().filter_map(|outcome| outcome.as_ref().err()).for_each(|failure| eprintln!("{failure}"));
        // Above those of the idle handle, the SQLite driver may have opened some.
        let left = resources::descriptors().len().saturating_sub(idle);
        println!("{} {left}", whole.iter().filter(|outcome| outcome.is_ok()).count());
    }
}

fn read_whole(
    cache: &ImageCache,
    round: &Round,
    image: &Image,
    mut record: &File,
    [began, reached]: &[OnceLock<()>; 2],
    thread: usize,
) -> Result<(), String> {
    let source = |offset: u64, buffer: &mut [u8]| {
        let left = usize::try_from(round.size.saturating_sub(offset)).unwrap();
        let length = left.min(buffer.len()).min(round.piece);
        record.write_all(format!("{offset} {length}\n").as_bytes())?;
        if round.target < round.size {
            began.get_or_init(|| println!("began"));
            if offset >= round.target {
                reached.get_or_init(|| println!("reached"));
            }
        }
        // A sleep is right here: it is the source's pace.
        thread::sleep(round.latency(length as u64));
        image.fill(offset, &mut buffer[..length]);
        Ok(length)
    };
    let failed = |error| format!("thread {thread} of process {}: {error}", std::process::id());
    let mut stream = cache.stream(&image.id, source).map_err(failed)?;
    if round.is_expected {
        stream.expect_size(image.size).map_err(failed)?;
        stream.expect_digest(Algorithm::Sha256, image.sha256()).map_err(failed)?;
    }
    let mut buffer = vec![0; if round.read > 0 { round.read } else { READS[thread % READS.len()] }];
    let mut position = 0;
    loop {
        let length = stream.read(&mut buffer).map_err(failed)?;
        image.verify(position, &buffer[..length])?;
        position += length as u64;
        if length == 0 {
            break;
        }
    }
    if position == image.size { Ok(()) } else { Err(format!("'{}' ends after {position} bytes", image.id)) }
}
