//! Images that other processes have open: prune leaves them.

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};

use image_cache::{DriverChoice, ImageCache, Options};
use libtest_mimic::{Arguments, Completion, Trial};

use common::{DRIVERS, Scratch, cache_image, ids};

/// Has this program open an image in the cache in that directory.
const READER: &str = "IMAGE_CACHE_IN_USE_DIRECTORY";

fn main() -> ExitCode {
    if let Ok(directory) = std::env::var(READER) {
        read_until_told(&directory);
        return ExitCode::SUCCESS;
    }
    let both = |name: &str, test: fn(DriverChoice) -> Completion| {
        DRIVERS.map(|driver| Trial::ignorable_test(format!("{name} ({driver:?})"), move || Ok(test(driver))))
    };
    let trials = [
        both("an_image_that_a_reader_of_another_process_has_open_is_not_evicted", another_process),
        both("the_image_of_a_reader_that_was_killed_is_evicted", killed),
        both("an_image_that_qemu_has_open_by_its_path_is_not_evicted", qemu),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

fn read_until_told(directory: &str) {
    let cache = ImageCache::open(directory, Options::new())
        .or_else(|_| ImageCache::open(directory, Options::new().driver(DriverChoice::Xattr)));
    let cache = cache.unwrap();
    let _reader = cache.open_for_read("open").unwrap();
    println!("read");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Starts a process that prints a line with "read" once it has the image open, and ends with its input.
fn start(command: &mut Command) -> Option<Child> {
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        started => started.unwrap(),
    };
    // For qemu-io; the other process waits for the end only.
    child.stdin.as_mut().unwrap().write_all(b"read 0 512\n").unwrap();
    let output = BufReader::new(child.stdout.as_mut().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("read")), "it has not opened the image");
    Some(child)
}

/// Prunes everything while a process has the image open, and again after `end`.
fn prune_beside(scratch: &Scratch, command: &mut Command, end: fn(&mut Child)) -> Completion {
    let cache = scratch.open();
    cache_image(&cache, "open", &[1; 4096]);
    cache_image(&cache, "other", &[2; 4096]);
    let Some(mut child) = start(command) else { return Completion::ignored_with(format!("{command:?} is missing")) };
    cache.prune_to(0).unwrap();
    assert_eq!(ids(&cache), ["open"]);
    assert!(scratch.file("open").exists());
    assert!(cache.make_room(u64::MAX / 2).is_err() && ids(&cache) == ["open"]);
    end(&mut child);
    child.wait().unwrap();
    assert_eq!(cache.prune_to(0).unwrap().images, 1);
    assert!(ids(&cache).is_empty());
    Completion::Completed
}

fn close_input(child: &mut Child) {
    drop(child.stdin.take());
}

fn this_program(scratch: &Scratch) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(READER, scratch.path());
    command
}

fn another_process(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    prune_beside(&scratch, &mut this_program(&scratch), close_input)
}

fn killed(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    prune_beside(&scratch, &mut this_program(&scratch), |child| child.kill().unwrap())
}

fn qemu(driver: DriverChoice) -> Completion {
    let scratch = Scratch::new(driver);
    prune_beside(&scratch, Command::new("qemu-io").args(["-r", "-f", "raw"]).arg(scratch.file("open")), close_input)
}
