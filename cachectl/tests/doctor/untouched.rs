//! An examination changes nothing: no name, mode, owner, time or attribute.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use image_cache::DriverChoice;
use libtest_mimic::Completion;

use crate::Test;
use crate::cache::Cache;

pub const TESTS: &[(&str, bool, Test)] =
    &[("an_examination_changes_nothing", false, untouched), ("the_text_fits_80_columns", false, width)];

/// All paths below a directory, and itself.
fn paths(directory: &Path, found: &mut Vec<PathBuf>) {
    found.push(directory.to_owned());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() { paths(&path, found) } else { found.push(path) }
    }
}

/// What can be seen of each path without reading it.
fn state(paths: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let of = |path: &PathBuf| {
        let stat = fs::symlink_metadata(path).unwrap();
        let mut attributes = vec![0_u8; 4096];
        let length = rustix::fs::llistxattr(path, &mut attributes).unwrap_or(0);
        let identity = (stat.ino(), stat.mode(), stat.uid(), stat.gid(), stat.nlink(), stat.size(), stat.blocks());
        let times = [stat.atime(), stat.atime_nsec(), stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
        (path.clone(), format!("{identity:?} {times:?} {:?}", String::from_utf8_lossy(&attributes[..length])))
    };
    paths.iter().map(of).collect()
}

fn untouched(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    // Much to find: each check does its work.
    cache.write("incomplete/foreign", "of another program");
    cache.write("orphan", "without an entry");
    cache.write("old.db", "SQLite format 3\0");
    cache.chmod(".image_cache/lock", 0o644);
    fs::OpenOptions::new().append(true).open(cache.file("one")).unwrap().write_all(b"more").unwrap();
    let handle = cache.open();
    let mut writer = handle.begin_write("failed").unwrap();
    writer.write_chunk(b"bytes").unwrap();
    writer.abort("no more");
    drop(handle);
    let mut before_paths = Vec::new();
    paths(&cache.path, &mut before_paths);
    before_paths.sort();
    // Times of access before those of modification: each reading would show, also on relatime.
    for path in &before_paths {
        let times = fs::FileTimes::new().set_accessed(SystemTime::now() - Duration::from_secs(48 * 60 * 60));
        fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    let before = state(&before_paths);
    let examined = cache.doctor(&[]);
    let after = state(&before_paths);
    assert!(examined.numbers().contains(&"IC047"), "{:#}", examined.json);
    for (path, state) in &before {
        assert_eq!(after.get(path), Some(state), "{}", path.display());
    }
    let mut after_paths = Vec::new();
    paths(&cache.path, &mut after_paths);
    after_paths.sort();
    assert_eq!(before_paths, after_paths);
    Completion::Completed
}

fn width(driver: DriverChoice) -> Completion {
    let cache = Cache::new(driver);
    for number in 0..30 {
        cache.write(&format!(".hidden{number}"), "");
    }
    cache.chmod(".", 0o777);
    let mut command = crate::cache::doctor(&cache.path, &[]);
    let arguments: Vec<_> =
        command.get_args().filter(|argument| *argument != "--json").map(ToOwned::to_owned).collect();
    command = std::process::Command::new(env!("CARGO_BIN_EXE_image-cachectl"));
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("and 25 more") && text.contains("warning IC014: Every user may change the cache"), "{text}");
    let long = text.lines().filter(|line| line.chars().count() > 80 && !line.starts_with("    "));
    assert_eq!(long.collect::<Vec<_>>(), Vec::<&str>::new());
    Completion::Completed
}

/// Each number of the page is in a test.
pub fn every_number() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../docs/doctor.md")).unwrap();
    let mut sources = Vec::new();
    paths(&root.join("tests/doctor"), &mut sources);
    let text: String =
        sources.iter().filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect();
    let numbers = page.lines().filter_map(|line| line.strip_prefix("### ")?.split_once(':')).map(|(number, _)| number);
    let missing: Vec<_> = numbers.filter(|number| !text.contains(&format!("\"{number}\""))).collect();
    assert!(missing.is_empty(), "no test provokes {missing:?}");
}
