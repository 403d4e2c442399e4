//! Operations on files and directories that bypass the library.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use super::words::{data, escape, list, number};
use super::{OperationResult, Output, Scenario};

pub fn operate(scenario: &mut Scenario, name: &str, arguments: &[&[u8]]) -> Option<OperationResult> {
    let path = scenario.path(arguments.first()?);
    Some(match (name, arguments) {
        ("make_file", [_, content]) => data(content).map(|content| Output::system(fs::write(path, content))),
        ("make_dead", [_, content]) => data(content).map(|content| Output::system(make_dead(&path, &content))),
        ("make_directory", [_]) => Ok(Output::system(fs::create_dir(path))),
        ("make_fifo", [_]) => Ok(Output::system(mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0))),
        ("make_symlink", [_, target]) => Ok(Output::system(symlink(OsStr::from_bytes(target), path))),
        ("remove", [_]) => Ok(Output::system(remove(&path))),
        ("move", [_, to]) => Ok(Output::system(fs::rename(path, scenario.path(to)))),
        ("use_up_inodes", [_]) => Ok(Output::system(use_up_inodes(&path))),
        ("age", [_, seconds]) => number(seconds).map(|seconds| Output::system(age(&path, seconds))),
        ("look", [_]) => Ok(look(&path)),
        ("contents", [_]) => Ok(contents(&path)),
        ("list_directory", [_]) => Ok(list_directory(&path)),
        ("attribute", [_, name]) => Ok(attribute(&path, name, None)),
        ("attribute", [_, name, text]) => Ok(attribute(&path, name, Some(text))),
        _ => return None,
    })
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

/// Creates the incomplete file of a dead writer, which has the sticky bit.
fn make_dead(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o1644))
}

/// Creates empty files 0, 1, 2, ... until the disk has no free inode.
fn use_up_inodes(directory: &Path) -> io::Result<()> {
    for number in 0..100_000 {
        match fs::File::create_new(directory.join(number.to_string())) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the disk has more than 100,000 free inodes"))
}

/// Sets access and modification time to `seconds` ago. It does not follow a symbolic link.
fn age(path: &Path, seconds: u64) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let whole =
        i64::try_from(now.as_secs()).map_err(io::Error::other)? - i64::try_from(seconds).map_err(io::Error::other)?;
    let then = Timespec { tv_sec: whole, tv_nsec: now.subsec_nanos().into() };
    let times = Timestamps { last_access: then, last_modification: then };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The output after a failed system call: `absent` if the file does not exist.
fn missing_or_failed(error: &io::Error) -> Output {
    let result = if error.kind() == io::ErrorKind::NotFound { "absent" } else { "FAILED" };
    Output { result: result.to_owned(), detail: error.to_string() }
}

fn look(path: &Path) -> Output {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return missing_or_failed(&error),
    };
    let kind = metadata.file_type();
    Output::just(match () {
        () if kind.is_file() => format!("file {} bytes", metadata.len()),
        () if kind.is_dir() => "directory".to_owned(),
        () if kind.is_symlink() => "symlink".to_owned(),
        () if kind.is_fifo() => "fifo".to_owned(),
        () => "other".to_owned(),
    })
}

fn contents(path: &Path) -> Output {
    match fs::read(path) {
        Ok(content) => Output::ok("").with_bytes(&content),
        Err(error) => missing_or_failed(&error),
    }
}

fn list_directory(path: &Path) -> Output {
    let names = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
    match names {
        Ok(mut names) => {
            names.sort_unstable();
            Output::just(list(names.iter().map(|name| escape(name.as_bytes()))))
        }
        Err(error) => missing_or_failed(&error),
    }
}

/// Tests whether a file has an extended attribute and, with a text, whether its value contains it.
fn attribute(path: &Path, name: &[u8], text: Option<&[u8]>) -> Output {
    match (xattr::get(path, OsStr::from_bytes(name)), text) {
        (Err(error), _) => Output { result: "FAILED".to_owned(), detail: error.to_string() },
        (Ok(None), _) => Output::just("absent"),
        (Ok(Some(_)), None) => Output::just("present"),
        (Ok(Some(value)), Some(text)) => {
            let contains = text.is_empty() || value.windows(text.len()).any(|part| part == text);
            let detail = String::from_utf8_lossy(&value).into_owned();
            Output { result: if contains { "contains" } else { "lacks" }.to_owned(), detail }
        }
    }
}
