//! Child processes that stream: this program again. What their sources return is recorded in a file, one line for each piece.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image_cache::{DriverChoice, ImageCache, Options};

use crate::fixture::{assert_whole, content, fill, read_all};

const TASK: &str = "IMAGE_CACHE_STREAMS_TASK";

/// What a child does: how many threads stream an image of that size, in which cache, with which latency of the source. With no thread, it
/// is a writer of half of the image.
pub struct Task<'a> {
    pub directory: &'a Path,
    pub driver: DriverChoice,
    pub record: &'a Path,
    pub size: u64,
    pub threads: usize,
    pub latency: Duration,
}

pub fn own_task() -> Option<Vec<String>> {
    let task = std::env::var(TASK).ok()?;
    Some(task.split('\n').map(str::to_owned).collect())
}

/// A child process. Dropping it kills it.
pub struct Streamer {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Streamer {
    pub fn start(task: &Task<'_>) -> Self {
        let driver = if task.driver == DriverChoice::Sqlite { "sqlite" } else { "xattr" };
        let numbers = [task.size, task.threads as u64, u64::try_from(task.latency.as_micros()).unwrap()];
        let numbers = numbers.map(|number| number.to_string()).join("\n");
        let text = format!("{}\n{driver}\n{}\n{numbers}", task.directory.display(), task.record.display());
        let mut child = Command::new("/proc/self/exe")
            .env(TASK, text)
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut streamer = Self { child, output };
        assert_eq!(streamer.line(), "ready");
        streamer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has it begin to stream.
    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits until it has written half of the image.
    pub fn wait_for_half(&mut self) {
        assert_eq!(self.line(), "half");
    }

    /// How many of its threads got the whole image.
    pub fn finish(mut self) -> String {
        self.line()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pieces that all children's sources have returned: process, offset, length.
pub fn recorded(record: &Path) -> Vec<(u32, u64, u64)> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    let numbers = |line: &str| line.split(' ').map(|number| number.parse::<u64>().unwrap()).collect::<Vec<_>>();
    // The last line may be cut by a kill.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| numbers(line.trim_end()));
    lines.map(|numbers| (u32::try_from(numbers[0]).unwrap(), numbers[1], numbers[2])).collect()
}

/// In a child.
pub fn perform(task: &[String]) {
    // A child that outlives its parent is killed.
    // SAFETY: the call takes a number.
    unsafe { nix::libc::alarm(180) };
    let [directory, driver, record, size, threads, latency] = task else { panic!("{task:?} is no task") };
    let driver = if driver == "sqlite" { DriverChoice::Sqlite } else { DriverChoice::Xattr };
    let [size, threads, latency] = [size, threads, latency].map(|number| number.parse::<u64>().unwrap());
    let cache = ImageCache::open(directory, Options::new().driver(driver)).unwrap();
    if threads == 0 {
        return write_half(&cache, size);
    }
    let record = File::options().create(true).append(true).open(record).unwrap();
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let one = || {
        let source = |offset: u64, buffer: &mut [u8]| {
            std::thread::sleep(Duration::from_micros(latency));
            let length = buffer.len().min(usize::try_from(size.saturating_sub(offset)).unwrap()).min(64 << 10);
            fill(&mut buffer[..length], offset);
            (&record).write_all(format!("{} {offset} {length}\n", std::process::id()).as_bytes())?;
            Ok(length)
        };
        let mut stream = cache.stream("image", source).unwrap();
        assert_whole(&read_all(&mut stream, 100_000).unwrap(), size);
    };
    let whole = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        all.into_iter().filter_map(|thread| thread.join().ok()).count()
    });
    println!("{whole}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// A writer that never ends.
fn write_half(cache: &ImageCache, size: u64) {
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut writer = cache.begin_write("image").unwrap();
    writer.write_chunk(&content(size / 2)).unwrap();
    println!("half");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
