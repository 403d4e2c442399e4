//! Someone who may only read stops everybody: whatever such a user locks or stops, others go on.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::c::{Cache, Driver, Settings, logged};
use crate::child::{ChildProcess, NOBODY, listen, say};
use crate::machine::{Need, Volume, scratch, text, trial, trials};
use crate::operations;

/// The kinds of locks that a descriptor for reading allows.
const LOCKS: [&str; 4] = ["flock_shared", "flock_exclusive", "ofd_lock", "posix_lock"];

pub fn trials_of_kind() -> Vec<Trial> {
    let root = &[Need::Root];
    let mut all = Vec::new();
    for kind in LOCKS {
        for driver in Driver::BOTH {
            let name = |case: &str| format!("only_readers::{case}::{kind}::{}", driver.name());
            let volume = &[Need::Root, Need::Volume("ext4")];
            all.push(trial(&name("locks_everything"), root, move || locks_everything(driver, kind)));
            if driver == Driver::Sqlite {
                all.push(trial(&name("locks_the_index_of_glance"), root, move || locks_glances_index(kind)));
            }
            all.push(trial(&name("locks_a_dead_writers_file"), root, move || locks_a_dead_writers_file(driver, kind)));
            all.push(trial(&name("locks_while_the_host_restarts"), volume, move || locks_at_a_restart(driver, kind)));
        }
    }
    all.push(trial("only_readers::lists_beside_the_index_of_glance::sqlite", root, lists_beside_glances_index));
    all.push(trial("only_readers::may_lock_the_index_of_another_user::sqlite", root, another_users_index));
    all.extend(trials("only_readers::exports_beside_a_private_directory", root, exports_beside_a_private_directory));
    all.extend(trials("only_readers::is_stopped_in_the_library", root, is_stopped_in_the_library));
    all
}

pub fn perform(task: &str, arguments: &[&str]) -> bool {
    match (task, arguments) {
        ("lock everything", [kind, directory]) => lock_everything(kind, Path::new(directory)),
        ("use beside a reader", [driver, directory]) => use_beside(Driver::of_name(driver), Path::new(directory)),
        ("write and wait", [driver, directory, length]) => {
            write_and_wait(Driver::of_name(driver), Path::new(directory), length.parse().unwrap());
        }
        ("publish and wait", [driver, directory]) => publish_and_wait(Driver::of_name(driver), Path::new(directory)),
        ("list and read", [directory]) => list_and_read(Path::new(directory)),
        ("export", [driver, directory]) => export(Driver::of_name(driver), Path::new(directory)),
        ("only read", [driver, directory]) => only_read(Driver::of_name(driver), Path::new(directory)),
        _ => return false,
    }
    true
}

/// Locks everything below a directory that can be opened, again and again, until the parent ends. Keeps all locks.
fn lock_everything(kind: &str, directory: &Path) {
    let listening = std::thread::spawn(|| while listen().is_some() {});
    let (mut locked, mut kept, mut rounds) = (BTreeSet::new(), Vec::new(), 0_u64);
    while !listening.is_finished() {
        lock_below(kind, directory, &mut locked, &mut kept);
        rounds += 1;
        if rounds == 1 {
            say("locked");
        }
    }
}

fn lock_below(kind: &str, path: &Path, locked: &mut BTreeSet<(u64, u64)>, kept: &mut Vec<File>) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let Ok(stat) = fs::symlink_metadata(path) else { return };
    let id = (stat.dev(), stat.ino());
    // A second close of a file would drop a POSIX lock on it. Thousands of files may come and go.
    if !locked.contains(&id) && kept.len() < 900 {
        let opened = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
        if let Some(file) = opened.ok().filter(|file| lock(kind, file)) {
            locked.insert(id);
            kept.push(file);
        }
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            lock_below(kind, &entry.path(), locked, kept);
        }
    }
}

fn lock(kind: &str, file: &File) -> bool {
    /// `F_RDLCK`, in the type of the field.
    const READ_LOCK: i16 = 0;
    let whole = libc::flock { l_type: READ_LOCK, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    let number = file.as_raw_fd();
    // SAFETY: the calls read what lives until they return.
    let outcome = unsafe {
        match kind {
            "flock_shared" => libc::flock(number, libc::LOCK_SH | libc::LOCK_NB),
            "flock_exclusive" => libc::flock(number, libc::LOCK_EX | libc::LOCK_NB),
            "ofd_lock" => libc::fcntl(number, libc::F_OFD_SETLK, &raw const whole),
            _ => libc::fcntl(number, libc::F_SETLK, &raw const whole),
        }
    };
    outcome == 0
}

/// Calls everything, and says what fails.
fn use_beside(driver: Driver, directory: &Path) {
    // Files that others may read.
    // SAFETY: the call takes a number.
    unsafe { libc::umask(0o022) };
    let early = operations::open(directory, driver).unwrap();
    say("opened");
    listen().unwrap();
    let mut problems = Vec::new();
    let mut slowest = (Duration::ZERO, "nothing");
    for round in 0..3 {
        let start = Instant::now();
        let late = match Cache::open(directory, Settings::new(driver).max_size(150_000)) {
            Ok(late) => late,
            Err(failure) => return say(&format!("open: {failure}")),
        };
        slowest = slowest.max((start.elapsed(), "open"));
        for cache in [&early, &late] {
            for (name, operation) in operations::ALL {
                let start = Instant::now();
                let status = operation(cache);
                slowest = slowest.max((start.elapsed(), name));
                if status != 0 {
                    problems.push(format!("{name}: {status}"));
                }
            }
        }
        let prunable = ["old", "older"].map(|id| late.write(&format!("{id} {round}"), &vec![1; 50_000]));
        if let Err(failure) = prunable.into_iter().collect::<Result<Vec<_>, _>>().and_then(|_| late.prune()) {
            problems.push(format!("prune: {failure}"));
        }
        if late.delete_all().is_err() || early.write(operations::KEPT, &operations::kept_bytes()).is_err() {
            problems.push("delete_all, write".to_owned());
        }
    }
    drop(early);
    if problems.is_empty() {
        say(&format!("all went well, the slowest call was {} in {:?}", slowest.1, slowest.0));
    } else {
        say(&format!("{}; logged: {}", problems.join("; "), logged()));
    }
}

/// A cache whose index Glance created, with a mode that lets everybody read it.
fn make_as_glance(directory: &Path, mode: u32) {
    for name in ["", "incomplete", "invalid", "queue"] {
        fs::create_dir(directory.join(name)).unwrap();
    }
    let database = directory.join("cache.db");
    let connection = rusqlite::Connection::open(&database).unwrap();
    let table = "CREATE TABLE cached_images (image_id TEXT PRIMARY KEY, last_accessed REAL DEFAULT 0.0,
        last_modified REAL DEFAULT 0.0, size INTEGER DEFAULT 0, hits INTEGER DEFAULT 0, checksum TEXT)";
    connection.execute_batch(table).unwrap();
    fs::set_permissions(&database, Permissions::from_mode(mode)).unwrap();
}

fn mode_of(file: &Path) -> u32 {
    fs::metadata(file).unwrap().mode() & 0o777
}

fn locks_glances_index(kind: &str) -> Result<(), Failed> {
    let driver = Driver::Sqlite;
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    make_as_glance(&directory, 0o644);
    let mut owner = ChildProcess::start("use beside a reader", &[driver.name(), text(&directory)]);
    owner.expect("opened")?;
    let mut locker = ChildProcess::start_as_nobody("lock everything", &[kind, text(&directory)]);
    locker.expect("locked")?;
    owner.tell("go on")?;
    let said = owner.hear()?;
    assert!(said.starts_with("all went well"), "{said}");
    assert_eq!(mode_of(&directory.join("cache.db")), 0o600);
    owner.finish()
}

/// A user who may only read still lists and reads everything.
fn lists_beside_glances_index() -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    make_as_glance(&directory, 0o664);
    let cache = operations::open(&directory, Driver::Sqlite)?;
    assert_eq!(mode_of(&directory.join("cache.db")), 0o660);
    let mut reader = ChildProcess::start_as_nobody("list and read", &[text(&directory)]);
    reader.expect("1 images, read Ok(100000)")?;
    reader.finish()?;
    drop(cache);
    Ok(())
}

fn list_and_read(directory: &Path) {
    let cache = Cache::open(directory, Settings::new(Driver::Sqlite)).unwrap();
    let listed = cache.list_cached().unwrap().len();
    say(&format!("{listed} images, read {:?}", cache.read(operations::KEPT).map(|bytes| bytes.len())));
}

/// Only the owner may change the mode. The log says what that means, and everything else goes on.
fn another_users_index() -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    make_as_glance(&directory, 0o664);
    for name in ["", "incomplete", "invalid", "queue", "cache.db"] {
        chown(directory.join(name), None, Some(NOBODY)).unwrap();
        let mode = if name == "cache.db" { 0o664 } else { 0o775 };
        fs::set_permissions(directory.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let mut member = ChildProcess::start_as_nobody("open and use", &[text(&directory)]);
    let said = member.hear()?;
    assert!(said.starts_with("size Ok(0), hits Ok(0)"), "{said}");
    assert_eq!(said.matches("can keep others waiting").count(), 1, "{said}");
    assert_eq!(mode_of(&directory.join("cache.db")), 0o664);
    member.finish()
}

fn locks_everything(driver: Driver, kind: &str) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut owner = ChildProcess::start("use beside a reader", &[driver.name(), text(&directory)]);
    owner.expect("opened")?;
    let mut locker = ChildProcess::start_as_nobody("lock everything", &[kind, text(&directory)]);
    locker.expect("locked")?;
    owner.tell("go on")?;
    let said = owner.hear()?;
    if !said.starts_with("all went well") {
        return Err(said.into());
    }
    println!("swept: beside a reading user's {kind}, {}: {said}", driver.name());
    owner.finish()
}

/// Begins to write an image, and waits to be killed.
pub fn write_and_wait(driver: Driver, directory: &Path, length: usize) {
    // SAFETY: the call takes a number.
    unsafe { libc::umask(0o022) };
    let cache = Cache::open(directory, Settings::new(driver)).unwrap();
    let mut writer = cache.begin_write("1").unwrap();
    writer.write_chunk(&vec![1; length]).unwrap();
    say("written");
    listen();
}

fn locks_a_dead_writers_file(driver: Driver, kind: &str) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let cache = operations::open(&directory, driver)?;
    let mut writer = ChildProcess::start("write and wait", &[driver.name(), text(&directory), "1000"]);
    writer.expect("written")?;
    writer.kill();
    let mut locker = ChildProcess::start_as_nobody("lock everything", &[kind, text(&directory)]);
    locker.expect("locked")?;
    assert!(directory.join("incomplete/1").exists());
    // In another process: these calls must not wait either.
    let mut owner = ChildProcess::start("use beside a dead writer", &[driver.name(), text(&directory)]);
    owner.expect("the image was queued, and written at once")?;
    owner.finish()?;
    assert_eq!(cache.read("1")?, b"hello");
    Ok(())
}

/// Publishes an image without a sync, and waits to be killed.
fn publish_and_wait(driver: Driver, directory: &Path) {
    let cache = Cache::open(directory, Settings::new(driver)).unwrap();
    cache.write("unsynced", &[1; 1000]).unwrap();
    say("published");
    listen();
}

/// The image was published without a sync before the volume was cut off. It may be torn.
fn locks_at_a_restart(driver: Driver, kind: &str) -> Result<(), Failed> {
    for with_locks in [false, true] {
        let mut volume = Volume::new("ext4", 64, &[])?;
        let directory = volume.join("cache");
        drop(operations::open(&directory, driver)?);
        let mut writer = ChildProcess::start("publish and wait", &[driver.name(), text(&directory)]);
        writer.expect("published")?;
        writer.kill();
        volume.sync();
        volume.mount_again()?;
        assert!(directory.join("unsynced").exists());
        let locker = with_locks
            .then(|| {
                let mut locker = ChildProcess::start_as_nobody("lock everything", &[kind, text(&directory)]);
                locker.expect("locked").map(|()| locker)
            })
            .transpose()?;
        let mut reader = ChildProcess::start("look for an image", &[driver.name(), text(&directory), "unsynced"]);
        let said = reader.hear()?;
        assert_eq!(said, "not cached", "with a reading user's locks: {with_locks}");
        reader.finish()?;
        drop(locker);
    }
    Ok(())
}

fn export(driver: Driver, directory: &Path) {
    let cache = Cache::open(directory, Settings::new(driver)).unwrap();
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    let exported = cache.export(operations::KEPT, &file);
    let length = file.metadata().unwrap().len();
    say(&exported.map_or_else(|failure| failure.to_string(), |()| format!("exported {length} bytes")));
}

/// A process with another umask has created one of the cache's own subdirectories.
fn exports_beside_a_private_directory(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut owner = ChildProcess::start("use in rounds", &[driver.name(), text(&directory)]);
    owner.expect("opened")?;
    let private = directory.join(".image_cache/pins");
    fs::create_dir_all(&private).unwrap();
    fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    let mut reader = ChildProcess::start_as_nobody("export", &[driver.name(), text(&directory)]);
    reader.expect(&format!("exported {} bytes", operations::kept_bytes().len()))?;
    reader.finish()?;
    owner.finish()
}

/// A user without permission to write uses the cache all the time.
fn only_read(driver: Driver, directory: &Path) {
    say("reading");
    loop {
        let cache = Cache::open(directory, Settings::new(driver)).unwrap();
        for (_, operation) in operations::ALL {
            operation(&cache);
        }
    }
}

/// That user is stopped at any moment.
fn is_stopped_in_the_library(driver: Driver) -> Result<(), Failed> {
    let scratch = scratch();
    let directory = scratch.path().join("cache");
    let mut owner = ChildProcess::start("use in rounds", &[driver.name(), text(&directory)]);
    owner.expect("opened")?;
    let mut reader = ChildProcess::start_as_nobody("only read", &[driver.name(), text(&directory)]);
    reader.expect("reading")?;
    for round in 0..40 {
        // Some moment of its work.
        (0..round * 2000).for_each(|_| std::hint::spin_loop());
        assert!(reader.stop(), "it ended");
        owner.tell("use")?;
        let said = owner.hear().map_err(|failed| format!("round {round}: {}", failed.message().unwrap_or_default()))?;
        assert_eq!(said, "all went well");
        reader.resume();
    }
    owner.finish()
}
