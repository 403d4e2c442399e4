//! The process that fetches is killed at a random offset, while 100 threads in other processes read the image.

use std::time::{Duration, Instant};

use image_cache::{DriverChoice, ImageCache};
use rustix::process::Signal;

use crate::child::options;
use crate::processes::Process;
use crate::readers::{self, Round};
use crate::{driver_name, from_environment};

const PROCESSES: usize = 5;
const THREADS: usize = 20;

/// The threads of the process that is killed. It begins to fetch.
const FETCHERS: usize = 6;

/// The length of its reads, in bytes: it fetches the longest pieces.
const LONG_READ: usize = 2 << 20;

/// What a death may cost, in bytes: the longest piece.
const COST: u64 = 1 << 20;

/// The source's, in microseconds for a MiB: an image takes about a second.
const PACE: u64 = 330_000;

/// Descriptors that an idle handle of the SQLite driver opens late.
const LATE_DESCRIPTORS: u64 = 4;

/// Far below the source time-out of 30 s: nobody waits for the dead.
const LONGEST: Duration = Duration::from_secs(15);

/// Every fifth round nobody is killed, to compare the times.
const UNDISTURBED: usize = 5;

/// The most that a source returns, in bytes. The library has it return less.
const PIECES: [usize; 3] = [64 << 10, 256 << 10, 2 << 20];

#[derive(Default)]
struct Outcome {
    kills: u64,
    /// Kills within a call of the source of the killed process, or just after one.
    while_fetching: u64,
    whole: u64,
    readers: u64,
    /// Bytes that were fetched again, for each kill.
    again: Vec<u64>,
    /// The time until all were done, divided by that of the source alone: with and without a kill, for each piece size.
    times: [[Vec<f64>; 3]; 2],
}

/// Kills 5 times while the process fetches, or `IMAGE_CACHE_ROLES_KILLS` times. `IMAGE_CACHE_ROLES_SEED` repeats the random choices.
pub fn run(driver: DriverChoice) {
    let kills = from_environment("IMAGE_CACHE_ROLES_KILLS").unwrap_or(5);
    let seed = from_environment("IMAGE_CACHE_ROLES_SEED").unwrap_or_else(|| fastrand::u64(..1 << 20));
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let cache = ImageCache::open(directory.join("cache"), options(driver, false)).unwrap();
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| readers::start(directory, driver, THREADS)).collect();
    let mut outcome = Outcome::default();
    let mut number = 0;
    while outcome.while_fetching < kills {
        number += 1;
        let size = random.u64(2 << 20..4 << 20);
        let kind = random.usize(..PIECES.len());
        let is_expected = random.bool();
        let mut round = Round {
            number,
            size,
            piece: PIECES[kind],
            pace: PACE,
            is_expected,
            target: random.u64(..size),
            read: LONG_READ,
        };
        let is_killed = number % UNDISTURBED != 0;
        let delay = if random.u32(..4) == 0 { 2 } else { 1 } * round.latency(COST.min(round.piece as u64));
        let delay = delay.mul_f64(random.f64());
        let mut victim = readers::start(directory, driver, FETCHERS);
        let started = Instant::now();
        victim.send(&round.line());
        assert_eq!(victim.reply().unwrap(), "began");
        (round.target, round.read) = (readers::NO_TARGET, 0);
        for process in &mut processes {
            process.send(&round.line());
        }
        let mut has_fetched = false;
        if is_killed {
            // It has fetched at that offset, or got the whole image from others.
            has_fetched = victim.reply().unwrap() == "reached";
            // A sleep is right here: any moment is.
            std::thread::sleep(if has_fetched { delay } else { Duration::ZERO });
            victim.signal(Signal::KILL);
        }
        let whole = processes.iter().map(|process| whole(process, seed, &round)).sum::<u64>();
        let took = started.elapsed();
        drop(victim);
        assert!(took < LONGEST, "seed {seed}: {round:?} took {took:?}");
        assert!(cache.is_cached(&round.image().id).unwrap(), "seed {seed}: after {round:?} the image is not cached");
        cache.delete_cached_image(&round.image().id).unwrap();
        let fetched: u64 = readers::calls(directory, number).iter().map(|(_, length)| length).sum();
        let again = fetched - size;
        assert!(again <= if is_killed { COST } else { 0 }, "seed {seed}: {round:?}: {again} bytes were fetched again");
        outcome.whole += whole;
        outcome.readers += (PROCESSES * THREADS) as u64;
        outcome.times[usize::from(is_killed)][kind].push(took.div_duration_f64(round.latency(size)));
        if is_killed {
            outcome.kills += 1;
            outcome.while_fetching += u64::from(has_fetched);
            outcome.again.push(again);
        }
    }
    outcome.print(driver, seed);
    for process in processes {
        process.finish().unwrap();
    }
    assert_eq!(outcome.whole, outcome.readers, "seed {seed}");
}

/// How many readers of a process got the whole image. The others' failures are on the standard error.
fn whole(process: &Process, seed: u64, round: &Round) -> u64 {
    let reply = process.reply().unwrap_or_else(|failure| panic!("seed {seed}: {round:?}: {failure}"));
    let (whole, left) = reply.split_once(' ').unwrap();
    assert!(left.parse::<u64>().unwrap() <= LATE_DESCRIPTORS, "seed {seed}: {round:?}: {left} descriptors are left");
    whole.parse().unwrap()
}

impl Outcome {
    fn print(&self, driver: DriverChoice, seed: u64) {
        let most = self.again.iter().max().unwrap_or(&0) >> 10;
        let mean = (self.again.iter().sum::<u64>() / self.kills.max(1)) >> 10;
        println!(
            "swept: {} deaths, seed {seed}: {} kills, {} of them while fetching; {} of {} readers got the whole image; fetched again per kill: {mean} KiB on average, {most} KiB at most",
            driver_name(driver),
            self.kills,
            self.while_fetching,
            self.whole,
            self.readers,
        );
        for (kind, piece) in PIECES.iter().enumerate() {
            let [undisturbed, killed] = [0, 1].map(|killed| figures(&self.times[killed][kind]));
            println!(
                "  sources of at most {} KiB a call: time against the source's: {undisturbed}; with a kill {killed}",
                piece >> 10
            );
        }
    }
}

fn figures(times: &[f64]) -> String {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let Some(longest) = times.last() else { return "no round".to_owned() };
    format!("{:.3} (median of {}), {longest:.3} (longest)", times[times.len() / 2], times.len())
}
