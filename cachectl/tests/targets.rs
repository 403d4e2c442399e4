//! Files that the caller names: `--textfile`, `--history`, `--html`. None of the cache, of another user, or of another kind is written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Cache, file};

const NOBODY: u32 = 65534;
/// More lines than a history has.
const LINES: usize = 20_161;

fn cache() -> Cache {
    let cache = Cache::new("sqlite");
    cache.add("cirros", b"the bytes of an image");
    cache
}

/// A history with so many lines.
fn history(path: &Path, lines: usize) -> String {
    let lines: Vec<_> = (1..=lines).map(|time| format!("{{\"time\":{time},\"images\":1,\"used\":2}}\n")).collect();
    file(path, lines.concat().as_bytes())
}

/// The three ways to write a file.
fn ways(target: &str) -> [Vec<&str>; 3] {
    [["metrics", "--textfile", target], ["metrics", "--history", target], ["report", "--html", target]].map(Vec::from)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A directory of another user's.
fn foreign(cache: &Cache) -> PathBuf {
    let directory = cache.beside("foreign");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    directory
}

#[test]
fn root_makes_no_program_of_another_users_history() {
    if !is_root() {
        return;
    }
    let cache = cache();
    let path = foreign(&cache).join("history.jsonl");
    let target = history(&path, LINES);
    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
    cache.run(&["metrics", "--history", &target]).expect(0);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 10_080);
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (NOBODY, 0o644));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn root_leaves_files_to_the_user_of_their_directory() {
    if !is_root() {
        return;
    }
    let cache = cache();
    let path = foreign(&cache).join("file");
    for arguments in ways(path.to_str().unwrap()) {
        cache.run(&arguments).expect(0);
        assert_eq!(fs::metadata(&path).unwrap().uid(), NOBODY, "{arguments:?}");
        fs::remove_file(&path).unwrap();
    }
    // A file of another user in root's directory, such as /tmp.
    let own = cache.beside("own.jsonl");
    let target = history(&own, 3);
    chown(&own, Some(NOBODY), None).unwrap();
    let refused = cache.run(&["metrics", "--history", &target]).expect(1);
    assert!(refused.stderr.contains("belongs to another user, 65534"), "{refused:?}");
    assert_eq!(fs::read_to_string(&own).unwrap().lines().count(), 3);
    // A user whose directory it is needs no right that root has: a closed directory is closed.
    let closed = cache.beside("foreign/closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o500)).unwrap();
    chown(&closed, Some(NOBODY), Some(NOBODY)).unwrap();
    for arguments in ways(closed.join("file").to_str().unwrap()) {
        cache.run(&arguments).expect(1);
    }
}

/// Without the right to keep the owner, lines would get another one.
#[test]
fn a_history_keeps_its_owner() {
    if !is_root() {
        return;
    }
    let cache = cache();
    let path = foreign(&cache).join("history.jsonl");
    let target = history(&path, LINES);
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(cache.scratch.path(), Permissions::from_mode(0o755)).unwrap();
    // That user may not reach the directory of the build.
    let program = cache.beside("program");
    fs::copy(env!("CARGO_BIN_EXE_image-cachectl"), &program).unwrap();
    let mut command = Command::new(&program);
    command.arg("-C").arg(cache.directory()).args(["metrics", "--history", &target]).current_dir(cache.scratch.path());
    common::run(command.env("IMAGE_CACHE_CONFIG", "/dev/null").uid(NOBODY).gid(NOBODY)).expect(0);
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), LINES + 1);
}

#[test]
fn root_follows_no_link_of_another_user() {
    if !is_root() {
        return;
    }
    let cache = cache();
    let own = cache.beside("own");
    fs::create_dir(&own).unwrap();
    symlink(&own, foreign(&cache).join("link")).unwrap();
    for arguments in ways("foreign/link/file") {
        let refused = cache.run(&arguments).expect(1);
        assert!(refused.stderr.contains("user 65534, who owns 'foreign', does not own"), "{refused:?}");
    }
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
}

#[test]
fn no_file_of_the_cache_is_written() {
    let cache = cache();
    let directory = cache.directory();
    let link = cache.beside("link-to-directory");
    symlink(directory.join("queue"), &link).unwrap();
    file(&directory.join("queue/foo"), b"queued");
    let hard = cache.beside("hard");
    fs::hard_link(directory.join("cirros"), &hard).unwrap();
    let names = ["cirros", ".image_cache/lock", "queue/foo", "cache.db", "new", "incomplete/new"];
    let inside = names.map(|name| directory.join(name));
    for target in inside.iter().chain([&link.join("foo"), &link.join("new"), &hard]) {
        let id = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.ino(), metadata.len()));
        let before = id(target);
        for arguments in ways(target.to_str().unwrap()) {
            let refused = cache.run(&arguments).expect(1);
            let why = if *target == hard { "another name" } else { "in the cache's directory" };
            assert!(refused.stderr.contains(why), "{arguments:?}: {refused:?}");
            // SQLite may write its index itself.
            assert!(id(target) == before || target.ends_with("cache.db"), "{arguments:?}");
        }
    }
    // An export has a check of its own.
    for target in [directory.join("queue/foo"), directory.join("new")] {
        cache.run(&["export", "cirros", target.to_str().unwrap(), "--force"]).expect(2);
    }
    assert!(fs::read(directory.join("queue/foo")).unwrap() == b"queued" && !directory.join("new").exists());
    let out = cache.beside("out");
    cache.run(&["export", "cirros", out.to_str().unwrap()]).expect(0);
    assert_eq!(fs::read(&out).unwrap(), b"the bytes of an image");
}

#[test]
fn a_file_that_is_no_history_stays_as_it_is() {
    let cache = cache();
    let path = cache.beside("log");
    let log: Vec<_> = (0..LINES).map(|line| format!("{{\"time\":\"2026-01-01\",\"line\":{line}}}\n")).collect();
    let log = log.concat();
    // An earlier version has appended a sample to the second one.
    for text in [log.clone(), log + "{\"time\":1,\"images\":1,\"used\":1}\n"] {
        let target = file(&path, text.as_bytes());
        let refused = cache.run(&["metrics", "--history", &target]).expect(1);
        assert!(refused.stderr.contains("is no sample"), "{refused:?}");
        assert!(fs::read_to_string(&path).unwrap() == text);
    }
}

#[test]
fn a_history_is_not_replaced_by_what_is_drawn_of_it() {
    let cache = cache();
    let path = cache.beside("history.jsonl");
    let target = history(&path, 3);
    let link = cache.beside("link.jsonl");
    symlink(&path, &link).unwrap();
    let before = fs::read(&path).unwrap();
    let other = link.to_str().unwrap();
    for (one, two) in [(target.as_str(), target.as_str()), (&target, other), (other, &target)] {
        cache.run(&["report", "--history", one, "--html", two]).expect(2);
        cache.run(&["metrics", "--history", one, "--textfile", two]).expect(2);
    }
    // A link stays a link, also when the older half is dropped.
    history(&path, LINES);
    let refused = cache.run(&["metrics", "--history", other]).expect(1);
    assert!(refused.stderr.contains("symbolic link"), "{refused:?}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), LINES);
    history(&path, 3);
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Runs it for at most 20 s.
fn bounded(cache: &Cache, arguments: &[&str]) -> i32 {
    let mut child = cache.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("{arguments:?} hangs");
}

#[test]
fn who_locks_the_history_does_not_stop_the_metrics() {
    let cache = cache();
    let path = cache.beside("history.jsonl");
    let arguments = ["metrics", "--textfile", "image.prom", "--history", "history.jsonl"];
    cache.run(&arguments).expect(0);
    fs::remove_file(cache.beside("image.prom")).unwrap();
    let reader = File::open(&path).unwrap();
    reader.lock_shared().unwrap();
    assert_eq!(bounded(&cache, &arguments), 1);
    assert!(cache.beside("image.prom").exists());
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    drop(reader);
    cache.run(&arguments).expect(0);
    // Others cannot read it, and so not lock it.
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o137, 0);
}

#[test]
fn a_pipe_is_no_history() {
    let cache = cache();
    assert!(Command::new("mkfifo").arg(cache.beside("pipe")).status().unwrap().success());
    assert_eq!(bounded(&cache, &["report", "--history", "pipe", "--html", "report.html"]), 1);
    assert_eq!(bounded(&cache, &["metrics", "--history", "pipe"]), 1);
}

#[test]
fn samples_of_any_time_and_number_are_drawn() {
    let cache = cache();
    let most = u64::MAX;
    let line =
        |time| format!("{{\"time\":{time},\"images\":{most},\"used\":{most},\"hits\":{most},\"misses\":{most}}}\n");
    let target = file(&cache.beside("history.jsonl"), (line(1) + &line(1_790_000_000) + &line(most)).as_bytes());
    let report = cache.run(&["report", "--history", &target, "--html", "report.html"]).expect(0);
    assert!(report.stderr.contains("1 line of the history is no sample"), "{report:?}");
    assert!(report.stdout.contains("with 2 samples"), "{report:?}");
    assert!(fs::metadata(cache.beside("report.html")).unwrap().len() < 100_000);
}
