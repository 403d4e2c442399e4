//! Wrong bytes: nothing but what a writer wrote is published.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::FromRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, LOST, Settings, logged, status_of};
use crate::child::{ChildProcess, DEADLINE, listen, say, until};
use crate::machine::{Need, command, scratch, text, trials};
use crate::operations::{self, md5};

pub fn trials_of_kind() -> Vec<Trial> {
    [
        trials("wrong_bytes::prints_to_closed_standard_descriptors", &[], |driver| printing(driver, "012")),
        trials("wrong_bytes::prints_to_closed_standard_output", &[], |driver| printing(driver, "1")),
        trials("wrong_bytes::appended_before_the_commit", &[], appended_before_the_commit),
        trials("wrong_bytes::appended_during_the_sync", &[Need::Tool("strace")], appended_during_the_sync),
        trials("wrong_bytes::changed_during_the_commit", &[], changed_during_the_commit),
        trials("wrong_bytes::appended_between_chunks", &[], appended_between_chunks),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("print to closed descriptors", [driver, directory, closed]) => {
            print_to_closed(Driver::of_name(driver), Path::new(directory), closed);
        }
        ("append", [file]) => append(Path::new(file)),
        ("change", [file]) => change(Path::new(file)),
        ("commit", [driver, directory]) => commit(Driver::of_name(driver), Path::new(directory)),
        _ => return false,
    }
    true
}

fn printing(driver: Driver, closed: &str) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut child = ChildProcess::start("print to closed descriptors", &[driver.name(), text(&directory), closed]);
    let said = child.hear()?;
    let Some(counts) = said.strip_prefix("no byte is wrong: ") else { return Err(said.into()) };
    println!("swept: prints to closed descriptors, {}: {counts}", driver.name());
    child.finish()?;
    // Another look, at the files.
    for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
        let bytes = if entry.file_type().unwrap().is_file() { fs::read(entry.path()).unwrap() } else { continue };
        let is_printed = bytes.windows(PRINTED.len()).any(|window| window == PRINTED);
        assert!(!is_printed, "{} has what was printed", entry.path().display());
    }
    Ok(())
}

const PRINTED: &[u8] = b"the host prints this line\n";

/// The file behind a descriptor that is open for reading or writing. A descriptor for a path only can do no harm.
fn opened(number: i32) -> Option<String> {
    // SAFETY: the call only asks about the number.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFL) };
    let name = || {
        fs::read_link(format!("/proc/self/fd/{number}"))
            .map_or_else(|_| "closed again".to_owned(), |path| path.display().to_string())
    };
    (flags >= 0 && flags & libc::O_PATH == 0).then(name)
}

/// Uses a cache while one thread prints to the closed descriptors all the time, and another one looks at them.
fn print_to_closed(driver: Driver, directory: &Path, closed: &str) {
    // SAFETY: the duplicate is this function's. It is above the standard descriptors.
    let mut parent = unsafe { File::from_raw_fd(libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 100)) };
    operations::open_files();
    let closed: Vec<i32> = closed.bytes().map(|digit| i32::from(digit - b'0')).collect();
    let has_ended = AtomicBool::new(false);
    let (prints, looks) = (AtomicU64::new(0), AtomicU64::new(0));
    let closed = &closed;
    let end = AtOnce(&has_ended);
    // The threads start first: their start may open files.
    let start = Barrier::new(3);
    let until_the_end = |count: &AtomicU64, work: &mut dyn FnMut() -> bool| {
        start.wait();
        while !has_ended.load(Ordering::Relaxed) && work() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let print = || {
        until_the_end(&prints, &mut || {
            for &number in closed {
                // SAFETY: the bytes live until the call returns.
                unsafe { libc::write(number, PRINTED.as_ptr().cast(), PRINTED.len()) };
            }
            true
        });
    };
    let watch = || {
        let mut found = None;
        until_the_end(&looks, &mut || {
            found = closed.iter().find_map(|&number| Some(format!("{number} is open: {}", opened(number)?)));
            found.is_none()
        });
        found
    };
    let said = std::thread::scope(|scope| {
        scope.spawn(print);
        let watch = scope.spawn(watch);
        for &number in closed {
            // SAFETY: nothing of this process uses it from here on.
            unsafe { libc::close(number) };
        }
        start.wait();
        let used = catch_unwind(AssertUnwindSafe(|| use_and_check(driver, directory)));
        drop(end);
        let found = watch.join().unwrap().map_or(Ok(()), Err);
        used.unwrap_or_else(|_| Err("a call failed".to_owned())).and(found)
    });
    let counts = format!("{} prints, {} looks", prints.into_inner(), looks.into_inner());
    let said = said.map_or_else(|what| what, |()| format!("no byte is wrong: {counts}"));
    writeln!(parent, "{said}").unwrap();
}

struct AtOnce<'a>(&'a AtomicBool);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn use_and_check(driver: Driver, directory: &Path) -> Result<(), String> {
    let failed = |failure: crate::c::Failure| failure.to_string();
    for round in 0..2 {
        let durable = operations::open(directory, driver).map_err(failed)?;
        let cache = Cache::open(directory, Settings::new(driver)).map_err(failed)?;
        for number in 0..6 {
            let id = format!("{round}.{number}");
            let data = vec![round * 6 + number; 30_000];
            let written = (|| {
                let mut writer = if number % 2 == 0 { durable.begin_write(&id) } else { cache.begin_write(&id) }?;
                writer.expect_digest("md5", &md5(&data))?;
                data.chunks(7000).try_for_each(|chunk| writer.write_chunk(chunk))?;
                writer.commit()
            })();
            written.map_err(failed)?;
            if cache.read(&id).map_err(failed)? != data {
                return Err(format!("{id} has wrong bytes"));
            }
        }
        for (name, operation) in operations::ALL {
            let status = operation(&cache);
            if status != 0 {
                return Err(format!("{name}: {status}; logged: {}", logged()));
            }
        }
    }
    Ok(())
}

/// Another program appends to a file.
fn append(file: &Path) {
    fs::File::options().append(true).open(file).unwrap().write_all(b"12345").unwrap();
    say("appended");
}

fn appended_before_the_commit(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    for settings in [Settings::new(driver), Settings::new(driver).durable()] {
        let cache = Cache::open(&directory, settings)?;
        let mut writer = cache.begin_write("1")?;
        writer.write_chunk(b"hello")?;
        let mut child = ChildProcess::start("append", &[text(&directory.join("incomplete/1"))]);
        child.expect("appended")?;
        child.finish()?;
        assert_eq!(status_of(&writer.commit()), LOST);
        assert!(!cache.is_cached("1")?);
        assert_eq!(cache.size()?, 0);
    }
    Ok(())
}

fn appended_between_chunks(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = Cache::open(&directory, Settings::new(driver))?;
    let mut writer = cache.begin_write("1")?;
    writer.write_chunk(b"hello")?;
    let mut child = ChildProcess::start("append", &[text(&directory.join("incomplete/1"))]);
    child.expect("appended")?;
    child.finish()?;
    assert_eq!(status_of(&writer.write_chunk(b"world")), LOST);
    assert_eq!(status_of(&writer.commit()), LOST);
    assert!(!cache.is_cached("1")?);
    Ok(())
}

/// Commits an image, and says how that ends.
fn commit(driver: Driver, directory: &Path) {
    let cache = Cache::open(directory, Settings::new(driver).durable()).unwrap();
    let mut writer = cache.begin_write("1").unwrap();
    writer.write_chunk(b"hello").unwrap();
    say("written");
    listen().unwrap();
    say(&status_of(&writer.commit()).to_string());
}

/// The child's sync of the file takes long. Bytes are appended meanwhile.
fn appended_during_the_sync(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let file = directory.join("incomplete/1");
    let program = std::env::current_exe().unwrap();
    let mut strace = command("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P", text(&file)]);
    strace.args(["-e", "inject=fsync,fdatasync:delay_enter=500000", "--", text(&program)]);
    let mut child = ChildProcess::spawn("commit", strace.args([driver.name(), text(&directory)]));
    child.expect("written")?;
    child.tell("go on")?;
    // The program is the only child of strace.
    let tracer = child.id();
    let children = fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap();
    let is_in_a_sync = || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", children.trim())).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        [libc::SYS_fsync, libc::SYS_fdatasync].map(Some).contains(&number).then_some(())
    };
    until(DEADLINE, is_in_a_sync).ok_or("no sync was seen")?;
    File::options().append(true).open(&file).unwrap().write_all(b"12345").unwrap();
    child.expect(&LOST.to_string())?;
    child.finish()?;
    let cache = Cache::open(&directory, Settings::new(driver))?;
    assert_eq!((cache.is_cached("1")?, cache.list_cached()?, cache.size()?), (false, vec![], 0));
    Ok(())
}

/// Changes the file's length again and again until its name is gone.
fn change(file: &Path) {
    let mut opened = File::options().append(true).open(file).unwrap();
    let length = opened.metadata().unwrap().len();
    say("opened");
    listen().unwrap();
    while file.exists() {
        opened.write_all(b"x").unwrap();
        opened.set_len(length).unwrap();
    }
    say("ended");
}

/// Whatever the moment, the image is published with the bytes that were written, or lost.
fn changed_during_the_commit(driver: Driver) -> Result<(), Failed> {
    const LENGTH: usize = 1 << 20;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = Cache::open(&directory, Settings::new(driver).durable())?;
    let mut outcomes = BTreeMap::<i32, u64>::new();
    for round in 0..8 {
        let id = format!("{round}");
        let mut writer = cache.begin_write(&id)?;
        writer.write_chunk(&vec![7; LENGTH])?;
        let mut child = ChildProcess::start("change", &[text(&directory.join("incomplete").join(&id))]);
        child.expect("opened")?;
        // The child begins at some moment of the commit.
        child.tell("go on")?;
        let committed = status_of(&writer.commit());
        *outcomes.entry(committed).or_default() += 1;
        child.expect("ended")?;
        child.finish()?;
        if committed == 0 {
            let bytes = cache.read(&id)?;
            assert!(bytes.len() == LENGTH && bytes.iter().all(|&byte| byte == 7));
        } else {
            assert_eq!(committed, LOST, "round {round}");
            assert!(!cache.is_cached(&id)?, "a lost image is not cached");
        }
    }
    println!("swept: length changed during the commit, {}: {outcomes:?}", driver.name());
    Ok(())
}
