//! The run: it starts the processes, kills and stops some, fills the disk, samples, and checks what is left.
//!
//! `IMAGE_CACHE_LIMIT_SECONDS` is the length of each run, 8 s by default; `IMAGE_CACHE_LIMIT_DIRECTORY` is where the cache is,
//! for other file systems.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;
use image_cache::{DriverChoice, ImageCache, LimitMode, Options};
use rustix::process::Signal;

use crate::processes::Process;
use crate::sampler::{Sample, Sampler};

pub const LIMIT: u64 = 40 << 20;
pub const FLOOR: u64 = 24 << 20;
/// The size of the disk that is filled.
pub const DISK: u64 = 96 << 20;
const PROCESSES: usize = 4;
const INTERVAL: Duration = Duration::from_millis(10);

/// What the index and the records of streams may take of the disk between two samples.
const OWN_FILES: u64 = 1 << 20;

/// The limit, on a disk that has room.
pub fn run(name: &str, driver: DriverChoice) -> Result<(), String> {
    let scratch = match std::env::var_os("IMAGE_CACHE_LIMIT_DIRECTORY") {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    let directory = scratch.unwrap();
    let mut run = Run::new(&directory.path().join("cache"), name, driver);
    let end = Instant::now() + Duration::from_secs(seconds());
    while Instant::now() < end {
        std::thread::sleep(INTERVAL);
        run.check_limit()?;
        run.kill_or_stop();
    }
    let most = run.most;
    let directory = run.directory.clone();
    run.finish()?;
    if most.total() < LIMIT * 9 / 10 {
        return Err(format!("the limit was not reached: {most:?}"));
    }
    check_end(&directory, driver)
}

/// The floor, on a disk that another program fills. It does so under the prune lock, so that no reservation is in flight then.
///
/// From then on, only the cache changes what is free. Once the floor is reached, it must not be left again; until then, the cache must
/// not grow.
pub fn run_on_a_full_disk(name: &str, driver: DriverChoice, disk: &Path) -> Result<(), String> {
    let mut run = Run::new(&disk.join("cache"), name, driver);
    let end = Instant::now() + Duration::from_secs(seconds());
    let (mut fills, mut was_short) = (0, 0);
    while Instant::now() < end {
        let bytes = run.random.u64(0..DISK - FLOOR / 2);
        let Some(mut last) = run.sampler.fill(&disk.join("foreign"), bytes) else { continue };
        fills += 1;
        was_short += u64::from(last.free < FLOOR);
        for _ in 0..30 {
            std::thread::sleep(INTERVAL);
            let Some(sample) = run.check_limit()? else { continue };
            let grows = sample.total() > last.total();
            if sample.free + OWN_FILES < FLOOR && (last.free >= FLOOR || grows) {
                return Err(format!("the cache took room below the floor of {FLOOR}: {last:?}, then {sample:?}"));
            }
            last = sample;
        }
    }
    println!("{fills} fills, {was_short} below the floor");
    run.finish()?;
    if fills > 5 && was_short > 0 { Ok(()) } else { Err("the disk was not filled".to_owned()) }
}

fn seconds() -> u64 {
    std::env::var("IMAGE_CACHE_LIMIT_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

fn open(directory: &Path, driver: DriverChoice) -> ImageCache {
    ImageCache::open(directory, Options::new().driver(driver).max_size(LIMIT).limit_mode(LimitMode::Hard)).unwrap()
}

struct Run {
    directory: PathBuf,
    driver: String,
    sampler: Sampler,
    processes: Vec<Process>,
    random: Rng,
    started: u64,
    next_death: Instant,
    stopped: Option<(usize, Instant)>,
    samples: u64,
    most: Sample,
}

impl Run {
    fn new(directory: &Path, name: &str, driver: DriverChoice) -> Self {
        drop(open(directory, driver));
        let seed = fastrand::u64(0..1 << 32);
        println!("{name}: seed {seed}");
        let mut run = Self {
            directory: directory.to_owned(),
            driver: name.to_owned(),
            sampler: Sampler::new(directory),
            processes: Vec::new(),
            random: Rng::with_seed(seed),
            started: seed,
            next_death: Instant::now(),
            stopped: None,
            samples: 0,
            most: Sample::default(),
        };
        for _ in 0..PROCESSES {
            let process = run.start();
            run.processes.push(process);
        }
        run
    }

    fn start(&mut self) -> Process {
        self.started += 1;
        Process::start(&[self.directory.to_str().unwrap(), &self.driver, &self.started.to_string()])
    }

    fn kill_or_stop(&mut self) {
        let now = Instant::now();
        if let Some((index, until)) = self.stopped
            && now >= until
        {
            self.processes[index].signal(Signal::CONT);
            self.stopped = None;
        }
        if now >= self.next_death && self.stopped.is_none() {
            self.next_death = now + Duration::from_millis(self.random.u64(200..1500));
            let index = self.random.usize(0..PROCESSES);
            if self.random.u8(0..3) == 0 {
                self.processes[index].signal(Signal::STOP);
                self.stopped = Some((index, now + Duration::from_millis(self.random.u64(10..800))));
            } else {
                let new = self.start();
                std::mem::replace(&mut self.processes[index], new).kill();
            }
        }
    }

    /// `None` while another process has the cache lock.
    fn check_limit(&mut self) -> Result<Option<Sample>, String> {
        let processes: Vec<_> = self.processes.iter().map(Process::id).collect();
        let Some(sample) = self.sampler.sample(&processes) else { return Ok(None) };
        self.samples += 1;
        if sample.total() > self.most.total() {
            self.most = sample;
        }
        if sample.total() > LIMIT {
            return Err(format!(
                "the cache takes up {} bytes more than its limit of {LIMIT}: {sample:?} {:?}\n{}",
                sample.total() - LIMIT,
                self.sampler.nameless(),
                listing(&self.directory)
            ));
        }
        Ok(Some(sample))
    }

    fn finish(mut self) -> Result<(), String> {
        if let Some((index, _)) = self.stopped.take() {
            self.processes[index].signal(Signal::CONT);
        }
        let mut sums = [0_u64; 3];
        for mut process in std::mem::take(&mut self.processes) {
            process.reply()?;
            process.end_input();
            let reply = process.reply()?;
            for (sum, count) in sums.iter_mut().zip(reply.split(' ')) {
                *sum += count.parse::<u64>().unwrap();
            }
            process.finish()?;
        }
        let [commits, refused, reads] = sums;
        println!(
            "swept: the limit: {} samples, at most {:?}; commits {commits}, refused {refused}, reads {reads}",
            self.samples, self.most
        );
        if commits > 5 && refused > 0 && reads > 5 && self.samples > 100 {
            Ok(())
        } else {
            Err("too little happened".to_owned())
        }
    }
}

fn listing(directory: &Path) -> String {
    let output = std::process::Command::new("ls").args(["-lsiRA", "--block-size=1"]).arg(directory).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is left is within the limit, whole, and usable.
fn check_end(directory: &Path, driver: DriverChoice) -> Result<(), String> {
    let cache = open(directory, driver);
    cache.clean(Some(Duration::ZERO)).map_err(|error| error.to_string())?;
    let usage = cache.usage().map_err(|error| error.to_string())?;
    let counted = Sampler::new(directory).sample(&[]).ok_or("the cache lock is taken")?;
    if (usage.incomplete, usage.reserved, usage.invalid, usage.deleted) != (0, 0, 0, 0) {
        return Err(format!("something is left: {usage:?}"));
    }
    if usage.cached != counted.named {
        return Err(format!("the ledger has {} bytes, the images take up {}", usage.cached, counted.named));
    }
    let mut writer = cache.begin_write("last").map_err(|error| error.to_string())?;
    writer.expect_size(LIMIT - (1 << 20)).map_err(|error| error.to_string())?;
    writer.abort("the end");
    Ok(())
}
