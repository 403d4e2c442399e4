//! Processes that die or stop.

use std::time::Duration;

use image_cache::DriverChoice;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::children::{Streamer, Task, recorded};
use crate::common::{Scratch, read_image};
use crate::fixture::assert_whole;
use crate::with_drivers;

const SIZE: u64 = 2 << 20;

/// The most that a source returns, in bytes: so much is in flight.
const PIECE: u64 = 64 << 10;

pub fn trials() -> Vec<Trial> {
    [
        with_drivers("a_killed_fetcher_costs_the_others_nothing_but_the_piece_in_flight", killed),
        with_drivers("a_stopped_fetcher_delays_the_others_for_the_source_timeout_only", stopped),
        with_drivers("a_stream_that_follows_a_writer_goes_on_in_its_file_when_it_dies", killed_writer),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Waits until the sources have returned that many bytes. Returns the process that fetched last.
fn fetched(record: &std::path::Path, bytes: u64) -> u32 {
    loop {
        let pieces = recorded(record);
        if pieces.iter().map(|(_, _, length)| length).sum::<u64>() >= bytes {
            return pieces.last().unwrap().0;
        }
        std::thread::yield_now();
    }
}

fn killed(driver: DriverChoice) {
    const THREADS: usize = 5;
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..10 {
        let scratch = Scratch::new(driver);
        drop(scratch.open());
        let record = scratch.path().with_extension("record");
        let latency = Duration::from_micros(300);
        let task = Task { directory: &scratch.path(), driver, record: &record, size: SIZE, threads: THREADS, latency };
        let mut children: Vec<_> = (0..4).map(|_| Streamer::start(&task)).collect();
        children.iter_mut().for_each(Streamer::go);
        let mut kills = 0;
        for _ in 0..2 {
            let fetcher = fetched(&record, random.u64(0..SIZE / 2) + kills * SIZE / 2);
            let Some(place) = children.iter().position(|child| child.pid() == fetcher) else { continue };
            children.remove(place).kill();
            kills += 1;
        }
        for child in children {
            assert_eq!(child.finish(), THREADS.to_string(), "round {round}");
        }
        let total: u64 = recorded(&record).iter().map(|(_, _, length)| length).sum();
        assert!(total <= SIZE + kills * PIECE, "round {round}: {total} bytes were fetched, with {kills} kills");
        assert_whole(&read_image(&scratch.open(), "image"), SIZE);
    }
}

fn stopped(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    drop(scratch.open());
    let record = scratch.path().with_extension("record");
    let latency = Duration::from_micros(300);
    let task = Task { directory: &scratch.path(), driver, record: &record, size: SIZE, threads: 3, latency };
    let mut first = Streamer::start(&task);
    first.go();
    fetched(&record, SIZE / 4);
    first.signal(Signal::SIGSTOP);
    let cache = scratch.open();
    let store = crate::fixture::Store::new(SIZE);
    let mut stream = cache.stream("image", store.source()).unwrap();
    stream.set_source_timeout(Duration::from_millis(50)).unwrap();
    assert_whole(&crate::fixture::read_all(&mut stream, 100_000).unwrap(), SIZE);
    first.signal(Signal::SIGCONT);
    assert_eq!(first.finish(), "3");
}

fn killed_writer(driver: DriverChoice) {
    let scratch = Scratch::new(driver);
    let cache = scratch.open();
    let record = scratch.path().with_extension("record");
    let latency = Duration::ZERO;
    let task = Task { directory: &scratch.path(), driver, record: &record, size: SIZE, threads: 0, latency };
    let mut writer = Streamer::start(&task);
    writer.go();
    writer.wait_for_half();
    let store = crate::fixture::Store::new(SIZE);
    let mut stream = cache.stream("image", store.source()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut position = 0;
    while position < SIZE / 2 {
        position += stream.read(&mut buffer).unwrap() as u64;
    }
    writer.kill();
    let rest = crate::fixture::read_all(&mut stream, 100_000).unwrap();
    assert_eq!((rest.len() as u64, store.fetched()), (SIZE / 2, SIZE / 2));
    assert_whole(&read_image(&cache, "image"), SIZE);
}
