//! Operations on the cache's folder behind the library's back: files made, aged and removed, and looked at.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use super::words::{data, escape, list, number};
use super::{Found, Operated, Scenario};

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<Operated> {
    let path = scenario.path(arguments.first()?);
    Some(match (name, arguments) {
        ("make_file", [_, content]) => data(content).map(|content| Found::system(fs::write(path, content))),
        ("make_folder", [_]) => Ok(Found::system(fs::create_dir(path))),
        ("make_fifo", [_]) => Ok(Found::system(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0))),
        ("make_symlink", [_, target]) => Ok(Found::system(symlink(OsStr::from_bytes(target), path))),
        ("remove", [_]) => Ok(Found::system(remove(&path))),
        ("move", [_, to]) => Ok(Found::system(fs::rename(path, scenario.path(to)))),
        ("use_up_inodes", [_]) => Ok(Found::system(use_up_inodes(&path))),
        ("age", [_, seconds]) => number(seconds).map(|seconds| Found::system(age(&path, seconds))),
        ("look", [_]) => Ok(look(&path)),
        ("contents", [_]) => Ok(contents(&path)),
        ("folder", [_]) => Ok(folder(&path)),
        ("attribute", [_, name]) => Ok(attribute(&path, name, None)),
        ("attribute", [_, name, text]) => Ok(attribute(&path, name, Some(text))),
        _ => return None,
    })
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

/// Makes empty files 0, 1, 2, ... until the disk refuses one more.
fn use_up_inodes(folder: &Path) -> io::Result<()> {
    for number in 0..100_000 {
        match fs::File::create_new(folder.join(number.to_string())) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("there is an inode for each of 100,000 files"))
}

/// Sets both times to so many seconds ago, of a symbolic link its own.
fn age(path: &Path, seconds: u64) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let whole =
        i64::try_from(now.as_secs()).map_err(io::Error::other)? - i64::try_from(seconds).map_err(io::Error::other)?;
    let then = Timespec { tv_sec: whole, tv_nsec: now.subsec_nanos().into() };
    let times = Timestamps { last_access: then, last_modification: then };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What stands for a failure of a look: `absent` for a name that is not there.
fn unseen(error: &io::Error) -> Found {
    let result = if error.kind() == io::ErrorKind::NotFound { "absent" } else { "FAILED" };
    Found { result: result.to_owned(), detail: error.to_string() }
}

fn look(path: &Path) -> Found {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return unseen(&error),
    };
    let kind = metadata.file_type();
    Found::just(match () {
        () if kind.is_file() => format!("file {} bytes", metadata.len()),
        () if kind.is_dir() => "folder".to_owned(),
        () if kind.is_symlink() => "symlink".to_owned(),
        () if kind.is_fifo() => "fifo".to_owned(),
        () => "other".to_owned(),
    })
}

fn contents(path: &Path) -> Found {
    match fs::read(path) {
        Ok(content) => Found::ok("").and_bytes(&content),
        Err(error) => unseen(&error),
    }
}

fn folder(path: &Path) -> Found {
    let names = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
    match names {
        Ok(mut names) => {
            names.sort_unstable();
            Found::just(list(names.iter().map(|name| escape(name.as_bytes()))))
        }
        Err(error) => unseen(&error),
    }
}

/// Whether a file has an extended attribute or, with a text, whether that is part of its value.
fn attribute(path: &Path, name: &[u8], text: Option<&[u8]>) -> Found {
    match (xattr::get(path, OsStr::from_bytes(name)), text) {
        (Err(error), _) => Found { result: "FAILED".to_owned(), detail: error.to_string() },
        (Ok(None), _) => Found::just("absent"),
        (Ok(Some(_)), None) => Found::just("present"),
        (Ok(Some(value)), Some(text)) => {
            let contains = text.is_empty() || value.windows(text.len()).any(|part| part == text);
            let detail = String::from_utf8_lossy(&value).into_owned();
            Found { result: if contains { "contains" } else { "lacks" }.to_owned(), detail }
        }
    }
}
