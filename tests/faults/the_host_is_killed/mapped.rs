//! No file of the cache is mapped into the host's memory: a fault of the disk would be a SIGBUS.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings};
use crate::child::{ChildProcess, say};
use crate::machine::{Need, command, scratch, text, trials};
use crate::operations;

pub fn trials_of_kind() -> Vec<Trial> {
    let strace = &[Need::Tool("strace")];
    [
        trials("the_host_is_killed::no_file_is_mapped_after_a_call", &[], mapped_after_a_call),
        trials("the_host_is_killed::no_file_is_mapped_within_a_call", strace, mapped_within_a_call),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("look for mappings", [driver, directory]) => look_for_mappings(Driver::of_name(driver), Path::new(directory)),
        ("map a file", [file]) => map_a_file(Path::new(file)),
        _ => return false,
    }
    true
}

/// Which files of a directory are mapped.
fn mappings(directory: &Path) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(text(directory))).map(str::to_owned).collect()
}

/// Looks after each operation, and all the time on a thread.
fn look_for_mappings(driver: Driver, directory: &Path) {
    let has_ended = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        let meanwhile = scope.spawn(|| {
            let mut found = Vec::new();
            while !has_ended.load(Ordering::Relaxed) && found.is_empty() {
                found = mappings(directory);
            }
            found.into_iter().map(|line| format!("meanwhile: {line}")).next()
        });
        let after = perform_and_look(driver, directory);
        has_ended.store(true, Ordering::Relaxed);
        after.or(meanwhile.join().unwrap())
    });
    say(&found.unwrap_or_else(|| "nothing is mapped".to_owned()));
}

fn perform_and_look(driver: Driver, directory: &Path) -> Option<String> {
    let look = |name: &str| mappings(directory).first().map(|line| format!("after {name}: {line}"));
    let cache = operations::open(directory, driver).unwrap();
    let mut found = look("open");
    let reader = cache.open_for_read(operations::KEPT).unwrap();
    for (name, operation) in operations::ALL {
        let status = operation(&cache);
        assert_eq!(status, 0, "{name}");
        found = found.or_else(|| look(name));
    }
    let second = Cache::open(directory, Settings::new(driver).max_size(0)).unwrap();
    assert_eq!(second.prune().unwrap().0, 0, "the image is in use");
    drop(reader);
    assert_eq!(second.prune().unwrap().0, 1);
    found = found.or_else(|| look("a second handle's prune"));
    drop(second);
    assert_eq!(cache.delete_all().unwrap(), 0);
    found = found.or_else(|| look("delete_all"));
    drop(cache);
    found = found.or_else(|| look("close"));
    // The directory has changed without the index.
    std::fs::write(directory.join("foreign"), b"12345").unwrap();
    let cache = Cache::open(directory, Settings::new(driver)).unwrap();
    assert_eq!(cache.list_cached().unwrap().len(), 1);
    found.or_else(|| look("a rebuild"))
}

fn mapped_after_a_call(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let mut child = ChildProcess::start("look for mappings", &[driver.name(), text(&scratch.path().join("cache"))]);
    child.expect("nothing is mapped")?;
    child.finish()
}

fn map_a_file(file: &Path) {
    use std::os::fd::AsFd as _;
    let file = std::fs::File::open(file).unwrap();
    let (protection, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::PRIVATE);
    // SAFETY: nothing is read through the mapping.
    unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, protection, flags, file.as_fd(), 0) }.unwrap();
    say("mapped");
}

/// Which calls of a child's task map files of a directory, as its system calls show.
fn traced(task: &str, arguments: &[&str], directory: &Path) -> Result<Vec<String>, Failed> {
    let scratch = scratch();
    let trace = scratch.path().join("trace");
    let program = std::env::current_exe().unwrap();
    let mut strace = command("strace");
    strace.args(["-f", "-y", "-qq", "-e", "trace=mmap", "-o", text(&trace), "--", text(&program)]).args(arguments);
    let mut child = ChildProcess::spawn(task, &mut strace);
    child.hear()?;
    child.finish()?;
    let trace = std::fs::read_to_string(&trace).unwrap();
    Ok(trace.lines().filter(|line| line.contains(text(directory))).map(str::to_owned).collect())
}

fn mapped_within_a_call(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let control = scratch.path().join("control");
    std::fs::write(&control, [1; 4096]).unwrap();
    let found = traced("map a file", &[text(&control)], &control)?;
    assert_eq!(found.len(), 1, "the trace shows a mapping");
    let directory = scratch.path().join("cache");
    let found = traced("look for mappings", &[driver.name(), text(&directory)], &directory)?;
    found.first().map_or(Ok(()), |line| Err(line.clone().into()))
}
