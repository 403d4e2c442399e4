//! The work of child processes, by name.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use image_cache::{Algorithm, Durability, ImageCache, Options};

use crate::bench::{driver_of_name, open_with_limit};
use crate::caches::{IMAGE_BYTES, name_of};
use crate::child::{Competed, Fetched, LEFT_BY_A_CRASH, Listed, MARKS, Writers, print};
use crate::content::{pieces, random_bytes};
use crate::floor::Directory;
use crate::measure::{Latencies, new_latencies, quantile, seconds};
use crate::piped_child::wait_for_parent;
use crate::rows::commits::commit_once;
use crate::rows::hits::hit_once;
use crate::{storm, waiting};

/// Does the named work, and prints the result.
pub fn work(arguments: &[String]) -> Result<()> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list", directory, driver] => print(&list(directory, driver)?),
        ["writers", directory, driver] => print(&writers(directory, driver)?),
        ["crash", directory, driver] => crash(directory, driver),
        ["marked-hits", directory, driver, hits] => marked_hits(directory, driver, hits.parse()?),
        ["writes-of-hits", directory, driver, hits] => print(&writes_of_hits(directory, driver, hits.parse()?)?),
        ["compete", directory, who, threads, duration] => {
            let duration = Duration::from_secs_f64(duration.parse()?);
            print(&compete(directory, who, threads.parse()?, duration)?)
        }
        ["stream", directory, readers, size] => print(&stream(directory, readers.parse()?, size.parse()?)?),
        ["storm", readers] => storm::reader::work(readers),
        ["wait", directory, readers] => waiting::work(directory, readers.parse()?),
        ["neighbour", directory, driver, "clean", length] => clean(directory, driver, length.parse()?),
        ["neighbour", directory, driver, "compare"] => compare(directory, driver),
        ["neighbour", directory, driver, "scan"] => scan(directory, driver),
        ["neighbour", directory, _, "lock"] => lock_the_index(directory),
        ["neighbour", directory, driver, "commit"] => commit(directory, driver),
        _ => bail!("no child process does {arguments:?}"),
    }
}

fn open(directory: &str, driver: &str) -> Result<ImageCache> {
    open_with_limit(Path::new(directory), driver_of_name(driver), u64::MAX)
}

fn list(directory: &str, driver: &str) -> Result<Listed> {
    let cache = open(directory, driver)?;
    let before = memory("VmRSS")?;
    // Resets the peak, if the kernel permits. Otherwise VmHWM is the peak since the process began.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    // The filter consumes each image, since the iterator is lazy.
    let (seconds, images) = seconds(|| Ok(cache.list_cached()?.filter(|image| image.size == IMAGE_BYTES).count()))?;
    let peak = memory("VmHWM")?;
    Ok(Listed { images, seconds, peak_growth: peak.saturating_sub(before) })
}

fn writers(directory: &str, driver: &str) -> Result<Writers> {
    const COUNT: usize = 32;
    // Enough that the digests are computed on threads.
    const WRITTEN: usize = 16 << 20;
    let cache = open(directory, driver)?;
    let piece = vec![0x5A; 1 << 20];
    let before = memory("VmRSS")?;
    let mut writers = Vec::with_capacity(COUNT);
    for number in 0..COUNT {
        let mut writer = cache.begin_write(&name_of(number))?;
        // No writer commits, so any digest works.
        writer.expect_digest(Algorithm::Md5, &"0".repeat(32))?;
        writer.expect_digest(Algorithm::Sha256, &"0".repeat(64))?;
        (0..WRITTEN / piece.len()).try_for_each(|_| writer.write_chunk(&piece))?;
        writers.push(writer);
    }
    let grown = memory("VmRSS")?.saturating_sub(before);
    Ok(Writers { count: writers.len(), written: WRITTEN, grown })
}

/// Leaves the state of a crash between an image's rename and its index entry, with another image half written.
fn crash(directory: &str, driver: &str) -> Result<()> {
    let cache = open(directory, driver)?;
    let mut half = cache.begin_write("half-written")?;
    half.write_chunk(b"half")?;
    File::create_new(Path::new(directory).join(LEFT_BY_A_CRASH))?.write_all(b"whole")?;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    bail!("SIGKILL did not kill")
}

fn marked_hits(directory: &str, driver: &str, hits: usize) -> Result<()> {
    let cache = open(directory, driver)?;
    let names = names_in(directory)?;
    let mut mark = File::options().write(true).open("/dev/null")?;
    mark.write_all(MARKS[0].as_bytes())?;
    hit_many(&cache, &names, hits)?;
    mark.write_all(MARKS[1].as_bytes())?;
    Ok(())
}

fn hit_many(cache: &ImageCache, names: &[String], hits: usize) -> Result<()> {
    let mut buffer = [0; IMAGE_BYTES as usize];
    (0..hits).try_for_each(|number| hit_once(cache, &names[number % names.len()], &mut buffer))
}

/// The write calls of hits, by the kernel's count. The hits run at full speed, since those of one second are batched.
fn writes_of_hits(directory: &str, driver: &str, hits: usize) -> Result<u64> {
    let cache = open(directory, driver)?;
    let names = names_in(directory)?;
    let before = write_calls()?;
    hit_many(&cache, &names, hits)?;
    Ok(write_calls()? - before)
}

fn write_calls() -> Result<u64> {
    let counters = std::fs::read_to_string("/proc/self/io").context("/proc/self/io")?;
    let calls = counters.lines().find_map(|line| line.strip_prefix("syscw:")).context("no count of write calls")?;
    Ok(calls.trim().parse()?)
}

/// Tells the parent that the work begins.
fn begin() {
    println!();
}

/// Cleans one large file, once.
fn clean(directory: &str, driver: &str, length: usize) -> Result<()> {
    let cache = open(directory, driver)?;
    let mut file = File::create_new(Path::new(directory).join("invalid").join("large"))?;
    let piece = random_bytes(1 << 20);
    pieces(&piece, length).try_for_each(|piece| file.write_all(piece))?;
    file.sync_all()?;
    drop(file);
    begin();
    cache.clean(Some(Duration::ZERO))?;
    Ok(())
}

/// Compares the index with the directory again and again: another program changes the directory before each query.
fn compare(directory: &str, driver: &str) -> Result<()> {
    let cache = open(directory, driver)?;
    let changed = Path::new(directory).join(".changed");
    begin();
    loop {
        drop(File::create(&changed)?);
        std::fs::remove_file(&changed)?;
        cache.cache_size()?;
    }
}

/// Scans the directory again and again.
fn scan(directory: &str, driver: &str) -> Result<()> {
    let cache = open(directory, driver)?;
    begin();
    loop {
        cache.cache_size()?;
    }
}

/// Holds SQLite's lock without end, as another program can.
fn lock_the_index(directory: &str) -> Result<()> {
    let connection = rusqlite::Connection::open(Path::new(directory).join("cache.db"))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.execute_batch("BEGIN EXCLUSIVE")?;
    begin();
    loop {
        std::thread::park();
    }
}

/// Commits images, and deletes each.
fn commit(directory: &str, driver: &str) -> Result<()> {
    let options = Options::new().driver(driver_of_name(driver)).max_size(u64::MAX).durability(Durability::None);
    let cache = ImageCache::open(directory, options)?;
    begin();
    loop {
        commit_once(&cache, "committed")?;
        cache.delete_cached_image("committed")?;
    }
}

/// Waits for a line on stdin, then streams one image with many readers, which arrive within half a second. The source returns 12 MiB/s.
fn stream(directory: &str, readers: usize, size: usize) -> Result<Fetched> {
    const PIECE: usize = 64 << 10;
    const PER_PIECE: Duration = Duration::from_micros(5208);
    let cache = ImageCache::open(directory, Options::new().max_size(u64::MAX))?;
    let bytes = AtomicU64::new(0);
    println!();
    wait_for_parent()?;
    let began = Instant::now();
    let one = |number: usize| -> Result<f64> {
        std::thread::sleep(Duration::from_millis(500) * number as u32 / readers as u32);
        let source = |offset: u64, buffer: &mut [u8]| {
            std::thread::sleep(PER_PIECE);
            let length = buffer.len().min(size - offset as usize).min(PIECE);
            buffer[..length].fill(7);
            bytes.fetch_add(length as u64, Ordering::Relaxed);
            Ok(length)
        };
        let began = Instant::now();
        let mut stream = cache.stream("image", source)?;
        stream.expect_size(size as u64)?;
        let mut buffer = vec![0; PIECE];
        let mut read = stream.read(&mut buffer)?;
        let first_byte = began.elapsed().as_secs_f64();
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                length => read += length,
            }
        }
        anyhow::ensure!(read == size, "{read} bytes of {size}");
        Ok(first_byte)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let one = &one;
        let start = |number| scope.spawn(move || one(number));
        let threads: Vec<_> = (0..readers).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a reader panicked"))).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let first_bytes = results.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Fetched {
        whole: first_bytes.len(),
        size,
        bytes: bytes.into_inner(),
        seconds,
        first_bytes,
        first_byte: [0.0; 2],
    })
}

/// Waits for a line on stdin, then hits the same images as the other processes for `duration`.
fn compete(directory: &str, who: &str, threads: usize, duration: Duration) -> Result<Competed> {
    let names = names_in(directory)?;
    let cache = if who == "bare" { None } else { Some(open(directory, who)?) };
    let bare = Directory::open(Path::new(directory))?;
    let hit = |name: &str, buffer: &mut [u8]| match &cache {
        Some(cache) => hit_once(cache, name, buffer),
        None => bare.hit(name, buffer),
    };
    println!();
    wait_for_parent()?;
    let began = Instant::now();
    let parts: Vec<_> = std::thread::scope(|scope| {
        let start = |thread: usize| {
            let (names, hit) = (&names, &hit);
            scope.spawn(move || hit_until(began + duration, names, thread, hit))
        };
        let started: Vec<_> = (0..threads).map(start).collect();
        started.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut all = new_latencies();
    let mut errors = 0;
    for (latencies, failed) in parts {
        all.add(&latencies)?;
        errors += failed;
    }
    let latencies = all.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect();
    Ok(Competed {
        hits: all.len(),
        errors,
        seconds,
        p99: quantile(&all, 0.99),
        worst: all.max() as f64 / 1e9,
        latencies,
    })
}

/// The latencies of hits, and the number of failed ones.
fn hit_until(
    end: Instant,
    names: &[String],
    thread: usize,
    hit: &impl Fn(&str, &mut [u8]) -> Result<()>,
) -> (Latencies, u64) {
    let mut latencies = new_latencies();
    let mut errors = 0;
    let mut buffer = [0; IMAGE_BYTES as usize];
    for number in thread.. {
        let before = Instant::now();
        if before >= end {
            break;
        }
        match hit(&names[number % names.len()], &mut buffer) {
            // Only a latency of centuries does not fit.
            Ok(()) => drop(latencies.record(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX))),
            Err(error) => {
                if errors == 0 {
                    eprintln!("a hit failed: {error:#}");
                }
                errors += 1;
            }
        }
    }
    (latencies, errors)
}

/// The names of a few images, the same for every process.
fn names_in(directory: &str) -> Result<Vec<String>> {
    const FEW: usize = 100;
    let mut names: Vec<_> = std::fs::read_dir(directory)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("image-"))
        .collect();
    names.sort_unstable_by(|one, other| other.cmp(one));
    names.truncate(FEW);
    anyhow::ensure!(!names.is_empty(), "no image in {directory}");
    Ok(names)
}

/// A value of /proc/self/status, in bytes.
fn memory(line: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).context("no such line")?;
    let kibibytes: u64 = value.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
