//! Beside a live Glance: its files in `incomplete/` have no lock. A dead writer of ours still blocks nobody.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use libtest_mimic::{Failed, Trial};
use tempfile::TempDir;

use crate::c::{BEING_CACHED, Cache, Driver, LOST, Settings, status_of};
use crate::child::{ChildProcess, say};
use crate::machine::{Need, age, text, trial, trials};

/// Seconds.
const STALL_TIME: u64 = 3600;

pub fn trials_of_kind() -> Vec<Trial> {
    let mut all: Vec<_> = [
        trials("beside_glance::a_foreign_file_is_a_live_writers", &[], a_foreign_file),
        trials("beside_glance::a_foreign_file_of_another_process", &[], a_foreign_writer),
        trials("beside_glance::a_stalled_foreign_file", &[], a_stalled_foreign_file),
        trials("beside_glance::a_foreign_file_after_the_clock_was_set_back", &[], after_the_clock_was_set_back),
        trials("beside_glance::a_foreign_file_and_clean", &[], a_foreign_file_and_clean),
        trials("beside_glance::glance_publishes_its_file", &[], glance_publishes),
        trials("beside_glance::glance_replaces_our_file", &[], glance_replaces_our_file),
    ]
    .into_iter()
    .flatten()
    .collect();
    for driver in Driver::BOTH {
        for length in [0, 1000, 9 << 20] {
            let name = format!("beside_glance::our_killed_writer_of_{length}_bytes::{}", driver.name());
            all.push(trial(&name, &[], move || our_killed_writer(driver, length)));
        }
        // Before each call that its begin and its abort make for the file or in its directory.
        for call in ["openat", "fcntl", "flock", "fsetxattr", "fchmod"] {
            let name = format!("beside_glance::our_writer_killed_before_{call}::{}", driver.name());
            all.push(trial(&name, &[Need::Tool("strace")], move || killed_before(driver, call)));
        }
    }
    all
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("write as Glance", [file]) => {
            let mut file = fs::File::create_new(file).unwrap();
            file.write_all(b"from Glance").unwrap();
            say("written");
            while crate::child::listen().is_some() {}
        }
        _ => return false,
    }
    true
}

struct Setup {
    scratch: TempDir,
    directory: PathBuf,
    cache: Cache,
}

impl Setup {
    fn new(driver: Driver) -> Result<Self, Failed> {
        let scratch = crate::machine::scratch();
        let directory = scratch.path().join("cache");
        let cache = Cache::open(&directory, Settings::new(driver).stall_time(STALL_TIME))?;
        Ok(Self { scratch, directory, cache })
    }

    /// A file in `incomplete/`, as a plain program makes it.
    fn add(&self, id: &str) -> PathBuf {
        let file = self.directory.join("incomplete").join(id);
        fs::write(&file, b"from Glance").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        file
    }

    /// An image that a live writer has.
    fn check_is_being_cached(&self, file: &Path) -> Result<(), Failed> {
        let (cache, id) = (&self.cache, file.file_name().unwrap().to_str().unwrap());
        let before = fs::read(file).unwrap();
        assert!(!cache.queue(id)?, "it is not queued");
        assert!(!cache.is_queued(id)? && cache.list_queued()?.is_empty());
        assert!(cache.is_being_cached(id)? && !cache.is_cached(id)? && !cache.is_cacheable(id)?);
        assert_eq!(status_of(&cache.begin_write(id)), BEING_CACHED);
        let mut data = &b"from the store"[..];
        let mut tee = cache.tee(id, &mut data)?;
        assert!(!tee.is_caching());
        assert_eq!(tee.read_all()?, b"from the store");
        drop(tee);
        assert!(!cache.is_cached(id)?);
        assert_eq!(fs::read(file).unwrap(), before, "the file is as it was");
        Ok(())
    }

    /// An image that nobody caches, whatever stands in `incomplete/`.
    fn check_is_taken_over(&self, id: &str) -> Result<(), Failed> {
        assert!(self.cache.queue(id)?, "it is queued");
        self.cache.write(id, b"hello")?;
        assert_eq!(self.cache.read(id)?, b"hello");
        assert!(!self.cache.is_being_cached(id)? && !self.cache.is_queued(id)?);
        Ok(())
    }
}

fn a_foreign_file(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    for seconds in [0, STALL_TIME - 600] {
        let file = setup.add(&format!("{seconds} old"));
        age(&file, seconds);
        setup.check_is_being_cached(&file)?;
    }
    // A handle that was opened afterwards sees the same.
    let setup = Setup { cache: Cache::open(&setup.directory, Settings::new(driver).stall_time(STALL_TIME))?, ..setup };
    setup.check_is_being_cached(&setup.directory.join("incomplete/0 old"))
}

fn a_foreign_writer(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let file = setup.directory.join("incomplete/1");
    let mut glance = ChildProcess::start("write as Glance", &[text(&file)]);
    glance.expect("written")?;
    setup.check_is_being_cached(&file)?;
    glance.finish()
}

fn a_stalled_foreign_file(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    age(&setup.add("1"), STALL_TIME + 600);
    setup.check_is_taken_over("1")?;
    age(&setup.add("2"), STALL_TIME + 600);
    let mut data = &b"from the store"[..];
    let mut tee = setup.cache.tee("2", &mut data)?;
    assert!(tee.is_caching());
    assert_eq!(tee.read_all()?, b"from the store");
    drop(tee);
    assert_eq!(setup.cache.read("2")?, b"from the store");
    Ok(())
}

fn a_foreign_file_and_clean(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let (fresh, old) = (setup.add("fresh"), setup.add("old"));
    age(&old, STALL_TIME + 600);
    assert_eq!(setup.cache.clean(-1)?, 1);
    assert!(fresh.exists() && !old.exists());
    assert_eq!(setup.cache.clean(0)?, 1);
    assert!(!fresh.exists());
    Ok(())
}

/// A file with an mtime in the future, which a live Glance may write. It stalls once it was seen like this for the stall time.
fn after_the_clock_was_set_back(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let file = setup.add("1");
    let written = |seconds| {
        let file = fs::File::options().write(true).open(&file).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    };
    written(10 * STALL_TIME);
    setup.check_is_being_cached(&file)?;
    // Handles that wait less, in this process and others.
    let open = || Cache::open(&setup.directory, Settings::new(driver).stall_time(2));
    let first = open()?;
    assert_eq!(status_of(&first.begin_write("1")), BEING_CACHED);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(status_of(&first.begin_write("1")), BEING_CACHED);
    written(20 * STALL_TIME);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(status_of(&first.begin_write("1")), BEING_CACHED, "it was written to meanwhile");
    drop(first);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(status_of(&setup.cache.begin_write("1")), BEING_CACHED, "with a longer stall time");
    open()?.write("1", b"hello")?;
    assert_eq!(setup.cache.read("1")?, b"hello");
    Ok(())
}

fn glance_publishes(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let file = setup.add("1");
    setup.check_is_being_cached(&file)?;
    fs::rename(&file, setup.directory.join("1")).unwrap();
    assert_eq!(setup.cache.read("1")?, b"from Glance");
    assert_eq!(setup.cache.list_cached()?.len(), 1);
    Ok(())
}

/// Glance truncates a file that it finds.
fn glance_replaces_our_file(driver: Driver) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let mut writer = setup.cache.begin_write("1")?;
    writer.write_chunk(b"hello")?;
    fs::write(setup.directory.join("incomplete/1"), b"from Glance").unwrap();
    assert_eq!(status_of(&writer.write_chunk(b" world")), LOST);
    assert_eq!(status_of(&writer.commit()), LOST);
    assert!(!setup.cache.is_cached("1")?);
    Ok(())
}

fn our_killed_writer(driver: Driver, length: usize) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let mut writer =
        ChildProcess::start("write and wait", &[driver.name(), text(&setup.directory), &length.to_string()]);
    writer.expect("written")?;
    let file = setup.directory.join("incomplete/1");
    setup.check_is_being_cached(&file)?;
    writer.kill();
    assert!(file.exists());
    setup.check_is_taken_over("1")
}

/// The file of a writer that was killed in its begin or its abort, in whatever state, blocks nobody.
fn killed_before(driver: Driver, call: &str) -> Result<(), Failed> {
    let setup = Setup::new(driver)?;
    let trace = setup.scratch.path().join("trace");
    let program = std::env::current_exe().unwrap();
    let mut kills = 0;
    for number in 1..=40 {
        let id = format!("image {number}");
        let inject = format!("inject={call}:signal=SIGKILL:when={number}");
        let mut strace = crate::machine::command("strace");
        strace.args(["-f", "-qq", "-o", text(&trace), "-e", &inject, "-P", text(&setup.directory.join("incomplete"))]);
        strace.args(["-P", text(&setup.directory.join("incomplete").join(&id)), "--", text(&program)]);
        strace.args([driver.name(), text(&setup.directory), &id]);
        let mut child = ChildProcess::spawn("begin to write", &mut strace);
        // It is killed in its begin, or in its abort after it said how that ended.
        let _ = child.hear();
        if child.end()?.success() {
            // It made fewer of these calls.
            break;
        }
        kills += 1;
        setup.check_is_taken_over(&id)?;
    }
    println!("swept: writers killed before {call}, {}: {kills}", driver.name());
    Ok(())
}
