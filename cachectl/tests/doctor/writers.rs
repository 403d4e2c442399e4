//! Incomplete files, and the processes that use the cache.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use image_cache::{DriverChoice, ImageCache, Options};
use libtest_mimic::Completion;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::Test;
use crate::cache::{Cache, Examined, doctor, examined};

pub const TESTS: &[(&str, bool, Test)] = &[
    ("nothing_is_found_while_others_write_and_delete", false, busy),
    ("a_dead_writer", false, dead),
    ("a_stalled_writer_and_a_stopped_process", false, stalled),
    ("a_cache_lock_that_is_never_released", false, locked),
    ("an_incomplete_file_of_another_program", false, another_program),
    ("a_fetch_that_its_stream_left", false, left_stream),
    ("files_of_the_future", false, future),
    ("glance_uses_the_directory", false, glance),
];

/// Has this program write an image, and wait.
pub const CHILD: &str = "--write-and-wait";

const DEADLINE: Duration = Duration::from_secs(60);

/// Writes a part of the image `three`, says so, and waits for the end of its input.
pub fn child(directory: &str) -> ExitCode {
    let driver = std::env::var("DRIVER").unwrap();
    let driver = if driver == "sqlite" { DriverChoice::Sqlite } else { DriverChoice::Xattr };
    let cache = ImageCache::open(directory, Options::new().driver(driver)).unwrap();
    let mut writer = cache.begin_write("three").unwrap();
    writer.write_chunk(b"a part").unwrap();
    std::io::stdout().write_all(b"written\n").unwrap();
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    writer.commit().unwrap();
    ExitCode::SUCCESS
}

/// A process that has written a part of `three`.
struct Writer(Child);

impl Writer {
    fn start(cache: &Cache) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([CHILD]).arg(&cache.path).env("DRIVER", if cache.is_sqlite() { "sqlite" } else { "xattr" });
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "written\n");
        Self(child)
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Examines it with a short stall time, until it has a finding.
fn until(cache: &Cache, number: &str) -> Examined {
    let config = cache.beside("config.toml");
    fs::write(&config, "stall-time = \"1s\"\n").unwrap();
    let began = Instant::now();
    loop {
        let mut command = doctor(&cache.path, &[]);
        command.env("IMAGE_CACHE_CONFIG", &config);
        let examined = examined(command);
        if examined.numbers().contains(&number) {
            return examined;
        }
        assert!(began.elapsed() < DEADLINE, "{number} was never found: {:#}", examined.json);
    }
}

/// Beside commits, aborts, deletions and reads of the same few images.
fn busy(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let (over, path) = (AtomicBool::new(false), &cache.path);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (over, options) = (&over, cache.options());
            scope.spawn(move || {
                let handle = ImageCache::open(path, options).unwrap();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    let id = format!("{thread}-{}", number % 3);
                    let mut writer = handle.begin_write(&id).unwrap();
                    writer.write_chunk(&[1; 3000]).unwrap();
                    writer.commit().unwrap();
                    drop(handle.open_for_read(&id).unwrap());
                    handle.delete_cached_image(&id).unwrap();
                    number += 1;
                }
            });
        }
        // The findings first: a failed assertion within the scope would leave the threads.
        let found: Vec<_> = (0..15).map(|_| cache.doctor(&[])).collect();
        over.store(true, Ordering::Relaxed);
        for found in found {
            // The index can change too often to be compared: that is not wrong.
            let is_busy = found.numbers().contains(&"IC048");
            found.assert_only(if is_busy { &["IC048"] } else { &[] });
        }
    });
    Completion::Completed
}

fn dead(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let writer = Writer::start(&cache);
    cache.doctor(&[]).assert_only(&[]);
    drop(writer);
    let found = cache.doctor(&[]);
    assert!(found.numbers().contains(&"IC050"), "{:#}", found.json);
    assert!(found.items("IC050").contains("three: 6 B"));
    let fixed = cache.doctor(&["--fix"]);
    fixed.assert_only(&[]);
    assert!(fixed.fixed().contains(&"IC050") && !cache.file("incomplete/three").exists());
    Completion::Completed
}

fn stalled(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let mut writer = Writer::start(&cache);
    writer.signal("STOP");
    let process = format!("process {}", writer.0.id());
    let found = until(&cache, "IC051");
    assert!(found.items("IC051").contains(&format!("three: {process} wrote nothing for")), "{:#}", found.json);
    assert!(found.items("IC052").contains(&process));
    writer.signal("CONT");
    let input = writer.0.stdin.take();
    drop(input);
    assert!(writer.0.wait().unwrap().success());
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn locked(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let file = fs::OpenOptions::new().read(true).write(true).open(cache.file(".image_cache/lock")).unwrap();
    #[allow(clippy::cast_possible_truncation)]
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    cache.doctor(&[]).assert_only(&["IC053"]);
    drop(file);
    cache.doctor(&[]).assert_only(&[]);
    Completion::Completed
}

fn another_program(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    cache.write("incomplete/three", "of another program");
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC080"]);
    assert!(examined.items("IC080").contains("incomplete/three"));
    let file = fs::File::options().write(true).open(cache.file("incomplete/three")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(48 * 60 * 60)).unwrap();
    let found = cache.doctor(&[]);
    found.assert_only(&["IC054"]);
    assert!(found.items("IC054").contains("three: nothing was written for 2d"));
    assert_eq!(cache.doctor(&["--fix"]).fixed(), ["IC054"]);
    Completion::Completed
}

/// A source of 100 bytes.
struct Source;

impl image_cache::RangeSource for Source {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = usize::try_from(100 - offset.min(100)).unwrap().min(buffer.len()).min(10);
        buffer[..length].fill(7);
        Ok(length)
    }
}

fn left_stream(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let handle = cache.open();
    let mut stream = handle.stream("three", Source).unwrap();
    stream.expect_size(100).unwrap();
    let mut buffer = [0; 10];
    assert!(stream.read(&mut buffer).unwrap() > 0);
    cache.doctor(&[]).assert_only(&[]);
    drop(stream);
    drop(handle);
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC055"]);
    assert!(examined.items("IC055").contains("three: 10 B are there"), "{:#}", examined.json);
    Completion::Completed
}

fn future(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let file = fs::File::options().write(true).open(cache.file("one")).unwrap();
    let ahead = SystemTime::now() + Duration::from_secs(5 * 60 * 60);
    file.set_times(fs::FileTimes::new().set_accessed(ahead)).unwrap();
    let examined = cache.doctor(&[]);
    examined.assert_only(&["IC060"]);
    assert!(examined.items("IC060").contains("one: accessed 4h 59m from now"), "{:#}", examined.json);
    Completion::Completed
}

fn glance(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    let program = cache.beside("glance-api");
    fs::copy("/bin/cat", &program).unwrap();
    let image = fs::File::open(cache.file("one")).unwrap();
    // It waits for its input, and has an image open as its standard error.
    let mut child = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(image).spawn().unwrap();
    let examined = cache.doctor(&[]);
    let process = format!("process {}: {}", child.id(), program.display());
    child.kill().unwrap();
    child.wait().unwrap();
    examined.assert_only(&["IC080"]);
    assert!(examined.items("IC080").contains(&process));
    Completion::Completed
}
