//! Power cuts: an image that was committed with durability full is there, whole, after a cut. With either durability
//! nothing wrong is served.
//!
//! There are two kinds of cuts, on ext4 and XFS, with either driver and each durability. A shutdown call stops a file
//! system (`shutdown`). A disk that logs writes and flushes loses, tears and reorders what was not flushed
//! (`reordered`). Before each cut a random workload reports its actions (`workload`, `events`), from which follows what
//! may be there afterwards (`promises`). After the cut everything is checked (`check`).
//!
//! `IMAGE_CACHE_POWER_CUTS` sets the number of cuts. `IMAGE_CACHE_POWER_SEED` repeats the random choices.

mod check;
#[path = "../common/checks.rs"]
mod checks;
#[path = "../common/content.rs"]
mod content;
mod counters;
mod disk;
mod events;
mod logged_disk;
mod long_image;
mod long_streams;
mod promises;
mod reordered;
mod session;
mod shutdown;
mod streams;
mod volume;
mod workload;

use std::env;
use std::process::ExitCode;
use std::sync::Mutex;

use image_cache::DriverChoice;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use counters::Counters;
use session::{DRIVERS, Durabilities, driver_name};
use volume::FileSystem;

/// The number of cuts without the environment variable.
const DEFAULT_CUTS: usize = 72;

type Sweep = fn(FileSystem, DriverChoice, Durabilities, usize, &mut fastrand::Rng) -> Result<Counters, String>;

type LongSweep = fn(FileSystem, DriverChoice, usize, &mut fastrand::Rng) -> Result<long_streams::Counters, String>;

type Requirement = fn() -> Option<String>;

/// The kinds of cuts, with what they need beyond a file system.
const METHODS: [(&str, Sweep, Requirement); 2] =
    [("shutdown", shutdown::sweep, || None), ("reordered", reordered::sweep, logged_disk::missing_requirement)];

/// The same for long streams, each with one driver: the index has no part in a fetch.
const LONG_STREAMS: [(&str, LongSweep, Requirement, DriverChoice); 2] = [
    ("shutdown", long_streams::shutdown, || None, DriverChoice::Sqlite),
    ("reordered", long_streams::reordered, logged_disk::missing_requirement, DriverChoice::Xattr),
];

static LONG_COUNTERS: Mutex<long_streams::Counters> = Mutex::new(long_streams::Counters::NONE);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(session::WORKLOAD) => workload::run(&arguments[2..]),
        Some(long_image::STREAMER) => long_image::run(&arguments[2..]),
        _ => {}
    }
    let arguments = Arguments::from_args();
    let missing_requirement = volume::missing_requirement();
    let counts: &'static Mutex<Vec<(String, Counters)>> = Box::leak(Box::default());
    let kinds = METHODS.len() * FileSystem::ALL.len() * DRIVERS.len() * Durabilities::ALL.len();
    let cuts =
        number("IMAGE_CACHE_POWER_CUTS").map_or(DEFAULT_CUTS, |cuts| usize::try_from(cuts).unwrap_or(usize::MAX));
    let cuts = cuts.div_ceil(kinds);

    let mut trials = Vec::new();
    for (method, sweep, needs) in METHODS {
        for kind in FileSystem::ALL {
            let missing_requirement =
                missing_requirement.clone().or_else(needs).or_else(|| volume::missing_requirement_for(kind));
            for driver in DRIVERS {
                for durabilities in Durabilities::ALL {
                    let name = name_of(method, kind, driver, durabilities);
                    let skipped = arguments.list && missing_requirement.is_some();
                    let missing_requirement = missing_requirement.clone();
                    let trial = Trial::ignorable_test(name.clone(), move || match missing_requirement {
                        Some(reason) => Ok(Completion::ignored_with(reason)),
                        None => run_sweep(name, sweep, (kind, driver, durabilities), cuts, counts),
                    });
                    trials.push(trial.with_ignored_flag(skipped));
                }
            }
        }
    }
    for (method, sweep, needs, driver) in LONG_STREAMS {
        for kind in FileSystem::ALL {
            let missing_requirement =
                missing_requirement.clone().or_else(needs).or_else(|| volume::missing_requirement_for(kind));
            let name = format!("{method}::{}::{}::a_stream_goes_on_at_its_last_sync", kind.name(), driver_name(driver));
            let skipped = arguments.list && missing_requirement.is_some();
            let trial = Trial::ignorable_test(name, move || match missing_requirement {
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None => run_long_streams(sweep, kind, driver, cuts),
            });
            trials.push(trial.with_ignored_flag(skipped));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let counts = counts.lock().unwrap();
    let mut sum = Counters::default();
    for (name, counters) in counts.iter() {
        println!("{name:100} {counters}");
        sum += *counters;
    }
    if counts.len() > 1 {
        println!("swept: power: {sum}");
    }
    let long = LONG_COUNTERS.lock().unwrap();
    if long.cuts > 0 {
        println!("swept: power: {}", *long);
    }
    conclusion.exit_code()
}

fn run_long_streams(
    sweep: LongSweep,
    kind: FileSystem,
    driver: DriverChoice,
    cuts: usize,
) -> Result<Completion, Failed> {
    let seed = number("IMAGE_CACHE_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let counters = sweep(kind, driver, cuts, &mut fastrand::Rng::with_seed(seed))
        .map_err(|what| format!("IMAGE_CACHE_POWER_SEED={seed}: {what}"))?;
    LONG_COUNTERS.lock().unwrap().add(counters);
    Ok(Completion::Completed)
}

fn name_of(method: &str, kind: FileSystem, driver: DriverChoice, durabilities: Durabilities) -> String {
    let promise = match durabilities {
        Durabilities::Full => "a_committed_image_survives",
        Durabilities::None => "nothing_wrong_is_served",
        Durabilities::Both => "unsynced_commits_harm_no_synced_one",
    };
    format!("{method}::{}::{}::{promise}", kind.name(), driver_name(driver))
}

fn run_sweep(
    name: String,
    sweep: Sweep,
    (kind, driver, durabilities): (FileSystem, DriverChoice, Durabilities),
    cuts: usize,
    counts: &Mutex<Vec<(String, Counters)>>,
) -> Result<Completion, Failed> {
    let seed = number("IMAGE_CACHE_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let counters = sweep(kind, driver, durabilities, cuts, &mut random)
        .map_err(|what| format!("IMAGE_CACHE_POWER_SEED={seed}: {what}"))?;
    counts.lock().unwrap().push((name, counters));
    if counters.is_meaningful(durabilities) {
        Ok(Completion::Completed)
    } else {
        Err(format!("IMAGE_CACHE_POWER_SEED={seed}: there was nothing to find: {counters}").into())
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}
